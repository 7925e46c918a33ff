"""Run the rungs of a ladder in order; what did not change is not run again, what fails is a row."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import workflow
from ..audit import settle_decisions
from ..audit.decisions import ACTIONS, parse_decisions
from ..cohort.folder import Folder
from ..errors import RunError, SmaltiError
from ..faults import explain_fault
from ..logbook.seal import find_seal, list_seals
from ..project import RUNS
from ..recipe import Recipe
from ..records import LIBRARIES, record_environment
from ..store import hash_code, hash_text, now_text, read_json, write_atomic, write_json
from ..store.leftovers import remove_leftovers
from ..workflow import SILENT, Ground, Listener
from ..workflow.portfolio.work import Work, measure_work
from ..workflow.prepare.preparation import identify
from .budget import Budget
from .definition import Ladder, Step, load_ladder, resolve_ladder
from .meter import measure_cost
from .progress import measure_progress
from .table import tabulate_ladder

SHOWN = 5  # names listed
MOST_KILLED = 2  # a rung during which the process was killed so often, and came no further, is not tried again


@dataclass(frozen=True, slots=True)
class State:
    """How a rung stands; a file of its own in the ladder folder.

    Attributes:
        key: hash of everything that the rung depends on.
        status: ``running``, ``done``, ``failed`` or ``skipped``.
        killed: how often the process died during this rung since it last came further.
        progress: how far its run was when it was begun the last time (see `measure_progress`).
        reused: whether this call found it done.
    """

    key: str
    status: str
    run: str | None = None
    error: str | None = None
    seconds: float | None = None
    peak_memory_gb: float | None = None
    killed: int = 0
    progress: str = ""
    reused: bool = field(default=False, compare=False)


@dataclass
class Climb:
    """One call: where things are and what the rungs share."""

    data: Path
    runs: Path
    folder: Path
    listener: Listener
    skip_problems: bool = False
    retry: bool = False
    budget: Budget = field(default_factory=Budget)
    base: str = ""
    decisions: str = ""
    grounds: dict[str, Ground] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    def make_seal(self, step: Step) -> None:
        """Seal what the recipe wants sealed before anything is hashed or run."""
        if step.recipe.split.sealed_frac > 0 and not find_seal(self.data, runs=self.runs).is_file():
            self._inspect(step)

    def check_decisions(self) -> None:
        """Refuse to go on where decisions are others than when the ladder began.

        Raises:
            RunError: which images they are about.
        """
        if (now := _read_decisions(self.data, self.runs)) == self.decisions:
            return
        rows = (parse_decisions(text.encode(), name="decisions.csv") if text else () for text in (self.decisions, now))
        old, new = ({image: (d.action, d.label) for image, d in settle_decisions(r).items()} for r in rows)
        images = sorted(image for image in old.keys() | new.keys() if old.get(image) != new.get(image))
        if not images:  # another command only noted what images the rows are about
            return
        what = f"about {len(images)} image(s): {', '.join(images[:SHOWN])}"
        raise RunError(
            f"decisions changed while the ladder ran ({what}): rungs before and after would stand on other labels and "
            "images. What is done is kept. Fix: the same command begins anew with the decisions of now; where you take "
            f"these rows back, what is done counts again ({workflow.find_decisions(self.data, runs=self.runs)})"
        )

    def visit(self, step: Step) -> State:
        """Bring one rung up to date."""
        known = self._read(step)
        key = hash_text(self.base, *self._list_inputs(step))
        if known is not None and known.key == key:
            if known.status == "done" and (self.runs / str(known.run) / "scores.json").is_file():
                self._learn(step, known)
                return replace(known, reused=True)
            known = self._count_kills(step, known)
            if known.killed >= MOST_KILLED:
                return self._write(step, replace(known, status="failed"))
        killed = known.killed if known is not None and known.key == key else 0
        if (reason := self._refuse(step)) is not None:
            self.listener.say(f"{step.name} skipped: {reason.split('. Fix')[0]}")
            return self._write(step, State(key, "skipped", error=reason, killed=killed))
        try:
            self._write(step, State(key, "running", killed=killed))
            state = self._write(step, self._run(step, State(key, "failed", killed=killed)))
            self._learn(step, state)
            return state
        except (KeyboardInterrupt, OSError):
            # Stopped on purpose, or a full disk: that says nothing about the rung.
            with suppress(OSError):
                self._write(step, State(key, "waiting", killed=killed))
            raise

    def _count_kills(self, step: Step, known: State) -> State:
        """What is known of a rung, with the kill that a state ``running`` means where the rung came no further."""
        if self.retry:
            return replace(known, killed=0)
        if known.status != "running":
            return known
        further = known.run is not None and measure_progress(self.runs / known.run) != known.progress
        killed = 0 if further else known.killed + 1
        error = (
            f"the process was killed {killed} times during this rung at the same place (out of memory?). Fix: make it "
            f"smaller, or try it again with --retry (or delete {self._path(step)})"
        )
        return replace(known, killed=killed, error=error)

    def _refuse(self, step: Step) -> str | None:
        """Why a rung does not fit into the budget; a fault of the data is told by the rung itself."""
        if self.budget.minutes is None:
            return None
        try:
            return self.budget.refuse(self._measure(step))
        except SmaltiError:
            return None

    def _measure(self, step: Step) -> Work:
        return Work("", 0.0, 0.0) if step.members else measure_work(step.recipe, self._inspect(step).cohort)

    def _learn(self, step: Step, state: State) -> None:
        if self.budget.minutes is not None and state.status == "done" and state.seconds is not None:
            self.budget.learn(self._measure(step), state.seconds)

    def _run(self, step: Step, state: State) -> State:
        with measure_cost() as cost:
            try:
                run = self._carry_out(step, state)
                outcome = replace(state, status="done", run=run, killed=0)
            except SmaltiError as error:
                outcome = replace(state, error=str(error))
            except Exception as error:  # a rung may fail in any library; the ladder goes on and says so
                fault = explain_fault(error)
                if fault is not None and fault.kind == "disk":
                    raise  # no other rung would fare better
                trace = traceback.format_exc()
                write_atomic(self.folder / "failures" / f"{step.name}.txt", trace)
                what = f"{type(error).__name__}: {error}" if fault is None else str(fault)
                outcome = replace(state, error=f"{what} (failures/{step.name}.txt)")
        if outcome.error:
            self.listener.say(f"{step.name} failed: {outcome.error.splitlines()[0]}; the ladder goes on")
        return replace(outcome, seconds=cost.seconds, peak_memory_gb=cost.peak_memory_gb)

    def _carry_out(self, step: Step, state: State) -> str:
        recipe, ground = self._settle(step)
        # Other data or decisions are another run, not an error about the folder of the old one.
        identity = identify(ground, cache=self.runs / "cache")
        name = f"{self.data.resolve().name}-{step.name}-{hash_text(*self._list_inputs(step), *identity.values())[:6]}"
        progress = measure_progress(self.runs / name)
        self._write(step, replace(state, status="running", run=name, progress=progress))
        listener = replace(self.listener, say=lambda text: self._say(step, text))
        workflow.run_on(ground, recipe, runs=self.runs, name=name, listener=listener)
        return name

    def _settle(self, step: Step) -> tuple[Recipe, Ground]:
        """What a rung runs, and on what: with the decisions that it follows."""
        recipe, ground = self._name_members(step), self._inspect(step)
        if step.actions == ACTIONS:
            return recipe, ground
        # What was accepted is among the decisions; the run must not accept more when it is opened again.
        recipe = recipe.model_copy(update={"audit": recipe.audit.model_copy(update={"accept": ()})})
        return recipe, workflow.restrict_decisions(ground, step.actions)

    def _list_inputs(self, step: Step) -> tuple[str, ...]:
        """What a rung depends on besides the data."""
        weights = step.recipe.model.weights
        stamp = _stamp_file(weights) if weights is not None and weights.is_file() else ""
        return (step.recipe.to_yaml(), str(step.actions), stamp, *(self.states[m].key for m in step.members))

    def _say(self, step: Step, text: str) -> None:
        """Pass on what a rung says, once."""
        if text not in self.said:
            self.said.add(text)
            self.listener.say(f"{step.name}: {text}")

    def _name_members(self, step: Step) -> Recipe:
        if not step.members:
            return step.recipe
        failed = [m for m in step.members if self.states[m].run is None]
        if failed:
            raise RunError(f"its members {', '.join(failed)} failed. Fix: see their errors")
        members = tuple(str(self.states[m].run) for m in step.members)
        ensemble = step.recipe.ensemble.model_copy(update={"members": members})
        return step.recipe.model_copy(update={"ensemble": ensemble})

    def _inspect(self, step: Step) -> Ground:
        """Read and audit once for all rungs that ask the same of the data; with all decisions."""
        asked = step.recipe.model_dump_json(include={"data", "audit"}) + str(step.recipe.split.sealed_frac)
        if asked not in self.grounds:
            text = self.decisions
            # A copy of its own: what one rung accepts must not act on the others, nor on runs outside the ladder.
            copy = self.folder / "decisions" / f"{hash_text(self.base, asked, text)[:8]}.csv"
            if text and not copy.is_file():
                write_atomic(copy, text)
            self.grounds[asked] = workflow.inspect_ground(
                self.data, recipe=step.recipe, decisions_path=copy, seal_path=find_seal(self.data, runs=self.runs),
                cache=self.runs / "cache", problems="skip" if self.skip_problems else "refuse", listener=self.listener,
            )  # fmt: skip
        return self.grounds[asked]

    def _path(self, step: Step) -> Path:
        return self.folder / "rungs" / f"{step.name}.json"

    def _read(self, step: Step) -> State | None:
        path = self._path(step)
        try:
            return State(**read_json(path)) if path.is_file() else None
        except (RunError, TypeError):  # what it says can be found out again; the run folder keeps what was done
            self.listener.say(f"{path} is damaged: {step.name} is looked at anew")
            return None

    def _write(self, step: Step, state: State) -> State:
        content = asdict(state)
        content.pop("reused")
        write_json(self._path(step), content)
        return state


def climb_ladder(
    data: str | Path,
    ladder: str | Path = "challenge",
    *,
    settings: Iterable[str] = (),
    runs: str | Path = RUNS,
    until: str | None = None,
    budget_min: float | None = None,
    skip_problems: bool = False,
    retry: bool = False,
    listener: Listener = SILENT,
) -> tuple[Path, dict[str, Any]]:
    """Carry out a ladder on a data folder and compare each rung with the one that it changes.

    Args:
        data: the data folder.
        ladder: name of a built-in ladder, or a ladder file.
        settings: ``section.knob=value`` for all rungs, below their own.
        runs: folder of all runs; the ladder's own folder is ``RUNS/<data>-ladder-<name>``.
        until: last rung to carry out.
        budget_min: minutes for this call. In their order, rungs that would take more than what is left are skipped;
            another call goes on with them.
        skip_problems: leave out images with problems.
        retry: try rungs again that were given up because the process was killed during them. Other rungs that failed
            are tried again by every call.

    Returns:
        The ladder folder and the content of its ``ladder.json``.

    Raises:
        RecipeError: the ladder does not fit together; before anything is run.
        RunError: there is no such folder, or its decisions changed meanwhile.
    """
    data, runs = Path(data), Path(runs)
    plan = load_ladder(ladder)
    steps = resolve_ladder(plan, settings=settings, until=until, listener=listener)
    name = Path(ladder).stem
    folder = runs / f"{data.resolve().name}-ladder-{name}"
    if not data.is_dir():
        raise RunError(f"no data folder at {data}. Fix: check the path, or 'smalti demo' to draw one")
    remove_leftovers(folder, deep=True)
    write_atomic(folder / "ladder.yaml", _resolve_text(name, plan.about, steps))
    climb = Climb(data, runs, folder, listener, skip_problems, retry, Budget(budget_min))
    climb.make_seal(steps[0])
    climb.decisions = _read_decisions(data, runs)
    climb.base = _hash_base(data, runs, decisions=climb.decisions)
    started = now_text()

    def tabulate(*, finished: str | None) -> dict[str, Any]:
        tables = tabulate_ladder(
            steps, climb.states, runs=runs, data=data, margin=plan.margin, compare=finished is not None
        )
        content = {"ladder": name, "about": plan.about, "started": started, "finished": finished, **tables}
        write_json(folder / "ladder.json", content)
        return content

    for number, step in enumerate(steps):
        listener.tell("rungs", number, len(steps))
        climb.check_decisions()
        climb.states[step.name] = climb.visit(step)
        climb.check_decisions()
        if not climb.states[step.name].reused:
            # What is known so far can be read while the next rung runs.
            tabulate(finished=None)
    if (known := _read_finished(folder, plan, steps)) is not None:
        return folder, known
    from ..report import write_article, write_ladder_report  # drawing is dear to import, and often not needed

    result = tabulate(finished=now_text())
    write_ladder_report(folder)
    write_article(folder)
    return folder, result


def _read_finished(folder: Path, plan: Ladder, steps: tuple[Step, ...]) -> dict[str, Any] | None:
    """What an earlier call has written, where it was finished, is of the same rungs, and its report is there."""
    if not (folder / "ladder.json").is_file() or not (folder / "report.html").is_file():
        return None
    try:
        known: dict[str, Any] = read_json(folder / "ladder.json")
        rungs = [(row["name"], row["change"], row["on"]) for row in known["rungs"]]
        same = rungs == [(step.name, step.change, step.on) for step in steps] and known["about"] == plan.about
        same = same and known["margin"] == plan.margin
        return known if same and known["finished"] is not None else None
    except (RunError, KeyError, TypeError):  # damaged; it is written anew
        return None


def _resolve_text(name: str, about: str, steps: tuple[Step, ...]) -> str:
    """Every rung with its whole recipe, for the record."""
    parts = [f"# ladder {name}: {about}\n"]
    for step in steps:
        members = f"members: [{', '.join(step.members)}]\n" if step.members else ""
        parts.append(f"--- # {step.name}: {step.change}\ndecisions: [{', '.join(step.actions)}]\n{members}")
        parts.append(step.recipe.to_yaml())
    return "".join(parts)


def _stamp_file(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size}|{stat.st_mtime_ns}"


def _read_decisions(data: Path, runs: Path) -> str:
    path = workflow.find_decisions(data, runs=runs)
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _hash_base(data: Path, runs: Path, *, decisions: str) -> str:
    """What every rung depends on: files of the data folder by name, size and time, decisions, seal, code, libraries."""
    files = {name: path for name, path in Folder.walk(data).files.items() if path.is_file()}
    # Whoever works inside the data folder has the runs there too.
    inside = runs.resolve()
    stamps = [f"{name}|{_stamp_file(path)}" for name, path in files.items() if inside not in path.resolve().parents]
    sealed = [repr((seal.images, seal.files)) for seal in list_seals(runs).values()]
    libraries = record_environment()["libraries"]
    versions = [str(libraries[name]) for name in LIBRARIES]
    code = hash_code("smalti.audit", "smalti.cohort", "smalti.evaluate", "smalti.predict")
    return hash_text(*stamps, decisions, *sealed, *versions, code)
