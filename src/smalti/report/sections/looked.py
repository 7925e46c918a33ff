"""Return the section "Where it looked": whether the maps can be trusted, some maps, and the strongest tiles."""

from __future__ import annotations

from collections.abc import Sequence

from ...records import ExplanationRecord, LookedAt, Mean
from ...records.layout import HEATMAP, HEATMAP_GRADCAM, TILE_SHEET, name_heatmap
from ..blocks import (
    Block,
    Panels,
    Paragraph,
    Pictures,
    Section,
    Table,
    count_things,
    format_number,
    format_percent,
    format_range,
    not_applicable,
)
from ..contents import RunRecord
from ..figures.gallery import encode_picture
from ..figures.plots import draw_removal

ANCHOR, TITLE = "looked", "Where it looked"
OVERLAY_PX = 520
SHEET_PX = 1600
RIGHT, WRONG = 3, 4  # images shown
TITLES = {"gradcam": "Grad-CAM"}
KINDS = {
    "attention": "Attention is the share that each tile has in the embedding of the image.",
    "class attention": "Attention is the share that each tile has in the embedding of its class.",
    "contribution": "A contribution is the exact part that a tile has in the logit of the class.",
    "evidence": (
        "This pooler learns no shares, so the map shows the evidence of each tile: the logit of the class if the tile "
        "were the whole image."
    ),
}


def looked_section(record: RunRecord) -> Section:
    """Return numbers first and pictures after: a map that the score does not follow must not be believed."""
    told = record.explanation
    if told is None:
        return not_applicable(ANCHOR, TITLE, "there is no explanation.json; 'smalti explain' writes it")
    trust = say_trust(told)
    shown = "the predicted class of each image" if told.shown == "predicted" else f"class {told.shown}"
    text = (
        f"{KINDS[told.kind]} Explained: {shown}, in {count_things(told.n_images, 'image')} of "
        f"{count_things(told.n_cases, 'case')}; labelled images by the networks that never saw their case, "
        "unlabelled ones by those of all folds."
    )
    text += f" There is no Grad-CAM: {told.no_gradcam}." if told.no_gradcam else ""
    blocks: list[Block] = [
        Paragraph(trust, "plain" if told.maps["map"].verdict == "better" else "warning"),
        Paragraph(text, "note"),
    ]
    if any(value is not None for value in told.maps["map"].curves.random):
        drawing = draw_removal(told.grid, told.maps, kind=told.kind)
        caption = "Mean score of the class that is explained, while tiles are taken away from, or put into, an image."
        blocks.append(Panels([(drawing.to_svg(), drawing.words)], caption, width="lone"))
    blocks += [_tabulate(told), Paragraph(_say_measures(told)), *_show_overlays(record, told)]
    sheet = encode_picture(record.folder, TILE_SHEET, longest_px=SHEET_PX)
    if sheet:
        caption = (
            "Tiles of held-out images that speak most, and least, for their label, one a case: case, and logit of the "
            "tile alone against the mean class."
        )
        blocks.append(Pictures([(sheet, "Tiles that speak most and least for each class")], caption, width="lone"))
    return Section(ANCHOR, TITLE, blocks)


def say_trust(told: ExplanationRecord) -> str:
    """Say whether the map of an ``explanation.json`` beats a random order, in one or two sentences."""
    measures, kind = told.maps["map"], told.kind
    if measures.verdict == "not applicable":
        return "Whether the map can be trusted is not known: no image has two tiles, so there is no order to test."
    percent = format_percent(told.confidence)
    falls, rises = (
        "–" if mean.value is None
        else f"{format_number(mean.value)}, {percent} interval {format_range(mean.low, mean.high)}"
        for mean in (measures.deletion, measures.insertion)
    )  # fmt: skip
    few = ""
    if not measures.deletion.trustworthy:
        few = f" With {count_things(measures.deletion.n_cases, 'case')} the intervals are too short."
    if measures.verdict == "better":
        return (
            f"The score follows the {kind}: it falls sooner when the highest tiles are taken away than in a random "
            f"order (by {falls}) and rises sooner when they come first (by {rises}).{few}"
        )
    word = "against" if measures.verdict == "worse" else "no sooner than"
    return (
        f"The {kind} must not be trusted as an explanation: the score moves {word} a random order when tiles are "
        f"taken away (gain {falls}) or put in (gain {rises}) by their {kind}.{few}"
    )


