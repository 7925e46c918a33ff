"""The chapter "Augmentation": what the network saw in phase ``finetune``, and what was learned about it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import yaml

from ...records import RunFolder
from ..blocks import Block, Paragraph, Pictures, Section, Table, count_things, not_applicable
from ..figures.gallery import encode_picture
from ..record import RunRecord

ANCHOR, TITLE = "augmentation", "Augmentation"
PICTURE_PX = 1600
MOST_CHAINS = 10  # of a stage


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
        [str(name), f"{group['amount'].iloc[0]:g}", f"{group['fall'].median():+.3f}", _say_folds(group)]
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
        blocks.append(Paragraph("Folds with too few inner cases to tell a fall from noise are not counted.", "note"))
    return blocks


def _say_folds(group: pd.DataFrame) -> str:
    """Folds in which a fall is more than noise, of those that can tell."""
    able = int(group["low"].notna().sum())
    return f"{int(group['destroys'].sum())} of {able}" if able else "not told"


def _tabulate_policy(content: dict[str, Any], *, fold: str) -> list[Block]:
    rows = [row for stage in content["stages"] for row in _list_chains(stage)]
    caption = f"Policy of {fold}: chains of operations with amounts (and chances); each tile draws one by its share."
    return [Table(["stage", "chain", "share"], rows, caption, text_columns=2)]


def _list_chains(stage: dict[str, Any]) -> list[list[str]]:
    """The most frequent chains of a stage, and what is left as one row."""
    chains = sorted(stage["chains"], key=lambda chain: -chain["weight"])
    total = sum(chain["weight"] for chain in chains)
    listed = chains if len(chains) <= MOST_CHAINS else chains[: MOST_CHAINS - 1]
    rows = [[" then ".join(map(_say_move, c["moves"])) or "nothing", f"{c['weight'] / total:.0%}"] for c in listed]
    rest = chains[len(listed) :]
    if rest:
        rows.append([f"{len(rest)} others", f"{sum(c['weight'] for c in rest) / total:.0%}"])
    return [[f"from {stage['start']:.0%} of the phase" if k == 0 else "", *row] for k, row in enumerate(rows)]


def _say_move(move: dict[str, Any]) -> str:
    sure = "" if move["chance"] == 1 else f" ({move['chance']:.0%})"
    return f"{move['operation']} {move['amount']:.2f}{sure}"
