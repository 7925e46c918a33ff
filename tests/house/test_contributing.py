"""CONTRIBUTING.md is carried out: each of its examples adds a part that works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"### Add an? (\w+)\n(?:(?!\n### ).)*?```python\n(.*?)```", TEXT, re.DOTALL))
# What a stranger would try next with the part that an example adds.
TRIED = {
    "check": """
        from smalti.audit import audit_cohort
        from smalti.cohort import read_cohort

        seen = audit_cohort(read_cohort(DATA), checks=("portrait",))
        assert seen.outcomes["portrait"]
    """,
    "pooler": """
        from smalti.models import POOLERS

        pooler, bag = POOLERS.build("rms", 5, 3), torch.rand(1, 4, 5)
        mask = torch.tensor([[True, True, True, False]])
        assert torch.allclose(pooler(bag, mask).embedding, pooler(bag[:, [2, 0, 1]]).embedding)
    """,
    "metric": """
        import pandas as pd
        from smalti.evaluate import score_predictions

        generator = np.random.default_rng(0)
        truth = generator.integers(0, 2, 60)
        right = np.clip(0.5 + (truth - 0.5) * 0.5 + generator.normal(0, 0.3, 60), 0.01, 0.99)
        table = pd.DataFrame({"image": [f"i{i}" for i in range(60)], "case": [f"c{i}" for i in range(60)]})
        table = table.assign(fold=0, seed=0, label=np.array(["a", "b"])[truth], score_a=1 - right, score_b=right)
        metric = score_predictions(table, classes=("a", "b")).metrics["least_recall"]
        assert metric.low < metric.value < metric.high
    """,
    "encoder": """
        import torch
        from smalti.models import build_described

        tile = torch.rand(1, 3, 32, 32)
        described = build_described("described:grey")
        assert described(tile).shape == (1, 11)
        assert torch.allclose(described(tile), described(tile.flip(3)))
    """,
    "command": """
        import typer.testing

        answer = typer.testing.CliRunner().invoke(app, ["count", str(DATA)])
        assert answer.exit_code == 0, answer.output
        assert "images in" in answer.output
    """,
    "record": """
        from smalti.errors import RunError

        made = Scanner(name="A", mpp=float("nan"))
        made.write(DATA)
        assert Scanner.read(DATA) == Scanner(name="A", mpp=None)
        (DATA / SCANNER).write_text("{")
        try:
            Scanner.read(DATA)
        except RunError as error:
            assert SCANNER in str(error)
        else:
            raise AssertionError("a damaged record was read")
    """,
}


def test_every_kind_of_part_has_an_example() -> None:
    assert set(TRIED) <= set(EXAMPLES)


DRIVER = """
import json, sys, traceback
from pathlib import Path

said = {}
for title, (code, data) in json.loads(sys.stdin.read()).items():
    try:
        exec(compile(code, title, "exec"), {"DATA": Path(data), "__name__": title})
        said[title] = ""
    except Exception:
        said[title] = traceback.format_exc()
sys.stdout.write("SAID " + json.dumps(said))
"""


@pytest.fixture(scope="module")
def tried(challenge: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each example fails with, or nothing; in a process of its own, so that no registry of this one is changed."""
    data = {title: tmp_path_factory.mktemp(title) for title in TRIED} | {"check": challenge, "command": challenge}
    tasks = {t: (f"{EXAMPLES[t]}\n{textwrap.dedent(code)}", str(data[t])) for t, code in TRIED.items()}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER], input=json.dumps(tasks), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.rpartition("SAID ")[2]))


@pytest.mark.slow
@pytest.mark.parametrize("title", TRIED)
def test_an_example_adds_a_part_that_works(title: str, tried: dict[str, str]) -> None:
    assert not tried[title], tried[title]