def _tabulate(told: ExplanationRecord) -> Table:
    names = list(told.maps)
    header = ("measure", *(TITLES.get(name, told.kind) for name in names), "chance")
    maps = [told.maps[name] for name in names]
    area = _format_mean(maps[0].area)
    chance = maps[0].agreement_chance
    rows = (
        ("score falls sooner than in a random order by", *(_format_mean(m.deletion, 3) for m in maps), "0"),
        ("score rises sooner than in a random order by", *(_format_mean(m.insertion, 3) for m in maps), "0"),
        ("share inside the mask", *(_format_mean(m.inside) for m in maps), f"{area} (area of the mask)"),
        ("that share, in areas of the mask", *(_format_mean(m.focus) for m in maps), "1"),
        (
            "agreement of networks (rank correlation)",
            *(_format_mean(m.agreement) for m in maps),
            "–" if chance is None else f"up to {chance:.2f}",
        ),
    )
    percent = format_percent(told.confidence)
    return Table(header, rows, f"Means over images, {percent} interval by resampled cases in brackets")


def _format_mean(mean: Mean, digits: int = 2) -> str:
    if mean.value is None:
        return "–"
    return f"{format_number(mean.value, digits)} ({format_range(mean.low, mean.high, digits)})"


def _say_measures(told: ExplanationRecord) -> str:
    measures = told.maps["map"]
    parts, focus = [], measures.focus
    if focus.value is None:
        parts.append("Share inside the mask: not applicable, no image that is explained has a mask.")
    else:
        inside, outside = focus.low is not None and focus.low > 1, focus.high is not None and focus.high < 1
        where = "more inside" if inside else "more outside" if outside else "no more inside than out of"
        parts.append(
            f"The networks looked {where} the mask, measured over what their tiles cover: {focus.value:.2f} times "
            "the mask's share of the area."
        )
        if measures.area.value is not None and measures.area.value > 0.8:
            parts.append("Nearly all of it lies under the mask, so this says little; tile.min_coverage=0 would ask.")
    agreement, chance = measures.agreement.value, measures.agreement_chance
    if agreement is None or chance is None:
        parts.append("Agreement of networks: not applicable, no image was explained by two of them.")
    else:
        word = "agree" if agreement > max(chance, 0.5) else "agree a little" if agreement > chance else "do not agree"
        parts.append(f"Networks that learned from other cases, or from another seed, {word} on where to look.")
    return " ".join(parts)


def _show_overlays(record: RunRecord, told: ExplanationRecord) -> list[Block]:
    blocks: list[Block] = []
    for title, rows in choose_images(told.images).items():
        pictures = []
        for row in rows:
            label = f"labelled {row.label}, " if row.label else ""
            answer = f"{label}predicted {row.predicted} ({row.scores[row.predicted]:.2f})"
            for suffix, name in ((HEATMAP, told.kind), (HEATMAP_GRADCAM, "Grad-CAM")):
                picture = encode_picture(record.folder, name_heatmap(row.image, suffix), longest_px=OVERLAY_PX)
                if picture:
                    pictures.append((picture, f"{row.image}: {name}; {answer}"))
        if pictures:
            blocks.append(Pictures(pictures, title))
    return blocks


def choose_images(rows: Sequence[LookedAt]) -> dict[str, list[LookedAt]]:
    """Return title -> images: the best and the worst by the score of the label; without labels the first ones."""
    labelled = sorted((r for r in rows if r.label), key=lambda r: -r.scores[str(r.label)])
    if not labelled:
        return {"Images without a label": list(rows[:RIGHT])}
    right: list[LookedAt] = []
    for row in labelled:  # of different classes first
        if row.predicted == row.label and row.label not in {r.label for r in right}:
            right.append(row)
    wrong = [row for row in reversed(labelled) if row.predicted != row.label]
    return {
        "Right predictions, the surest of each class": right[:RIGHT],
        "Wrong predictions, the worst first": wrong[:WRONG],
    }
