"""The chapter "Augmentation": what the network saw in phase ``finetune``, and what was learned about it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import yaml

from ..runs import RunFolder
from .blocks import Block, Paragraph, Pictures, Section, Table, count_things, not_applicable
from .gallery import encode_picture
from .record import RunRecord

ANCHOR, TITLE = "augmentation", "Augmentation"
PICTURE_PX = 1600


def write_augmentation(record: RunRecord) -> Section:
    """Real tiles, the operations weighed on inner images, and the policy of the first fold."""
    finetune = _read_finetune(record)
    if not finetune or not finetune.get("epochs"):
        return not_applicable(ANCHOR, TITLE, "phase finetune was left out, and stored features are not augmented")
    search = finetune.get("policy_search")
    name = f"a policy learned in each fold by {search}" if search else f"{finetune['augmentation']}"
    blocks: list[Block] = [Paragraph(f"Tiles of phase finetune were augmented by {name}.")]
    run = RunFolder(record.folder)
    picture = encode_picture(run.path, str(run.augmentation_picture.relative_to(run.path)), longest_px=PICTURE_PX)
    if picture:
        caption = "A tile of four training images: as it is, then as drawn in the first epoch, then in the last."
        blocks.append(Pictures([(picture, "Tiles before and after augmentation")], caption, width="lone"))
    if record.operations is not None:
        blocks += _tabulate_operations(record.operations)
    policies = sorted(run.policies.glob("*.yaml"))
    if policies:
        content = yaml.safe_load(policies[0].read_text(encoding="utf-8"))
        blocks += _tabulate_policy(content, fold=policies[0].stem)
    return Section(ANCHOR, TITLE, blocks)


def _read_finetune(record: RunRecord) -> dict[str, Any]:
    recipe = yaml.safe_load(record.recipe) if record.recipe else None
    found: dict[str, Any] = (recipe or {}).get("train", {}).get("finetune", {})
    return found


def _tabulate_operations(table: pd.DataFrame) -> list[Block]:
    folds = len(table.groupby(["seed", "fold"]))
    untold = table["low"].isna().any()
    rows = [
        [str(name), f"{group['amount'].iloc[0]:g}", f"{group['fall'].median():+.3f}", f"{int(group['destroys'].sum())}"]
        for name, group in table.groupby("operation", sort=False)
    ]
    rows.sort(key=lambda row: -float(row[2]))
    caption = (
        "What an operation alone takes from the balanced accuracy of inner images, as a network sees them that has not "
        f"learned with it: median of {count_things(folds, 'fold')}, and folds in which it is more than noise "
        "(bootstrap by case, all operations together)."
    )
    blocks: list[Block] = [Table(["operation", "amount", "fall", "folds"], rows, caption)]
    if untold:
        blocks.append(Paragraph("Some folds have too few inner cases to tell a fall from noise.", "note"))
    return blocks


def _tabulate_policy(content: dict[str, Any], *, fold: str) -> list[Block]:
    rows = [
        [
            f"from {stage['start']:.0%} of the phase",
            " then ".join(f"{m['operation']} {m['amount']:.2f} ({m['chance']:.0%})" for m in chain["moves"])
            or "nothing",
            f"{chain['weight'] / sum(c['weight'] for c in stage['chains']):.0%}",
        ]
        for stage in content["stages"]
        for chain in sorted(stage["chains"], key=lambda c: -c["weight"])
    ]
    caption = f"Policy of {fold}: chains of operations with amounts (and chances); each tile draws one by its share."
    return [Table(["stage", "chain", "share"], rows, caption, text_columns=2)]


def _say_move(move: dict[str, Any]) -> str:
    return f"{move['operation']} {move['amount']:.2f} ({move['chance']:.0%})"
