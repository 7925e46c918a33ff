"""encode: slides to files of features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from ..errors import RunError
from ..project import HERE
from . import console
from .console import Data, On, app, finish, guard, listen, quote

FOLDER = Path("features")  # of what is encoded, where no other is named


@app.command(rich_help_panel=console.DO)
@guard
def encode(
    data: Data,
    encoder: Annotated[str, typer.Option(help="name of an encoder (smalti parts), of timm, or local-dir:FOLDER")],
    out: Annotated[Path | None, typer.Option(help="folder of tiles and features (default: features/<DATA>)")] = None,
    layout: Annotated[
        Literal["smalti", "clam", "trident", "stamp"], typer.Option(help="whose files are written")
    ] = "smalti",
    mpp: Annotated[
        float, typer.Option(min=0.0, max=100.0, help="microns per pixel of a tile; 0 takes pixels as they are")
    ] = 0.5,
    image_mpp: Annotated[
        float | None, typer.Option(min=0.01, max=100.0, help="microns per pixel of slides that do not say their own")
    ] = None,
    tile_px: Annotated[
        int | None, typer.Option(min=16, max=4096, help="side of a tile (default: that of the encoder)")
    ] = None,
    overlap: Annotated[float, typer.Option(min=0.0, max=0.9, help="of neighbouring tiles, share of the side")] = 0.0,
    min_tissue: Annotated[float, typer.Option(min=0.0, max=1.0, help="least share of a tile that is tissue")] = 0.5,
    keep_pen: Annotated[bool, typer.Option("--keep-pen", help="keep tiles of pen marks and dirt")] = False,
    weights: Annotated[Path | None, typer.Option(help="weights file instead of the hub's")] = None,
    weights_part: Annotated[str | None, typer.Option(help="which network of that file, such as teacher")] = None,
    dtype: Annotated[
        Literal["float16", "float32"] | None,
        typer.Option(help="of the features (default: float16; float32 for clam and trident, as their code needs)"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, 32-true, bf16-mixed or 16-mixed")] = "auto",
    on: On = HERE,
    cpus: Annotated[int | None, typer.Option(min=1, help="threads for a slide (default: all, shared)")] = None,
) -> None:
    """Find the tissue of slides and write the features of its tiles, as smalti, CLAM, TRIDENT or STAMP read them."""
    from ..encode import encode_folder

    with listen() as listener:
        found = encode_folder(
            data, out or FOLDER / data.resolve().name, encoder, weights=weights, weights_part=weights_part,
            layout=layout, mpp=mpp or None, image_mpp=image_mpp, tile_px=tile_px, overlap_frac=overlap,
            min_tissue=min_tissue, keep_pen=keep_pen, dtype=dtype, device=device, precision=precision, on=on, cpus=cpus,
            listener=listener,
        )  # fmt: skip
    rows = found.rows
    counts = {status: sum(row.status == status for row in rows) for status in ("encoded", "empty", "failed")}
    tiles, glass, pen = (sum(getattr(row, name) for row in rows) for name in ("tiles", "glass", "pen"))
    done = counts["encoded"]
    console.out.print(
        f"{done} slide{'s'[done == 1 :]} encoded, {counts['empty']} without tissue, {counts['failed']} failed (column "
        f"'reason'); {tiles} tiles, left out: {glass} of glass, {pen} of pen or dirt",
        soft_wrap=True,
    )
    for row in [row for row in rows if row.status == "failed"][:5]:
        console.out.print(f"[red]{escape(row.image)}[/]: {escape(row.reason)}", soft_wrap=True)
    if found.features is None:
        raise RunError(f"no slide was encoded; {found.table} says why", fix="look at the column 'reason'")
    then = f"put the table of labels into {quote(found.features)}, then smalti run {quote(found.features)}"
    finish(f"features in {found.features}, one row a slide in {found.table}", then)
