"""The audit of bags of features, which have no pixels: copies, contradictions, shortcuts, shift, rare bags."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from smalti.audit import audit_cohort, hide_sealed, join_duplicates
from smalti.cohort import Columns, inspect_folder, read_cohort

SIZE = 24


def draw(root, n=24, *, tiles=20, labels=None, change=None, table=(), attrs=None):
    """Write n bags with a table; ``change`` may return other tiles for a bag by its number and its own tiles."""
    rng = np.random.default_rng(0)
    rows = [",".join(["slide", "label", *(name for name, _ in table)])]
    drawn = []
    for i in range(n):
        values = (rng.normal(size=SIZE) + rng.normal(size=(tiles, SIZE))).astype("f4")
        drawn.append(values)
        values = values if change is None else change(i, values, drawn)
        with h5py.File(root / f"s{i:02d}.h5", "w") as file:
            file["features"] = values
            file["coords"] = np.arange(2 * len(values)).reshape(-1, 2)
            for key, value in (attrs(i) if attrs else {"encoder": "e"}).items():
                file.attrs[key] = value
        label = "ab"[i % 2] if labels is None else labels(i)
        rows.append(",".join([f"s{i:02d}", label, *(of(i) for _, of in table)]))
    (root / "t.csv").write_text("\n".join(rows) + "\n")
    return read_cohort(root)


def found(seen, code):
    return [f for f in seen.findings if f.code == code]


def test_checks_of_pixels_are_one_line(tmp_path):
    seen = audit_cohort(draw(tmp_path))
    assert not seen.findings
    lines = dict(seen.list_outcomes())
    (blind,) = [name for name in lines if "pixels" in name]
    assert str(lines[blind]) == "not applicable: features have no pixels"
    assert {"exact-duplicate", "near-duplicate", "confounding", "foreign", "integrity", "shift"} < lines.keys()
    assert int(blind.split()[0]) + len(lines) - 1 == len(seen.outcomes)
    assert str(lines["exact-duplicate"]) == str(lines["near-duplicate"]) == "nothing found"


WAYS = {
    "half": lambda values: values.astype("f2").astype("f4"),
    "shuffled": lambda values: values[::-1],
    "part": lambda values: values[: int(0.7 * len(values))],
}


@pytest.mark.parametrize("way", WAYS)
def test_copies_are_found_and_joined(tmp_path, way):
    def change(i, values, drawn):
        return WAYS[way](drawn[3]) if i == 8 else drawn[4] if i == 9 else values

    cohort = draw(tmp_path, change=change)
    seen = audit_cohort(cohort)
    (exact,) = found(seen, "exact-duplicate")
    (near,) = found(seen, "near-duplicate")
    assert set(exact.images) == {"s04.h5", "s09.h5"}
    assert set(near.images) == {"s03.h5", "s08.h5"}
    assert (exact.severity, exact.proposal) == ("error", "exclude")
    assert {f.images[0] for f in found(seen, "contradicting-labels")} == {"s03.h5", "s08.h5", "s04.h5", "s09.h5"}
    cases = {s.image: s.case for s in join_duplicates(cohort, seen.findings).labelled}
    assert cases["s03.h5"] == cases["s08.h5"] != cases["s04.h5"] == cases["s09.h5"]
    assert len(set(cases.values())) == 22


def test_slides_of_one_patient_are_alike_and_no_copies(tmp_path):
    def change(i, values, drawn):
        return values if i % 2 == 0 else drawn[i - 1] + np.random.default_rng(i).normal(size=values.shape).astype("f4")

    assert not audit_cohort(draw(tmp_path, change=change)).findings


def test_glass_that_bags_share_makes_no_copies(tmp_path):
    glass = np.full((8, SIZE), 0.3, "f4")
    cohort = draw(tmp_path, change=lambda i, values, drawn: np.concatenate([values, glass]))
    assert not found(audit_cohort(cohort), "near-duplicate")


def test_vectors_in_a_table(tmp_path):
    values = np.random.default_rng(0).normal(size=(40, 20)).round(5)
    values[7], values[9] = values[2], values[3] + 1e-4
    lines = ["image,label," + ",".join(f"f{j}" for j in range(20))]
    lines += [f"s{i:02d},{'ab'[i % 2]}," + ",".join(map(str, row)) for i, row in enumerate(values)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    seen = audit_cohort(read_cohort(tmp_path))
    assert [set(f.images) for f in found(seen, "exact-duplicate")] == [{"s02", "s07"}]
    assert [set(f.images) for f in found(seen, "near-duplicate")] == [{"s03", "s09"}]


def test_a_few_numbers_agree_by_chance(tmp_path):
    values = np.random.default_rng(0).integers(40, 60, size=(60, 2))
    lines = ["image,label,age,size", *(f"s{i:02d},{'ab'[i % 2]},{a},{b}" for i, (a, b) in enumerate(values))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    seen = audit_cohort(read_cohort(tmp_path, columns=Columns(features=("age", "size"))))
    assert not found(seen, "exact-duplicate")
    assert not found(seen, "near-duplicate")


@pytest.mark.parametrize("kind", ["tiles", "extraction", "site"])
def test_shortcuts(tmp_path, kind):
    def change(i, values, drawn):
        return values[: 5 + i // 2 + 60 * (i % 2)] if kind == "tiles" else values

    def say(i):
        return {"encoder": "e", "mpp": 0.25 + 0.25 * (i % 2)} if kind == "extraction" else {"encoder": "e"}

    table = (("site", lambda i: f"{'uv'[i % 2]}{i % 4}"),) if kind == "site" else ()
    cohort = draw(tmp_path, n=40, tiles=90 if kind == "tiles" else 4, change=change, attrs=say, table=table)
    findings = [f for f in found(audit_cohort(cohort), "confounding") if f.evidence["kind"] == kind]
    assert len(findings) == 1
    assert findings[0].evidence["balanced_accuracy"] > 0.9
    assert findings[0].severity == "warning"


def test_a_class_of_one_case(tmp_path):
    cohort = draw(tmp_path, n=40, table=(("patient", lambda i: f"p{i // 2 if i % 2 else 100 + i // 38}"),))
    (finding,) = [f for f in found(audit_cohort(cohort), "confounding") if f.evidence["kind"] == "case"]
    assert "a" in finding.evidence["classes"]


@pytest.mark.parametrize("moved", [False, True])
def test_shift(tmp_path, moved):
    def change(i, values, drawn):
        return values + 2 * moved * (i >= 24)

    cohort = draw(tmp_path, n=40, change=change, table=(("split", lambda i: "test" if i >= 24 else "train"),))
    assert len(cohort.unlabelled) == 16
    findings = found(audit_cohort(cohort), "shift")
    assert len(findings) == moved
    assert not moved or findings[0].evidence["auc"]["backbone features"] > 0.9


def test_rare_bags_are_told_and_kept(tmp_path):
    seen = audit_cohort(draw(tmp_path, n=40, change=lambda i, values, drawn: values + 40 * (i == 6)))
    (finding,) = found(seen, "foreign")
    assert (finding.images, finding.proposal, finding.severity) == (("s06.h5",), "keep", "info")


def test_broken_files_are_findings(tmp_path):
    draw(tmp_path)
    (tmp_path / "s05.h5").write_bytes(b"no file")
    cohort, problems = inspect_folder(tmp_path)
    (finding,) = audit_cohort(cohort, problems=problems).findings
    assert (finding.code, finding.images, finding.proposal) == ("integrity", ("s05.h5",), "exclude")


def test_sealed_labels_stay_hidden(tmp_path):
    def change(i, values, drawn):
        return drawn[4] if i == 9 else values

    cohort = draw(tmp_path, change=change)
    seen = audit_cohort(cohort)
    sealed = tuple(s for s in cohort.labelled if s.image in {"s04.h5", "s09.h5"})
    rest = tuple(s for s in cohort.labelled if s not in sealed)
    hidden = hide_sealed(seen, replace(cohort, labelled=rest, sealed=sealed))
    assert not found(hidden, "contradicting-labels")
    (finding,) = found(hidden, "exact-duplicate")
    assert "contradict" not in finding.message
