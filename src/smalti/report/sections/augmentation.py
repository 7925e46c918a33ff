"""Return the section "Augmentation": what the network saw in phase ``finetune``, and what was learned about it."""

from __future__ import annotations

from typing import Any

import yaml

from ...records.layout import AUGMENTATION_PICTURE, POLICIES
from ..blocks import Block, Paragraph, Pictures, Section, Table, count_things, not_applicable
from ..contents import RunRecord
from ..figures.gallery import encode_picture

ANCHOR, TITLE = "augmentation", "Augmentation"
PICTURE_PX = 1600
MOST_CHAINS = 10  # of a stage


def augmentation_section(record: RunRecord) -> Section:
    """Return real tiles, the operations weighed on inner images, and the policy of the first fold."""
    recipe = yaml.safe_load(record.recipe) if record.recipe else None
    finetune: dict[str, Any] = (recipe or {}).get("train", {}).get("finetune", {})
    if not finetune or not finetune.get("epochs"):
        return not_applicable(ANCHOR, TITLE, "phase finetune was left out, and stored features are not augmented")
    search = finetune.get("policy_search")
    name = f"a policy learned in each fold by {search}" if search else f"{finetune['augmentation']}"
    blocks: list[Block] = [Paragraph(f"Tiles of phase finetune were augmented by {name}.")]
    picture = encode_picture(record.folder, AUGMENTATION_PICTURE, longest_px=PICTURE_PX)
    if picture:
        caption = "A tile of four training images: as it is, then as drawn in the first epoch, then in the last."
        blocks.append(Pictures([(picture, "Tiles before and after augmentation")], caption, width="lone"))
    if record.operations is not None:
        tried, lines = record.operations, []
        for operation, group in tried.groupby("operation", sort=False):
            able = int(group["low"].notna().sum())  # folds that can tell a fall from noise
            told = f"{int(group['destroys'].sum())} of {able}" if able else "not told"
            lines.append([str(operation), f"{group['amount'].iloc[0]:g}", f"{group['fall'].median():+.3f}", told])
        lines.sort(key=lambda line: -float(line[2]))
        folds = count_things(len(tried.groupby(["seed", "fold"])), "fold")
        caption = (
            "What an operation alone takes from the balanced accuracy of inner images, as a network sees them that has "
            f"not learned with it: median of {folds}, and folds in which it is more than noise (bootstrap by case, all "
            "operations together)."
        )
        blocks.append(Table(["operation", "amount", "fall", "folds"], lines, caption))
        if tried["low"].isna().any():
            text = "Folds with too few inner cases to tell a fall from noise are not counted."
            blocks.append(Paragraph(text, "note"))
    policies = sorted((record.folder / POLICIES).glob("*.yaml"))
    if policies:
        content = yaml.safe_load(policies[0].read_text(encoding="utf-8"))
        rows = [row for stage in content["stages"] for row in _list_chains(stage)]
        what = "chains of operations with amounts (and chances); each tile draws one by its share"
        caption = f"Policy of {policies[0].stem}: {what}."
        blocks.append(Table(["stage", "chain", "share"], rows, caption, text_columns=2))
    return Section(ANCHOR, TITLE, blocks)


def _list_chains(stage: dict[str, Any]) -> list[list[str]]:
    """Return the most frequent chains of a stage, and all others as one row."""
    chains = sorted(stage["chains"], key=lambda chain: -chain["weight"])
    total = sum(chain["weight"] for chain in chains)
    listed = chains if len(chains) <= MOST_CHAINS else chains[: MOST_CHAINS - 1]
    rows = []
    for chain in listed:
        moves = (
            f"{move['operation']} {move['amount']:.2f}" + ("" if move["chance"] == 1 else f" ({move['chance']:.0%})")
            for move in chain["moves"]
        )
        rows.append([" then ".join(moves) or "nothing", f"{chain['weight'] / total:.0%}"])
    if rest := chains[len(listed) :]:
        rows.append([f"{len(rest)} others", f"{sum(c['weight'] for c in rest) / total:.0%}"])
    return [[f"from {stage['start']:.0%} of the phase" if k == 0 else "", *row] for k, row in enumerate(rows)]
