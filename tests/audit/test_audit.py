"""The audit: planted faults are found, clean images are not accused; decisions and cases keep their invariants."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from smalti.audit import (
    CHECKS,
    Audit,
    CheckResult,
    accept_proposals,
    append_decisions,
    apply_decisions,
    audit_cohort,
    find_bound_cases,
    hide_sealed,
    join_duplicates,
    read_decisions,
    read_findings,
    settle_decisions,
    validate_decisions,
    write_decisions,
    write_findings,
)
from smalti.errors import DataError, PartError, RecipeError, RunError
from smalti.recipe import load_recipe
from smalti.types import DECISION_COLUMNS, Cohort, Decision, Finding, Sample
from smalti.workflow import Project, inspect_ground

Picture = NDArray[np.uint8]
FIELDS = 10


def draw_field(seed: int, height: int = 360, width: int = 440) -> Picture:
    """A field of tissue of its own: wavy stroma, nuclei, some lumina; light and stain alike in all fields."""
    rng = np.random.default_rng(seed)
    waves = cv2.resize(rng.normal(0, 1, (12, 15)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    image = np.clip(np.array((175, 140, 215)) + 14 * waves[..., None], 0, 255).astype(np.uint8)
    for _ in range(500):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(image, centre, int(rng.integers(2, 6)), (110, 50, 80), -1)
    for _ in range(6):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(image, centre, int(rng.integers(10, 24)), (240, 238, 240), -1)
    return np.asarray(image, dtype=np.uint8)


def paint_slime(image: Picture) -> Picture:
    painted = image.copy()
    cv2.circle(painted, (200, 150), 70, (20, 230, 60), -1)
    return painted


def crop_corner(image: Picture) -> Picture:
    height, width = image.shape[:2]
    return image[height // 20 :, width // 20 :]


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "cropped, turned, darker": lambda i: (np.rot90(crop_corner(i)) * 0.8).astype(np.uint8),
    "painted": paint_slime,
}


def write_cohort(root: Path, pictures: dict[str, Picture], *, unlabelled: tuple[str, ...] = ()) -> Cohort:
    """Pictures by name; names ending in .jpg are compressed strongly; labels alternate."""
    samples = []
    for i, (name, picture) in enumerate(pictures.items()):
        cv2.imwrite(str(root / name), np.ascontiguousarray(picture), [cv2.IMWRITE_JPEG_QUALITY, 30])
        samples.append(Sample(name, root / name, None, "ab"[i % 2], f"case {name}", name))
    labelled = tuple(s for s in samples if s.image not in unlabelled)
    test = tuple(replace(s, label=None) for s in samples if s.image in unlabelled)
    return Cohort(root, "table", labelled, test, ("a", "b"))


def add_masks(cohort: Cohort, masks: dict[str, Picture]) -> Cohort:
    def add(sample: Sample) -> Sample:
        path = cohort.root / f"mask_{sample.image}.png"
        cv2.imwrite(str(path), masks[sample.image])
        return replace(sample, mask_path=path)

    return replace(cohort, labelled=tuple(map(add, cohort.labelled)), unlabelled=tuple(map(add, cohort.unlabelled)))


def pairs_of(audit: Audit, code: str) -> set[frozenset[str]]:
    return {frozenset(f.images) for f in audit.findings if f.code == code}


@pytest.fixture(scope="module")
def fields() -> dict[str, Picture]:
    return {f"field{i:02}.png": draw_field(i) for i in range(FIELDS)}


# --- duplicates ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_distinct_fields_are_clean(tmp_path: Path, fields: dict[str, Picture]) -> None:
    audit = audit_cohort(write_cohort(tmp_path, fields))
    assert audit.findings == ()
    said = {code: str(result) for code, result in audit.outcomes.items() if result.found is None}
    assert {"exact-duplicate", "near-duplicate", "blank", "contradicting-labels"} <= audit.outcomes.keys() - said.keys()
    assert said["shared-mask"] == said["blank-under-mask"] == "not applicable: no image has a mask"
    assert all(result.found in (None, 0) for result in audit.outcomes.values())
    assert all(outcome.startswith("not applicable: ") for outcome in said.values())


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(tmp_path: Path, fields: dict[str, Picture], change: str) -> None:
    copy = CHANGES[change](fields["field03.png"])
    cohort = write_cohort(tmp_path, {**fields, "copy.png": copy})
    audit = audit_cohort(cohort, checks=("near-duplicate",))
    assert pairs_of(audit, "near-duplicate") == {frozenset({"field03.png", "copy.png"})}


@pytest.mark.slow
def test_a_recompressed_copy_is_found(tmp_path: Path, fields: dict[str, Picture]) -> None:
    cohort = write_cohort(tmp_path, {**fields, "copy.jpg": fields["field05.png"]})
    audit = audit_cohort(cohort, checks=("near-duplicate",))
    assert pairs_of(audit, "near-duplicate") == {frozenset({"field05.png", "copy.jpg"})}


def test_the_painted_one_of_two_is_proposed_for_exclusion(tmp_path: Path, fields: dict[str, Picture]) -> None:
    pictures = {"a.png": paint_slime(fields["field00.png"]), "b.png": fields["field00.png"]}
    (finding,) = audit_cohort(write_cohort(tmp_path, pictures), checks=("near-duplicate",)).findings
    assert (finding.images, finding.proposal) == (("a.png", "b.png"), "exclude")


def test_equal_pixels_in_differing_files_are_exact_and_contradicting_labels_are_said(
    tmp_path: Path, fields: dict[str, Picture]
) -> None:
    cohort = write_cohort(tmp_path, {"a.png": fields["field00.png"], "b.bmp": fields["field00.png"]})
    audit = audit_cohort(cohort)
    finding, *contradictions = audit.findings
    assert (finding.code, finding.images, finding.proposal) == ("exact-duplicate", ("b.bmp", "a.png"), "exclude")
    assert [(f.code, f.images, f.proposal) for f in contradictions] == [
        ("contradicting-labels", ("a.png", "b.bmp"), "exclude"),
        ("contradicting-labels", ("b.bmp", "a.png"), "exclude"),
    ]
    assert finding.severity == "error"
    assert "contradict each other: a, b" in finding.message
    assert str(audit.outcomes["near-duplicate"]) == "nothing found"


def test_a_duplicate_across_the_parts_says_so_and_leaves_the_test_image(
    tmp_path: Path, fields: dict[str, Picture]
) -> None:
    picture = fields["field00.png"]
    cohort = write_cohort(tmp_path, {"t.png": picture, "a.png": np.fliplr(picture)}, unlabelled=("t.png",))
    (finding,) = audit_cohort(cohort).findings
    assert (finding.images, finding.proposal) == (("t.png", "a.png"), "keep")
    assert "unlabelled part: t.png" in finding.message


@pytest.mark.slow
def test_a_group_keeps_one_image(tmp_path: Path, fields: dict[str, Picture]) -> None:
    picture = fields["field00.png"]
    pictures = {
        "a.png": picture,
        "b.png": picture,
        "c.png": np.flipud(picture),
        "d.jpg": picture,
        "e.png": fields["field01.png"],
    }
    cohort = write_cohort(tmp_path, pictures)
    audit = audit_cohort(cohort)
    codes = ("exact-duplicate", "near-duplicate")
    excluded = {f.images[0] for f in audit.findings if f.proposal == "exclude" and f.code in codes}
    assert excluded == {"b.png", "c.png", "d.jpg"}
    joined = join_duplicates(cohort, audit.findings)
    assert len({s.case for s in joined.samples}) == 2


# --- blank, masks -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("level", [255, 235, 215])
def test_empty_glass_is_blank_and_no_duplicate_of_empty_glass(
    tmp_path: Path, fields: dict[str, Picture], level: int
) -> None:
    rng = np.random.default_rng(level)
    glass = {f"glass{i}.png": np.clip(rng.normal(level, 4, (300, 300, 3)), 0, 255).astype(np.uint8) for i in range(2)}
    audit = audit_cohort(write_cohort(tmp_path, {**fields, **glass}), checks=("blank", "near-duplicate"))
    assert pairs_of(audit, "blank") == {frozenset({name}) for name in glass}
    assert str(audit.outcomes["near-duplicate"]) == "nothing found"


def _draw_mask(seed: int, picture: Picture) -> Picture:
    rng = np.random.default_rng(seed)
    mask = np.zeros(picture.shape[:2], np.uint8)
    points = rng.integers(20, 300, (7, 2)).astype(np.int32)
    return np.asarray(cv2.fillPoly(mask, [points], 255), dtype=np.uint8)


@pytest.mark.slow
def test_one_mask_on_differing_images_is_found(tmp_path: Path, fields: dict[str, Picture]) -> None:
    masks = {name: _draw_mask(i, picture) for i, (name, picture) in enumerate(fields.items())}
    shared = {"field02.png", "field07.png", "field09.png"}
    masks |= dict.fromkeys(shared, masks["field02.png"])
    cohort = add_masks(write_cohort(tmp_path, fields, unlabelled=("field09.png",)), masks)
    audit = audit_cohort(cohort, checks=("shared-mask",))
    proposals = {f.images[0]: f.proposal for f in audit.findings if f.code == "shared-mask"}
    assert proposals == {"field02.png": "exclude", "field07.png": "exclude", "field09.png": "keep"}


@pytest.mark.slow
def test_duplicates_may_share_their_mask_and_full_masks_say_nothing(tmp_path: Path, fields: dict[str, Picture]) -> None:
    pictures = {**fields, "copy.png": (fields["field00.png"] * 0.8).astype(np.uint8)}
    masks = {name: np.full(picture.shape[:2], 255, np.uint8) for name, picture in pictures.items()}
    masks["field00.png"] = masks["copy.png"] = _draw_mask(0, fields["field00.png"])
    audit = audit_cohort(add_masks(write_cohort(tmp_path, pictures), masks), checks=("shared-mask",))
    assert str(audit.outcomes["shared-mask"]) == "nothing found"


@pytest.mark.slow
def test_a_mask_on_most_images_is_a_template_and_excludes_nothing(tmp_path: Path, fields: dict[str, Picture]) -> None:
    masks = dict.fromkeys(fields, _draw_mask(0, fields["field00.png"]))
    audit = audit_cohort(add_masks(write_cohort(tmp_path, fields), masks), checks=("shared-mask",))
    assert {f.proposal for f in audit.findings if f.code == "shared-mask"} == {"keep"}


@pytest.mark.slow
def test_a_mask_on_glass_is_found_and_one_that_touches_tissue_is_not(
    tmp_path: Path, fields: dict[str, Picture]
) -> None:
    pictures = {name: picture.copy() for name, picture in fields.items()}
    pictures["field04.png"][:, 220:] = 244  # half of it is glass
    masks = {name: _draw_mask(i, picture) for i, (name, picture) in enumerate(fields.items())}
    masks["field04.png"] = np.zeros_like(masks["field04.png"])
    masks["field04.png"][50:300, 240:420] = 255
    cohort = add_masks(write_cohort(tmp_path, pictures), masks)
    audit = audit_cohort(cohort, checks=("blank-under-mask", "blank"))
    assert pairs_of(audit, "blank-under-mask") == {frozenset({"field04.png"})}
    assert pairs_of(audit, "blank") == set()
    masks["field04.png"][50:300, 100:240] = 255
    audit = audit_cohort(add_masks(cohort, masks), checks=("blank-under-mask",))
    assert pairs_of(audit, "blank-under-mask") == set()


@pytest.mark.slow
def test_only_duplicates_that_disagree_contradict(tmp_path: Path, fields: dict[str, Picture]) -> None:
    turned = {"x.png": np.rot90(fields["field00.png"]), "y.png": np.fliplr(fields["field00.png"])}
    cohort = write_cohort(tmp_path, {**fields, **turned}, unlabelled=("y.png",))
    same = replace(cohort, labelled=tuple(replace(s, label="a") for s in cohort.labelled))
    only = ("contradicting-labels",)
    assert pairs_of(audit_cohort(same, checks=only), "contradicting-labels") == set()
    other = replace(same, labelled=tuple(replace(s, label="ab"[s.image == "x.png"]) for s in same.labelled))
    findings = audit_cohort(other, checks=only).findings
    # What has no label contradicts nothing, and nobody knows which of the two is right.
    assert [(f.images, f.proposal) for f in findings] == [
        (("field00.png", "x.png"), "exclude"),
        (("x.png", "field00.png"), "exclude"),
    ]


# --- the audit as a whole -----------------------------------------------------------------------------------------


def test_every_check_has_a_summary_and_answers_on_one_image(tmp_path: Path, fields: dict[str, Picture]) -> None:
    cohort = write_cohort(tmp_path, {"a.png": fields["field00.png"]})
    audit = audit_cohort(cohort)
    assert list(audit.outcomes) == [entry.name for entry in CHECKS]
    assert all(entry.summary for entry in CHECKS)
    assert str(audit.outcomes["near-duplicate"]) == "not applicable: fewer than two images"


def test_checks_are_chosen_by_name_and_progress_is_told(tmp_path: Path, fields: dict[str, Picture]) -> None:
    cohort = write_cohort(tmp_path, dict(list(fields.items())[:3]))
    seen: list[tuple[int, int]] = []
    audit = audit_cohort(cohort, checks=("blank",), progress=lambda *a: seen.append(a))
    assert list(audit.outcomes) == ["blank"]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert audit_cohort(cohort, checks=()).outcomes == {}
    with pytest.raises(PartError, match="Did you mean 'blank'"):
        audit_cohort(cohort, checks=("blnk",))


def test_findings_survive_the_file(tmp_path: Path, fields: dict[str, Picture]) -> None:
    cohort = write_cohort(tmp_path, {"a.png": fields["field00.png"], "b.png": np.fliplr(fields["field00.png"])})
    audit = audit_cohort(cohort)
    assert audit.findings
    assert read_findings(write_findings(tmp_path / "findings.json", audit)) == audit
    with pytest.raises(RunError, match="Fix:"):
        read_findings(tmp_path / "nothing.json")


# --- cases --------------------------------------------------------------------------------------------------------


def _plain_cohort(cases: list[str], *, tests: int = 0) -> Cohort:
    samples = [Sample(f"i{k}", Path(f"i{k}"), None, "ab"[k % 2], case, f"i{k}") for k, case in enumerate(cases)]
    cut = len(samples) - tests
    return Cohort(
        Path(), "table", tuple(samples[:cut]), tuple(replace(s, label=None) for s in samples[cut:]), ("a", "b")
    )


@given(
    cases=st.lists(st.sampled_from("pqrstu"), min_size=2, max_size=12),
    links=st.lists(st.lists(st.integers(0, 13), min_size=2, max_size=3), max_size=8),
    tests=st.integers(0, 2),
)
@settings(deadline=None)
def test_joined_cases_are_the_connected_components(cases: list[str], links: list[list[int]], tests: int) -> None:
    cohort = _plain_cohort(cases, tests=min(tests, len(cases)))
    findings = [Finding("near-duplicate", "warning", tuple(f"i{k}" for k in link), 1.0, "") for link in links]
    joined = join_duplicates(cohort, findings)
    old, new = ({s.image: s.case for s in c.samples} for c in (cohort, joined))
    # Independent: the transitive closure of "same case or duplicate" as a power of the adjacency matrix.
    names = list(old)
    near = np.array([[old[a] == old[b] for b in names] for a in names])
    for link in links:
        known = [k for k in link if k < len(names)]
        near[np.ix_(known, known)] = True
    reach = np.linalg.matrix_power(near.astype(np.int64), len(names)) > 0
    for i, a in enumerate(names):
        group = {old[b] for j, b in enumerate(names) if reach[i, j]}
        assert new[a] == min(group)
    assert replace(joined, labelled=cohort.labelled, unlabelled=cohort.unlabelled) == cohort


def test_other_findings_join_nothing() -> None:
    cohort = _plain_cohort(["p", "q"])
    assert join_duplicates(cohort, [Finding("shared-mask", "warning", ("i0", "i1"), 2.0, "")]) == cohort


# --- decisions ----------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), max_size=12)


@given(rows=st.lists(st.builds(Decision, TEXT, st.sampled_from(["keep", "exclude"]), *[TEXT] * 5), max_size=6))
@settings(deadline=None, max_examples=50)
def test_decisions_survive_the_file(tmp_path_factory: pytest.TempPathFactory, rows: list[Decision]) -> None:
    path = tmp_path_factory.mktemp("d") / "decisions.csv"
    assert read_decisions(write_decisions(path, rows)) == tuple(rows)


def decide(image: str, action: str, label: str = "") -> Decision:
    return Decision(image, action, "because", "reader", "2024-01-01", label=label)  # type: ignore[arg-type]


def test_decisions_are_appended_and_the_last_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    assert read_decisions(path) == ()
    append_decisions(path, [decide("i0", "exclude")])
    append_decisions(path, [decide("i0", "keep")])
    assert settle_decisions(read_decisions(path))["i0"].action == "keep"
    with path.open(encoding="utf-8", newline="") as file:
        assert tuple(next(csv.reader(file))) == DECISION_COLUMNS
    cohort = _plain_cohort(["p", "q", "r"])
    assert apply_decisions(cohort, read_decisions(path)) == cohort


def test_a_file_from_a_spreadsheet_is_read_and_a_foreign_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    path.write_bytes(b"\xef\xbb\xbfimage,action\r\ni0,exclude\r\n")
    assert read_decisions(path) == (Decision("i0", "exclude", "", "", ""),)
    path.write_text("image;action\ni0;exclude\n", encoding="utf-8")
    with pytest.raises(DataError, match="lacks image, action"):
        read_decisions(path)
    path.write_bytes("image,action\nKöln,keep\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        read_decisions(path)


def test_all_wrong_rows_are_told_at_once() -> None:
    rows = [decide("i9", "keep"), decide("i0", "burn"), decide("i1", "relabel", "z"), decide("i1", "relabel", "a")]
    with pytest.raises(DataError) as caught:
        validate_decisions(rows, images={"i0", "i1"}, classes=("a", "b"))
    assert [(p.code, p.file) for p in caught.value.problems] == [
        ("decision-image", "decisions.csv row 2"),
        ("decision-action", "decisions.csv row 3"),
        ("decision-label", "decisions.csv row 4"),
    ]
    validate_decisions(rows[3:], images={"i1"}, classes=("a", "b"))


def test_decisions_change_the_labelled_part_only() -> None:
    cohort = _plain_cohort(["p", "q", "r", "s", "t"], tests=1)
    rows = [decide("i0", "exclude"), decide("i1", "relabel", "a"), decide("i4", "exclude"), decide("gone", "exclude")]
    applied = apply_decisions(cohort, rows)
    assert [(s.image, s.label) for s in applied.labelled] == [("i1", "a"), ("i2", "a"), ("i3", "b")]
    assert applied.unlabelled == cohort.unlabelled
    assert applied.classes == cohort.classes
    assert "i4" in applied.notes[-1]


def test_emptying_a_class_is_an_error() -> None:
    cohort = _plain_cohort(["p", "q", "r"])
    with pytest.raises(DataError, match=r"class 'b'.*Fix: keep at least one"):
        apply_decisions(cohort, [decide("i1", "exclude")])


def test_no_rule_changes_labels() -> None:
    other = Finding("contradicting-labels", "error", ("i3",), 1.0, "other", "relabel", {"label": "a"})
    for codes, findings in ((("blank", "label-suspect"), ()), (("contradicting-labels",), (other,))):
        with pytest.raises(RecipeError, match=r"no rule may change labels.*Fix: .*smalti review"):
            accept_proposals(findings, codes, decided=())
    recipe = load_recipe(settings=["audit.accept=[label-suspect]"])
    with pytest.raises(RecipeError, match="no rule may change labels"):  # before the folder is looked for
        inspect_ground(Project(Path("nowhere")), recipe)


def test_where_a_label_belongs_to_the_case_only_the_whole_case_gets_another() -> None:
    cohort = _plain_cohort(["p", "q", "p", "q", "r"])
    bound = find_bound_cases(cohort)
    assert bound == {"i0": ("i0", "i2"), "i2": ("i0", "i2"), "i1": ("i1", "i3"), "i3": ("i1", "i3")}
    part, other = [decide("i0", "relabel", "b")], [decide("i0", "relabel", "b"), decide("i2", "keep")]
    whole, rest = [*part, decide("i2", "relabel", "b")], [*part, decide("i2", "exclude")]
    names = {s.image for s in cohort.samples}
    for rows in (part, other):
        for refuse in (
            lambda rows=rows: apply_decisions(cohort, rows),
            lambda rows=rows: validate_decisions(rows, images=names, classes=cohort.classes, bound=bound),
        ):
            with pytest.raises(DataError, match=r"i0 is relabelled and i2 is not.*Fix: relabel i0, i2 alike"):
                refuse()
    for rows in (whole, rest):
        validate_decisions(rows, images=names, classes=cohort.classes, bound=bound)
        assert all(s.label == "b" for s in apply_decisions(cohort, rows).labelled if s.case == "p")
    mixed = _plain_cohort(["p", "p", "p", "q"])
    assert find_bound_cases(mixed) == {}
    assert apply_decisions(mixed, part).labelled[0].label == "b"
    assert find_bound_cases(_plain_cohort(["p", "q", "r"])) == {}  # each image is its own case


def test_a_rule_accepts_only_named_codes_and_overrules_nobody() -> None:
    findings = [
        Finding("blank", "warning", ("i0",), 1.0, "empty", "exclude"),
        Finding("blank", "warning", ("i1",), 1.0, "empty", "exclude"),
        Finding("blank", "warning", ("i2",), 1.0, "empty", "keep"),
        Finding("exact-duplicate", "warning", ("i0", "i3"), 1.0, "twin", "exclude"),
        Finding("shared-mask", "warning", ("i4",), 2.0, "shared", "exclude"),
    ]
    accepted = accept_proposals(findings, ("blank", "exact-duplicate"), decided=[decide("i1", "keep")])
    assert [(d.image, d.action, d.who, d.finding) for d in accepted] == [("i0", "exclude", "rule", "blank")]
    with pytest.raises(PartError, match="Did you mean 'blank'"):
        accept_proposals(findings, ("blanc",), decided=())


# --- whose mask ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_whose_mask_it_is_shows_when_the_others_are_no_tissue(tmp_path: Path, fields: dict[str, Picture]) -> None:
    blank = np.random.default_rng(0).normal(244, 1.5, (360, 440, 3)).round().astype(np.uint8)
    cohort = write_cohort(tmp_path, {**fields, "glass.png": blank})
    samples = []
    for number, sample in enumerate(cohort.labelled):
        # Every image has an outline of its own but the glass, which has that of another.
        rng = np.random.default_rng(2 if sample.image == "glass.png" else number)
        mask = np.zeros((360, 440), np.uint8)
        for row, col in rng.integers(20, 300, (5, 2)):
            cv2.circle(mask, (int(col), int(row)), int(rng.integers(15, 60)), 255, -1)
        path = tmp_path / f"mask{number}.png"
        cv2.imwrite(str(path), mask)
        samples.append(replace(sample, mask_path=path))
    audit = audit_cohort(replace(cohort, labelled=tuple(samples)), checks=("shared-mask",))
    assert {f.images[0]: (f.severity, f.proposal) for f in audit.findings} == {
        cohort.labelled[2].image: ("info", "keep"),
        "glass.png": ("warning", "exclude"),
    }


def test_a_sealed_label_is_hidden_whatever_the_message_says(
    tmp_path: Path, fields: dict[str, Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smalti.audit.checks.copies.CONTRADICTION", "Some say {}; it is not known who is right.")
    cohort = write_cohort(tmp_path, {"one.png": fields["field00.png"], "two.png": fields["field00.png"]})
    labelled = tuple(replace(s, label=f"subtype-{s.label}") for s in cohort.labelled)
    cohort = replace(cohort, labelled=labelled, classes=("subtype-a", "subtype-b"))
    seen = audit_cohort(cohort)
    assert "Some say subtype-a, subtype-b" in json.dumps([f.message for f in seen.findings])
    sealed = replace(cohort, labelled=(), sealed=tuple(replace(s, label=None) for s in labelled))
    path = write_findings(tmp_path / "findings.json", hide_sealed(seen, sealed))
    assert "subtype" not in path.read_text(encoding="utf-8")
    (finding,) = [f for f in read_findings(path).findings if f.code == "exact-duplicate"]
    assert finding.severity == "warning"
    assert finding.message == "two.png has the same pixels as one.png."


def test_results_of_checks_are_read_as_they_were_written() -> None:
    for result in (CheckResult(0), CheckResult(3), CheckResult(None, "no mask"), CheckResult(2, "5 small images")):
        assert CheckResult.parse(str(result)) == result
