"""Run the rungs of a ladder in order; finished rungs are not run again, and a failed rung is a row."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from .. import workflow
from ..audit import settle_decisions
from ..audit.decisions import ACTIONS, parse_decisions
from ..cohort.folder import Folder
from ..engine import parse_place
from ..errors import NotApplicableError, RunError, SmaltiError
from ..faults import explain_fault
from ..logbook.seal import find_seal, list_seals
from ..project import HERE, RUNS, SILENT, Listener, Project
from ..records import LIBRARIES, look_at_machine
from ..records.layout import DECISIONS, FAILURES, LADDER_DECISIONS, LADDER_RECIPE, REPORT, SCORES
from ..records.studies.ladder import LadderResult, RungState
from ..store import hash_code, hash_text, now_text, write_atomic
from ..store.leftovers import remove_leftovers
from ..workflow import Ground, find_decisions
from ..workflow.portfolio.work import Work, measure_work
from ..workflow.prepare.identity import identify
from .budget import Budget
from .definition import Step, load_ladder, resolve_ladder
from .meter import measure_cost
from .progress import measure_progress
from .tabulating import tabulate_ladder

SHOWN = 5  # names listed
MOST_KILLED = 2  # a rung whose process was killed this often at the same place is not tried again


@dataclass
class LadderRunner:
    """Runs the rungs of a ladder in one call.

    Attributes:
        project: with no decisions named, so that those beside the runs are followed.
        folder: of the ladder.
        base: hash of what all rungs depend on.
        decisions: text of the decisions when the call began.
        grounds: what was read and audited, by what the recipe asks of the data.
        states: rung -> its state.
        said: what rungs have said.
    """

    project: Project
    folder: Path
    skip_problems: bool = False
    retry: bool = False
    budget: Budget = field(default_factory=Budget)
    base: str = ""
    decisions: str = ""
    grounds: dict[str, Ground] = field(default_factory=dict)
    states: dict[str, RungState] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    def make_seal(self, step: Step) -> None:
        """Seal what the recipe asks for, before anything is hashed or run."""
        if step.recipe.split.sealed_frac > 0 and not find_seal(self.project).is_file():
            self._inspect(step)

    def check_decisions(self) -> None:
        """Check that decisions are the same as when the ladder began.

        Raises:
            RunError: they changed; it names the images.
        """
        if (now := _read_decisions(self.project)) == self.decisions:
            return
        rows = (parse_decisions(text.encode(), name=DECISIONS) if text else () for text in (self.decisions, now))
        old, new = ({image: (d.action, d.label) for image, d in settle_decisions(r).items()} for r in rows)
        images = sorted(image for image in old.keys() | new.keys() if old.get(image) != new.get(image))
        if not images:  # another command only noted what images the rows are about
            return
        what = f"about {len(images)} image(s): {', '.join(images[:SHOWN])}"
        raise RunError(
            f"decisions changed while the ladder ran ({what}): rungs before and after would stand on other labels and "
            "images. What is done is kept",
            fix=(
                "the same command begins anew with the decisions of now; where you take "
                f"these rows back, what is done counts again ({find_decisions(self.project)})"
            ),
        )

    def visit(self, step: Step) -> RungState:
        """Bring one rung up to date."""
        key = hash_text(self.base, *self._list_inputs(step))
        known, path = RungState(key=key, status="waiting"), RungState.locate_rung(self.folder, step.name)
        if path.is_file():
            try:
                written = RungState.read_file(path)
                known = written if written.key == key else known
            except RunError:  # the run folder keeps what was done, so the state can be found out again
                self.project.listener.say(f"{path} is damaged: {step.name} is looked at anew")
        if known.status == "done" and (self.project.runs / str(known.run) / SCORES).is_file():
            self._learn(step, known)
            return known.model_copy(update={"reused": True})
        known = self._count_kills(step, known)
        if known.killed >= MOST_KILLED:
            return self._write(step, known.model_copy(update={"status": "failed"}))
        begun = RungState(key=key, status="failed", killed=known.killed)
        reason = None
        if self.budget.minutes is not None:
            with suppress(SmaltiError):  # the rung itself reports problems of the data
                reason = self.budget.refuse(self._measure(step))
        if reason is not None:
            self.project.listener.say(f"{step.name} skipped: {reason.split('. Fix')[0]}")
            return self._write(step, begun.model_copy(update={"status": "skipped", "error": reason}))
        try:
            self._write(step, begun.model_copy(update={"status": "running"}))
            state = self._write(step, self._run(step, begun))
            self._learn(step, state)
            return state
        except (KeyboardInterrupt, OSError):
            # Stopped on purpose, or a full disk: that says nothing about the rung.
            with suppress(OSError):
                self._write(step, begun.model_copy(update={"status": "waiting"}))
            raise

    def _count_kills(self, step: Step, known: RungState) -> RungState:
        """Return the state with one more kill where the process died during this rung and made no progress."""
        if self.retry:
            return known.model_copy(update={"killed": 0})
        if known.status != "running":
            return known
        further = known.run is not None and measure_progress(self.project.runs / known.run) != known.progress
        killed = 0 if further else known.killed + 1
        path = RungState.locate_rung(self.folder, step.name)
        error = (
            f"the process was killed {killed} times during this rung at the same place (out of memory?). Fix: make it "
            f"smaller, or try it again with --retry (or delete {path})"
        )
        return known.model_copy(update={"killed": killed, "error": error})

    def _measure(self, step: Step) -> Work:
        return Work("", 0.0, 0.0) if step.members else measure_work(step.recipe, self._inspect(step).cohort)

    def _learn(self, step: Step, state: RungState) -> None:
        if self.budget.minutes is not None and state.status == "done" and state.seconds is not None:
            self.budget.learn(self._measure(step), state.seconds)

    def _run(self, step: Step, state: RungState) -> RungState:
        with measure_cost() as cost:
            try:
                found: dict[str, object] = {"status": "done", "run": self._carry_out(step, state), "killed": 0}
            except NotApplicableError as error:  # of this kind of data; nothing went wrong
                found = {"status": "not applicable", "error": error.message}
            except SmaltiError as error:
                found = {"error": str(error)}
            except Exception as error:  # a rung may fail in any library; the ladder goes on and says so
                fault = explain_fault(error)
                if fault is not None and fault.kind == "disk":
                    raise  # no other rung would fare better
                trace = write_atomic(self.folder / FAILURES / f"{step.name}.txt", traceback.format_exc())
                what = f"{type(error).__name__}: {error}" if fault is None else str(fault)
                found = {"error": f"{what} ({FAILURES}/{trace.name})"}
        peak = cost.peak_memory_gb if self.project.on == HERE else None  # of this process alone
        ended = state.model_copy(update=found | {"seconds": cost.seconds, "peak_memory_gb": peak})
        if ended.status == "not applicable":
            self.project.listener.say(f"{step.name}: {ended.error}")
        elif ended.error:
            self.project.listener.say(f"{step.name} failed: {ended.error.splitlines()[0]}; the ladder goes on")
        return ended

    def _carry_out(self, step: Step, state: RungState) -> str:
        """Run a rung with the decisions that it follows; return the name of its run."""
        recipe = step.recipe
        if failed := [member for member in step.members if self.states[member].run is None]:
            if lost := [member for member in failed if self.states[member].status == "not applicable"]:
                raise NotApplicableError(f"not applicable: it combines {', '.join(lost)}")
            raise RunError(f"its members {', '.join(failed)} failed", fix="see their errors")
        if step.members:
            members = tuple(str(self.states[member].run) for member in step.members)
            ensemble = recipe.ensemble.model_copy(update={"members": members})
            recipe = recipe.model_copy(update={"ensemble": ensemble})
        ground = self._inspect(step)
        if step.actions != ACTIONS:
            # What was accepted is among the decisions; the run must not accept more when it is opened again.
            recipe = recipe.model_copy(update={"audit": recipe.audit.model_copy(update={"accept": ()})})
            ground = workflow.restrict_decisions(ground, step.actions)
        # Other data or decisions are another run, not an error about the folder of the old one.
        identity = identify(self.project, ground)
        name = f"{self.project.name}-{step.name}-{hash_text(*self._list_inputs(step), *identity.values())[:6]}"
        progress = measure_progress(self.project.runs / name)
        self._write(step, state.model_copy(update={"status": "running", "run": name, "progress": progress}))

        def say(text: str) -> None:
            if text not in self.said:  # rungs repeat each other
                self.said.add(text)
                self.project.listener.say(f"{step.name}: {text}")

        heard = replace(self.project, listener=replace(self.project.listener, say=say))
        workflow.run_on(heard, ground, recipe, name=name, model=False)
        return name

    def _list_inputs(self, step: Step) -> tuple[str, ...]:
        """Return what a rung depends on besides the data."""
        weights = step.recipe.model.weights
        stamp = _stamp_file(weights) if weights is not None and weights.is_file() else ""
        return (step.recipe.to_yaml(), str(step.actions), stamp, *(self.states[m].key for m in step.members))

    def _inspect(self, step: Step) -> Ground:
        """Read and audit the data, once for all rungs that ask the same of it; with all decisions."""
        asked = step.recipe.model_dump_json(include={"data", "audit"}) + str(step.recipe.split.sealed_frac)
        if asked not in self.grounds:
            text = self.decisions
            # A copy: what one rung accepts must act neither on the others nor on runs outside the ladder.
            copy = self.folder / LADDER_DECISIONS / f"{hash_text(self.base, asked, text)[:8]}.csv"
            if text and not copy.is_file():
                write_atomic(copy, text)
            self.grounds[asked] = workflow.inspect_ground(
                replace(self.project, decisions=copy), step.recipe, problems="skip" if self.skip_problems else "refuse"
            )
        return self.grounds[asked]

    def _write(self, step: Step, state: RungState) -> RungState:
        state.write_file(RungState.locate_rung(self.folder, step.name))
        return state


def run_ladder(
    data: str | Path,
    ladder: str | Path = "challenge",
    *,
    settings: Iterable[str] = (),
    runs: str | Path = RUNS,
    until: str | None = None,
    budget_min: float | None = None,
    skip_problems: bool = False,
    retry: bool = False,
    on: str = HERE,
    listener: Listener = SILENT,
) -> tuple[Path, LadderResult]:
    """Run a ladder on a data folder and compare each rung with the one that it changes.

    Args:
        data: the data folder.
        ladder: name of a built-in ladder, or a ladder file.
        settings: ``section.knob=value`` for all rungs, below their own.
        runs: folder of all runs; the ladder's own folder is ``RUNS/<data>-ladder-<name>``.
        until: last rung to run.
        budget_min: minutes for this call. Rungs that would take longer than the time left are skipped; another call
            continues with them.
        skip_problems: skip images with problems.
        retry: try rungs again that were given up because the process was killed during them. Other failed rungs are
            tried again by every call.
        on: where the folds of a rung are trained and score; the results are the same.

    Returns:
        The ladder folder and its result.

    Raises:
        RecipeError: the ladder does not fit together; before anything is run.
        RunError: there is no such folder, or its decisions changed meanwhile.
    """
    parse_place(on)
    project = Project(Path(data), Path(runs), listener=listener, on=on)
    definition = load_ladder(ladder)
    steps = resolve_ladder(definition, settings=settings, until=until, listener=listener)
    name = Path(ladder).stem
    folder = project.runs / f"{project.name}-ladder-{name}"
    project.check_data()
    remove_leftovers(folder, deep=True)
    write_atomic(folder / LADDER_RECIPE, _resolve_text(name, definition.about, steps))
    runner = LadderRunner(project, folder, skip_problems, retry, Budget(budget_min))
    runner.make_seal(steps[0])
    runner.decisions = _read_decisions(project)
    runner.base = _hash_base(project, decisions=runner.decisions)
    started = now_text()

    def tabulate(*, finished: str | None) -> LadderResult:
        result = tabulate_ladder(
            replace(project, listener=SILENT), steps, runner.states, name=name, about=definition.about,
            started=started, finished=finished, margin=definition.margin,
        )  # fmt: skip
        result.write(folder)
        return result

    for number, step in enumerate(steps):
        listener.tell("rungs", number, len(steps))
        runner.check_decisions()
        runner.states[step.name] = runner.visit(step)
        runner.check_decisions()
        if not runner.states[step.name].reused:
            tabulate(finished=None)  # so that it can be read while the next rung runs
    with suppress(RunError):  # missing or damaged: it is written anew
        known = LadderResult.read(folder)
        rungs = [(rung.name, rung.change, rung.on) for rung in known.rungs]
        same = rungs == [(step.name, step.change, step.on) for step in steps]
        same = same and (known.about, known.margin) == (definition.about, definition.margin)
        if same and known.finished is not None and (folder / REPORT).is_file():
            return folder, known
    from ..report import write_article, write_ladder_report  # matplotlib is slow to import, and often not needed

    result = tabulate(finished=now_text())
    write_ladder_report(folder)
    write_article(folder)
    return folder, result


def _resolve_text(name: str, about: str, steps: tuple[Step, ...]) -> str:
    """Return every rung with its whole recipe, for the record."""
    parts = [f"# ladder {name}: {about}\n"]
    for step in steps:
        members = f"members: [{', '.join(step.members)}]\n" if step.members else ""
        parts.append(f"--- # {step.name}: {step.change}\ndecisions: [{', '.join(step.actions)}]\n{members}")
        parts.append(step.recipe.to_yaml())
    return "".join(parts)


def _stamp_file(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size}|{stat.st_mtime_ns}"


def _read_decisions(project: Project) -> str:
    path = find_decisions(replace(project, listener=SILENT))
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _hash_base(project: Project, *, decisions: str) -> str:
    """Hash what every rung depends on: names, sizes and times of data files, decisions, seals, code, libraries."""
    files = {name: path for name, path in Folder.walk(project.data).files.items() if path.is_file()}
    inside = project.runs.resolve()  # which may lie in the data folder
    stamps = [f"{name}|{_stamp_file(path)}" for name, path in files.items() if inside not in path.resolve().parents]
    sealed = [repr((seal.images, seal.files)) for seal in list_seals(project.runs).values()]
    libraries = look_at_machine().libraries
    versions = [libraries[name] for name in LIBRARIES]
    code = hash_code("smalti.audit", "smalti.cohort", "smalti.evaluate", "smalti.predict")
    return hash_text(*stamps, decisions, *sealed, *versions, code)
