"""The tiles of a slide: where tissue is, by the definition that runs use, and without pen, dirt and glass.

Tissue is looked for at low magnification (`smalti.tile.scene`). Each tile is then judged by its own pixels
(`smalti.tissue.stainable`): blank ones show glass, painted ones pen, grey ones a black pen or dirt. Where most of the
tissue of a slide is grey or of foreign colours, as other stains are, its tiles are not judged by that.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import images, recipe
from ..errors import DataError, Problem
from ..records import TilePlaces
from ..tile.cut import Bag, Cut, open_cut, open_places
from ..tile.grid import make_grid, spread_evenly
from ..tissue.stainable import KINDS, judge_pixels
from ..types import Sample

PIECE_BYTES = 16_000_000  # of tiles that are cut at once
ENLARGED = 1.1  # tiles would be enlarged by more than this
MOST_JUDGED = 400  # squares by which a slide as a whole is judged
GLASS, PEN = "glass", "pen"
BLANK = KINDS.index("blank")


@dataclass(frozen=True, slots=True)
class TileRules:
    """By which rules the tiles of slides are chosen.

    Attributes:
        mpp: microns per pixel of a tile; None takes pixels as they are.
        image_mpp: those of slides that do not say their own.
        tile_px: side of a tile.
        overlap_frac: of neighbouring tiles, share of the side.
        min_tissue: least share of a tile that is tissue at low magnification.
        keep_pen: whether tiles of pen and dirt are kept.
    """

    mpp: float | None
    image_mpp: float | None
    tile_px: int
    overlap_frac: float = 0.0
    min_tissue: float = 0.5
    keep_pen: bool = False

    def dump(self) -> dict[str, Any]:
        """Return the rules as plain values."""
        return asdict(self)

    def settle(self) -> recipe.Tile:
        """Return them as the knobs of a recipe."""
        return recipe.Tile(
            mpp=self.mpp, image_mpp=self.image_mpp, overlap_frac=self.overlap_frac, min_coverage=self.min_tissue,
            min_tiles=1, max_tiles=None, within="tissue",
        )  # fmt: skip

    def find_mpp(self, path: Path) -> float | None:
        """Return microns per pixel of a slide, as its file or else these rules say; None where neither does.

        Raises:
            DataError: the slide cannot be read, or is coarser than the tiles are to be.
        """
        own = images.read_mpp(path) or self.image_mpp
        if own is not None and self.mpp is not None and own > ENLARGED * self.mpp:
            message = f"has {own:g} microns per pixel: tiles of {self.mpp:g} would be enlarged."
            fix = f"--mpp {own:g} or more, in another folder"
            raise DataError(f"{path} is too coarse", [Problem("too-coarse", str(path), message, fix)])
        return own


class SlideTiles:
    """The tiles of an open slide, found now or before.

    Attributes:
        cut: the slide, and squares of it that may be tiles.
        judge: returns why tiles of these kinds are left out, '' for those that are kept; None where all are kept.
        left_out: how many were left out so far, by reason.
        note: what is to be known of the slide.
    """

    def __init__(self, cut: Cut, judge: Callable[[int], str] | None, left_out: Counter[str], note: str) -> None:
        self.cut, self.judge, self.left_out, self.note = cut, judge, left_out, note
        self.positions: list[NDArray[np.int64]] = []

    def read(self, *, workers: int) -> Iterator[NDArray[np.uint8]]:
        """Yield tiles that are kept, (n, tile_px, tile_px, 3), a piece at a time; cut ahead by some threads."""
        step = max(1, PIECE_BYTES // (3 * self.cut.tile_px**2))
        starts = iter(range(0, len(self.cut), step))
        pending: deque[Future[tuple[Bag, NDArray[np.uint8]]]] = deque()
        with ThreadPoolExecutor(workers) as pool:
            try:
                while True:
                    while len(pending) <= workers and (start := next(starts, None)) is not None:
                        pending.append(pool.submit(self._take, start, start + step))
                    if not pending:
                        return
                    yield self._choose(*pending.popleft().result())
            finally:
                for waiting in pending:
                    waiting.cancel()

    def _take(self, start: int, stop: int) -> tuple[Bag, NDArray[np.uint8]]:
        bag = self.cut.take(start, stop)
        return bag, bag.judge_tiles() if self.judge else np.zeros(len(bag.pixels), dtype=np.uint8)

    def _choose(self, bag: Bag, kinds: NDArray[np.uint8]) -> NDArray[np.uint8]:
        why = [self.judge(int(kind)) if self.judge else "" for kind in kinds]
        self.left_out.update(reason for reason in why if reason)
        kept = np.array([not reason for reason in why], dtype=bool)
        self.positions.append(bag.positions[kept])
        return bag.pixels[kept]

    def keep_places(self, content: str) -> TilePlaces:
        """Return where the tiles are that were read."""
        positions = np.concatenate([np.empty((0, 2), dtype=np.int64), *self.positions])
        counts = {reason: self.left_out[reason] for reason in (GLASS, PEN)}
        return TilePlaces(positions, int(self.cut.sides_px[0]), content, counts, self.note)


@contextmanager
def open_tiles(
    sample: Sample, rules: TileRules, *, content: str, known: TilePlaces | None = None
) -> Iterator[SlideTiles]:
    """Open a slide with the tiles that are ``known``, or with those that the rules find.

    Raises:
        DataError: the slide cannot be read, or is not the one with the hash ``content``.
        RecipeError: tiles that are far larger than the slide.
    """
    hashes = {sample.path: content}
    with ExitStack() as stack:
        if known is not None:
            cut = stack.enter_context(
                open_places(sample, known.positions, side_px=known.side_px, tile_px=rules.tile_px, hashes=hashes)
            )
            yield SlideTiles(cut, None, Counter(known.left_out), known.note)
            return
        cut = stack.enter_context(open_cut(sample, rules.settle(), tile_px=rules.tile_px, hashes=hashes))
        whole = len(make_grid(*cut.scene.size_px, tile_px=int(cut.sides_px[0]), overlap_frac=rules.overlap_frac))
        kind = _judge_slide(cut)
        note = ""
        if kind:
            note = f"most of its tissue is {KINDS[kind]}, which was taken for its stain and not for pen, and kept"

        def judge(found: int) -> str:
            if found == BLANK:
                return GLASS
            return PEN if found not in {0, kind} and not rules.keep_pen else ""

        yield SlideTiles(cut, judge, Counter({GLASS: whole - len(cut)}), note)


def _judge_slide(cut: Cut) -> int:
    """Return the number of `KINDS` that most squares of tissue have at low magnification; 0 where none prevails."""
    view = cut.scene.view()
    (down, across), side = (v / n for v, n in zip(view.shape[:2], cut.scene.size_px, strict=True)), cut.sides_px[0]
    votes: Counter[int] = Counter()
    for row, col in spread_evenly(cut.positions, MOST_JUDGED).tolist():
        spans = [
            slice(max(0, round(at * scale)), max(0, round(at * scale)) + max(1, round(side * scale)))
            for at, scale in ((row, down), (col, across))
        ]
        votes[judge_pixels(view[spans[0], spans[1]].reshape(-1, 3))] += 1
    votes.pop(BLANK, None)
    kind, count = votes.most_common(1)[0] if votes else (0, 0)
    return kind if 2 * count > votes.total() else 0
