"""How the masks of a cohort are meant: which values are mask, which way up they lie, whether they are inverted.

These are questions about all masks together, since one tool made them. Where what the files say and what lies under
the masks leave no doubt, the answer is a note; else it is a problem that names the knob.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from ... import images
from ...errors import Problem
from ...types import MaskReading
from ..reading import Columns, Draft
from .contrast import Balance, View, compare_turns, is_clear, weigh_polarity
from .values import has_ignore, is_blurred_colour, is_dim, list_values, propose_values, write_values

MOST_VIEWS = 32  # images that are looked at for a question; an even choice of them
MOST_OFF_PX = 2  # that a mask may lack for `data.mask_fit=pad`
TRIVIAL_FRAC = 0.01
FIT_FIX = (
    "export them again at the size of the images, or say how they lie: --set data.mask_fit=pad (what is missing at the "
    "right and below is no mask) or --set data.mask_fit=stretch"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """A mask and its image, as their files say.

    Attributes:
        facts: of the mask.
        size_px: of the image, turned as its file says.
        orientation: EXIF orientation of the image.
    """

    facts: images.MaskFacts
    size_px: tuple[int, int]
    orientation: int

    @property
    def turns(self) -> bool:
        """Whether image and mask are told to be turned in different ways."""
        return self.orientation != self.facts.orientation

    def find_size(self, reading: MaskReading) -> tuple[int, int]:
        """Size of the mask, turned as ``reading`` says, before it is brought to another."""
        orientation = self.facts.orientation
        swapped = (orientation > 4) != ((reading.orientation or orientation) > 4)
        return self.facts.size_px[::-1] if swapped else self.facts.size_px


@dataclass(slots=True)
class Settling:
    """What becomes of the masks: how each is read, what stands against it, what was guessed.

    Attributes:
        seen: image -> what was found of its mask and itself.
        wishes: the knobs.
        root: the data folder.
        drafts: their samples get the readings.
    """

    drafts: list[Draft]
    seen: dict[str, Seen]
    wishes: Columns
    root: Path
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    readings: dict[str, MaskReading] = field(default_factory=dict)
    masked: dict[str, Draft] = field(default_factory=dict)

    def settle(self) -> None:
        """Answer one question after the other, or ask it."""
        for draft in self.drafts:
            if draft.sample.image in self.seen:
                self.masked[draft.sample.image] = draft
                self.readings[draft.sample.image] = draft.sample.mask_reading
        if not self.masked:
            return
        self._note_files()
        self._settle_turns()
        self._settle_sizes()
        self._settle_values()
        if not any(problem.code == "mask-values" for problem in self.problems):  # else it is not known what is marked
            self._settle_polarity()
            self._find_empty()
        self.drafts = [
            replace(d, sample=replace(d.sample, mask_reading=self.readings.get(d.sample.image, d.sample.mask_reading)))
            for d in self.drafts
        ]

    def report(
        self, code: str, names: Sequence[str], message: str, *, fix: str, warning: bool = False, every: bool = False
    ) -> None:
        """Record a problem of the masks of these images; of the whole cohort where it is about ``every`` mask."""
        about = () if every and len(names) == len(self.masked) else tuple(names)
        self.problems.append(Problem(code, self.name_file(names[0]), message, fix, about, warning))

    def name_file(self, image: str) -> str:
        """The mask of an image, for messages."""
        path = self.masked[image].sample.mask_path
        assert path is not None
        return path.relative_to(self.root).as_posix()

    def _note_files(self) -> None:
        folders = Counter(f"{path.parent}/" for path in map(PurePosixPath, map(self.name_file, self.masked)))
        listed = [f"{folder.removeprefix('./') or 'the data folder'} ({n})" for folder, n in folders.most_common(4)]
        self.notes.append(f"masks: {', '.join(listed)}" + (", ..." if len(folders) > 4 else ""))
        full = [name for name in self.masked if self.seen[name].facts.marked_frac == 1]
        if full:
            self.notes.append(
                f"{_count(len(full), 'mask')} such as {self.name_file(full[0])}: all of the image is marked"
            )
        united = [name for name, reading in self.readings.items() if reading.more]
        if united:
            first = len(self.readings[united[0]].more) + 1
            self.notes.append(
                f"several masks are united for {_count(len(united), 'image')}, such as {first} for {united[0]}"
            )

    # --- which way up -------------------------------------------------------------------------------------------

    def _settle_turns(self) -> None:
        """Masks of images that EXIF turns, and which say nothing of it themselves: turned as well, or drawn so."""
        told = [name for name, seen in self.seen.items() if name in self.masked and seen.turns]
        if not told:
            return
        if self.wishes.mask_exif is not None:
            stored, turned = (told, []) if self.wishes.mask_exif == "stored" else ([], told)
            self._turn(stored, turned, why="as data.mask_exif says")
            return
        fitting = {name: (self._fits(name, stored=True), self._fits(name, stored=False)) for name in told}
        stored = [name for name, fits in fitting.items() if fits == (True, False)]
        turned = [name for name, fits in fitting.items() if fits == (False, True)]
        self._turn(stored, turned, why="as their size says")
        open_ones = [name for name, fits in fitting.items() if fits == (True, True)]
        if not open_ones:
            return
        if bool(stored) != bool(turned):
            group = (open_ones, []) if stored else ([], open_ones)
            self._turn(*group, why="as the size of others of this cohort says")
            return
        gains = [compare_turns(self._view(name), self.seen[name].orientation) for name in self._choose(open_ones)]
        for sign, group in ((1, (open_ones, [])), (-1, ([], open_ones))):
            wins, count = sum(sign * gain > 0 for gain in gains), sum(gain != 0 for gain in gains)
            if is_clear(wins, count):
                self._turn(*group, why=f"as the tissue under {wins} of {count} says")
                return
        self.report(
            "mask-exif", open_ones,
            f"and {_count(len(open_ones) - 1, 'other mask')} have the size of their images before and after these are "
            "turned by their EXIF orientation, which the masks do not have.",
            fix="say which pixels the masks were drawn on: --set data.mask_exif=stored (before turning: OpenCV, "
            "ImageJ, QuPath) or --set data.mask_exif=turned (as a photo viewer shows the images)", every=True,
        )  # fmt: skip

    def _turn(self, stored: Sequence[str], turned: Sequence[str], *, why: str) -> None:
        for name in stored:
            self.readings[name] = replace(self.readings[name], orientation=self.seen[name].orientation)
        for names, words in ((stored, "before the images are turned by it, and turned like them"),
                             (turned, "after the images are turned by it")):  # fmt: skip
            if names:
                knob = "stored" if names is stored else "turned"
                self.notes.append(
                    f"EXIF orientation: {_count(len(names), 'mask')} such as {self.name_file(names[0])} belong to the "
                    f"pixels {words}, {why} (data.mask_exif={knob})"
                )

    def _fits(self, name: str, *, stored: bool) -> bool:
        seen = self.seen[name]
        reading = replace(self.readings[name], orientation=seen.orientation if stored else None)
        return seen.find_size(reading) == seen.size_px

    # --- size ---------------------------------------------------------------------------------------------------

    def _settle_sizes(self) -> None:
        """Masks that are not of the size of their images."""
        off: dict[tuple[int, int], list[str]] = defaultdict(list)
        for name in self.masked:
            seen, mask_px = self.seen[name], self.seen[name].find_size(self.readings[name])
            if mask_px == seen.size_px:
                continue
            if self.wishes.mask_fit is not None and _can_fit(self.wishes.mask_fit, mask_px, seen.size_px):
                self.readings[name] = replace(
                    self.readings[name], fit=self.wishes.mask_fit, size_px=self.seen[name].size_px
                )
                continue
            off[mask_px[0] - seen.size_px[0], mask_px[1] - seen.size_px[1]].append(name)
        for difference, names in off.items():
            close = max(map(abs, difference)) <= MOST_OFF_PX
            if close and len(names) > 1 and len(names) == len(self.masked):
                sizes = self._say_sizes(names[0])
                self.report(
                    "mask-size", names,
                    f"{sizes}; the {len(names) - 1} other masks differ by the same {difference[0]:+d} rows and "
                    f"{difference[1]:+d} columns.", fix=FIT_FIX, every=True,
                )  # fmt: skip
                continue
            for name in names:
                self._report_size(name, close=close)
        fitted = [name for name in self.masked if self.readings[name].size_px is not None]
        if fitted:
            self.notes.append(
                f"{_count(len(fitted), 'mask')} such as {self.name_file(fitted[0])} ({self._say_sizes(fitted[0])}) are "
                f"brought to the size of their images (data.mask_fit={self.wishes.mask_fit})"
            )

    def _report_size(self, name: str, *, close: bool) -> None:
        fix = "export the mask again at the size of the image"
        seen = self.seen[name]
        mask_px = seen.find_size(self.readings[name])
        if close or _can_fit("stretch", mask_px, seen.size_px):
            fix += ", or say how it lies: --set data.mask_fit=stretch" + (
                " or --set data.mask_fit=pad" if close else ""
            )
        turned = f" (turned by its EXIF orientation {seen.orientation})" if seen.turns else ""
        self.report("mask-size", [name], f"{self._say_sizes(name)}{turned}.", fix=fix)

    def _say_sizes(self, name: str) -> str:
        height, width = self.seen[name].find_size(self.readings[name])
        rows, columns = self.seen[name].size_px
        return f"is {height} x {width} px, its image {name} is {rows} x {columns} px"

    # --- values -------------------------------------------------------------------------------------------------

    def _settle_values(self) -> None:
        """Which values are mask: all but 0, where that can be meant."""
        facts = {name: self.seen[name].facts for name in self.masked}
        found = Counter(value for one in facts.values() if not one.grey for value in one.values)
        listed = list_values(facts.values())
        if self.wishes.mask_values:
            if not any(one.marked_frac != float(self.wishes.mask_inverted or False) for one in facts.values()):
                self.report(
                    "mask-values", list(self.masked),
                    f"and the others hold none of the values {list(self.wishes.mask_values)}, but {listed}.",
                    fix="name the right ones: --set data.mask_values=[...]", every=True,
                )  # fmt: skip
            return
        self._settle_blurred(facts)
        several = {n: one for n, one in facts.items() if len(one.values) > 1 and not one.grey}
        if several and 0 not in found and "#000000" not in found:
            self.report(
                "mask-values", list(several),
                f"and all other masks hold no 0, which is what is not marked, but {listed}.",
                fix=f"say which are mask: --set 'data.mask_values={propose_values(several.values())}'", every=True,
            )  # fmt: skip
            return
        ignoring = [name for name, one in several.items() if has_ignore(one)]
        if ignoring:
            classes = [v for v in facts[ignoring[0]].values if isinstance(v, int) and 0 < v < 255]
            self.report(
                "mask-values", ignoring,
                f"and {_count(len(ignoring) - 1, 'other mask')} hold numbers of classes and 255, which some tools "
                f"write for what is not to be looked at: {listed}.",
                fix=f"say which are mask: --set data.mask_values={write_values(classes)} or "
                f"--set data.mask_values={write_values([*classes, 255])}", every=True,
            )  # fmt: skip
        elif any(len(one.values) > 2 for one in several.values()):
            self.notes.append(f"masks hold the values {listed}: all but 0 are mask (data.mask_values chooses)")

    def _settle_blurred(self, facts: Mapping[str, images.MaskFacts]) -> None:
        """What soft edges or a lossy format made of masks: cut at half of the range with a warning, or asked about."""
        for name, one in facts.items():
            if one.grey:
                message = "holds grey levels; what lies above half of its range is taken."
                fix = "save it as 0 and 255 if that is not what is meant"
                self.report("mask-grey", [name], message, fix=fix, warning=True)
        blurred = [n for n, one in facts.items() if one.grey and is_dim(one)]
        if blurred:
            self.report(
                "mask-values", blurred,
                f"and {_count(len(blurred) - 1, 'other mask')} hold grey levels up to {max(facts[blurred[0]].values)} "
                "only, as numbers of classes that a lossy format has blurred.",
                fix="export them as PNG, or say which values are mask: --set data.mask_values=[1,2,...]", every=True,
            )  # fmt: skip
        coloured = [n for n, one in facts.items() if is_blurred_colour(one)]
        if coloured:
            self.report(
                "mask-values", coloured,
                f"and {_count(len(coloured) - 1, 'other mask')} hold no black, which is what is not marked, but "
                "colours that a lossy format or soft edges have blurred.",
                fix="export them as PNG, 0 where nothing is marked and 255 elsewhere", every=True,
            )  # fmt: skip

    # --- polarity -----------------------------------------------------------------------------------------------

    def _settle_polarity(self) -> None:
        """Whether what is marked is meant to be mask, for files that show it so and for those that show the reverse."""
        if self.wishes.mask_inverted is not None or self.wishes.mask_values:
            return
        for shown in (False, True):
            names = [name for name in self.masked if self.seen[name].facts.shown_inverted == shown]
            if names:
                self._settle_group(names, shown_inverted=shown)

    def _settle_group(self, names: Sequence[str], *, shown_inverted: bool) -> None:
        telling = [n for n in names if TRIVIAL_FRAC < self.seen[n].facts.marked_frac < 1 - TRIVIAL_FRAC]
        looked = self._choose(telling)
        balance = Balance([weigh_polarity(self._view(name)) for name in looked])
        if shown_inverted:
            self._settle_shown(names, balance)
        elif balance.inverted or balance.islands:
            what = (
                f"on glass: {balance.words}"
                if balance.inverted
                else "what is not marked lies in islands, as what is drawn does"
            )
            self.report(
                "mask-inverted", names,
                f"and {_count(len(names) - 1, 'other mask')} mark {balance.marked_frac:.0%} of their images (median) "
                f"and {what}: they may be inverted.",
                fix="say so: --set data.mask_inverted=true (0 is mask), or --set data.mask_inverted=false (0 is not)",
                every=True,
            )  # fmt: skip
        elif balance.odd and balance.supporting >= len(balance.odd):
            odd = [looked[i] for i in balance.odd]
            if len(telling) > len(looked):
                rest = [name for name in telling if name not in set(looked)]
                odd += [name for name in rest if weigh_polarity(self._view(name)).odd]
            mixed = 4 * len(balance.odd) >= len(looked)
            for name in odd:
                self.report(
                    "mask-inverted", [name],
                    f"lies on the glass of its image {name}, where most masks lie beside it: it may be inverted.",
                    fix="invert it, or leave the image out", warning=not mixed,
                )  # fmt: skip

    def _settle_shown(self, names: Sequence[str], balance: Balance) -> None:
        """Masks whose files show 0 brighter than what they mark: the values or the picture may be meant."""
        many = f"{_count(len(names), 'mask')} such as {self.name_file(names[0])} show 0 brighter than other values"
        if balance.upright:
            self.notes.append(f"{many}; the values are mask, as glass says: {balance.words} (data.mask_inverted=false)")
        elif balance.reversed:
            for name in names:
                self.readings[name] = replace(self.readings[name], inverted=True)
            self.notes.append(f"{many}; the colours are mask, as glass says: {balance.words} (data.mask_inverted=true)")
        else:
            self.report(
                "mask-inverted", names,
                f"and {_count(len(names) - 1, 'other mask')} show 0 brighter than other values (palette, or white is "
                "zero), and the tissue does not tell whether values or colours are meant.",
                fix="say so: --set data.mask_inverted=false (every value but 0 is mask), or "
                "--set data.mask_inverted=true (0, which is shown bright, is mask)", every=True,
            )  # fmt: skip

    def _find_empty(self) -> None:
        for name in self.masked:
            inverted = self.readings[name].inverted and not self.masked[name].sample.mask_reading.inverted
            if self.seen[name].facts.marked_frac == float(inverted):
                fix = "draw the mask, or leave the image out"
                self.report("mask-empty", [name], f"marks nothing of its image {name}.", fix=fix)

    def _choose(self, names: Sequence[str]) -> list[str]:
        """An even choice."""
        if len(names) <= MOST_VIEWS:
            return list(names)
        return [names[i] for i in np.linspace(0, len(names) - 1, MOST_VIEWS).round().astype(int)]

    def _view(self, name: str) -> View:
        """The image and its mask, small; the mask turned as it is read."""
        seen, reading = self.seen[name], self.readings[name]
        mask = seen.facts.draw_look()
        if reading.orientation is not None:
            mask = images.turn_plane(mask, reading.orientation)
        picture = images.read_thumbnail(self.masked[name].sample.path, longest_px=2 * images.LOOK_PX)
        return View.over(picture, mask)


def wish_masks(drafts: Iterable[Draft], wishes: Columns) -> list[Draft]:
    """The drafts with what a recipe says of all masks."""
    said = {"values": wishes.mask_values, "inverted": bool(wishes.mask_inverted)}
    return [
        replace(d, sample=replace(d.sample, mask_reading=replace(d.sample.mask_reading, **said)))  # type: ignore[arg-type]  # each of its kind
        for d in drafts
    ]


def _can_fit(fit: str, mask_px: tuple[int, int], size_px: tuple[int, int]) -> bool:
    """Whether a mask lacks few rows and columns, or has the shape of its image to a pixel of either."""
    if fit == "pad":
        return max(abs(a - b) for a, b in zip(mask_px, size_px, strict=True)) <= MOST_OFF_PX
    scale = [a / b for a, b in zip(mask_px, size_px, strict=True)]
    return abs(scale[0] - scale[1]) <= 2 * max(1 / min(size_px), min(scale) / min(mask_px))


def _count(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
