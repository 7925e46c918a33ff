"""The audit beside cleanvision and imagededup on the same planted folders, per kind. Runs in an environment of its own:

    python -m venv peers
    peers/bin/pip install cleanvision==0.3.7 imagededup==0.3.3.post2 timm==1.0.31 safetensors==0.8.0
    python benchmarks/bench_audit.py SOURCE ... --keep PLANTED            (in smalti's environment; plants and audits)
    peers/bin/python benchmarks/bench_peers.py PLANTED [--weights FILE] [--write FLAGS.csv]

PLANTED is what bench_audit kept; every folder ``X-SEED`` in it has its truth, and its findings in ``X-SEED.audit/``.
imagededup's own network cannot be had without a download: *not applicable*. --weights (safetensors of timm
``mobilenetv2_100`` without head, which imagededup accepts as a model of the user's) stands in for it.

imagededup looks for duplicates alone; a tool that does not look for a kind has no row. cleanvision does not look for
foreign or painted images either: for these, and for blank ones, any of its findings about single images counts (dark,
light, low information, blurry, grey, odd size, odd aspect ratio). Each peer has two rows: its defaults, and the best
that it can do in hindsight: of all its codes and thresholds the one with the best F1 on this very folder and kind,
chosen with the truth in hand. smalti has its defaults. Recall, precision and wrong are those of ``bench_audit.py``;
medians over the seeds, with the range. Seconds are of the whole folder.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import logging
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from scoring import IMAGE_KINDS, PAIR_KINDS, Flags, Score, describe, read_flags, read_truth, score_images, score_pairs

SINGLE = ("dark", "light", "low_information", "blurry", "grayscale", "odd_size", "odd_aspect_ratio")
HASHES = ("PHash", "AHash", "DHash", "WHash")
FARTHEST = 10  # imagededup's default, of 64 bits
LIKEST = 0.9  # its default for networks
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
ROW = "{:<16} {:<50} {:<21} {:<21} {}"


class Claim(NamedTuple):
    """Flags of a tool under one setting, and the codes that answer a kind."""

    flags: Flags
    codes: tuple[str, ...]


class Tool(NamedTuple):
    """What a tool said of one folder: per kind its defaults first, then all that can be chosen in hindsight."""

    claims: dict[str, list[Claim]]
    seconds: float


def list_images(folder: Path) -> list[str]:
    """The images of a planted folder or of a drawn cohort; no masks."""
    if (folder / "samples.csv").exists():
        with (folder / "samples.csv").open(encoding="utf-8", newline="") as file:
            return [row["image"] for row in csv.DictReader(file)]
    files = (p for p in sorted(folder.rglob("*")) if p.suffix in SUFFIXES and not p.name.startswith("mask_"))
    return [p.relative_to(folder).as_posix() for p in files]


def ask_smalti(folder: Path) -> Tool:
    """Read what bench_audit kept."""
    kept = folder.with_name(f"{folder.name}.audit")
    flags = read_flags(kept / "findings.json")
    claims = {kind: [Claim(flags, (kind,))] for kind in (*IMAGE_KINDS, *PAIR_KINDS) if kind in flags.codes}
    return Tool(claims, float((kept / "seconds.txt").read_text()))


def ask_cleanvision(folder: Path) -> Tool:
    """All its checks with their defaults; then every threshold of every score, and other hashes."""
    from cleanvision import Imagelab

    names = {str(folder / name): name for name in list_images(folder)}
    start = time.perf_counter()
    lab = Imagelab(filepaths=list(names), verbose=False)
    lab.find_issues(n_jobs=2, verbose=False)
    seconds = time.perf_counter() - start
    flags = Flags(codes=set(SINGLE))
    for code in SINGLE:
        flags.images[code] = {names[p] for p in lab.issues.index[lab.issues[f"is_{code}_issue"]]}
    sweeps = [Claim(flags, (code,)) for code in SINGLE]
    for code in SINGLE:
        scores = lab.issues[f"{code}_score"]
        for limit in sorted(set(scores))[: len(scores) // 2]:  # low is bad
            one = Flags(images={code: {names[p] for p in scores.index[scores <= limit]}})
            sweeps.append(Claim(one, (code,)))
    claims = {kind: [Claim(flags, SINGLE), *sweeps] for kind in IMAGE_KINDS}
    for kind in PAIR_KINDS:
        _read_sets(lab, flags, kind=kind, names=names)
        claims[kind] = [Claim(flags, (kind,)), Claim(flags, PAIR_KINDS)]
    claims["near-duplicate"] += _try_hashes(names)
    return Tool(claims, seconds)


def _try_hashes(names: dict[str, str]) -> list[Claim]:
    """cleanvision calls images of equal hashes near-duplicates; other hashes, and shorter ones, than its default."""
    from cleanvision.issue_managers.duplicate_issue_manager import get_hash
    from PIL import Image

    groups: dict[tuple[str, int], dict[str, list[str]]] = {}
    for path, name in names.items():
        with Image.open(path) as image:
            for hashing in ("phash", "whash"):
                for size in (8, 4):
                    value = get_hash(image, {"hash_type": hashing, "hash_size": size})
                    groups.setdefault((hashing, size), {}).setdefault(value, []).append(name)
    found = [{frozenset({s[0], o}) for s in sets.values() for o in s[1:]} for sets in groups.values()]
    return [Claim(Flags(pairs={"near-duplicate": pairs}), ("near-duplicate",)) for pairs in found]


def _read_sets(lab: Any, flags: Flags, *, kind: str, names: dict[str, str]) -> None:
    """Sets of duplicates as pairs with their first."""
    sets = lab.info[f"{kind.replace('-', '_')}s"]["sets"]
    flags.pairs[kind] = {frozenset({names[s[0]], names[other]}) for s in sets for other in s[1:]}


def ask_imagededup(folder: Path, method: Any, *, defaults: dict[str, float], limits: list[dict[str, float]]) -> Tool:
    """One of its methods; it knows duplicates only, and does not tell exact from near."""
    with tempfile.TemporaryDirectory() as scratch:  # it wants all images directly in one folder
        links = {}
        for number, name in enumerate(list_images(folder)):
            link = Path(scratch) / f"{number:05d}{Path(name).suffix}"
            link.symlink_to((folder / name).resolve())
            links[link.name] = name
        start = time.perf_counter()
        encodings = method.encode_images(image_dir=Path(scratch), num_enc_workers=2)
        flags = _find_pairs(method, encodings, links, defaults)
        seconds = time.perf_counter() - start
    sweeps = [_find_pairs(method, encodings, links, limit) for limit in limits]
    return Tool({k: [Claim(f, ("duplicate",)) for f in (flags, *sweeps)] for k in PAIR_KINDS}, seconds)


def _find_pairs(method: Any, encodings: Any, links: dict[str, str], limit: dict[str, float]) -> Flags:
    found = method.find_duplicates(encoding_map=encodings, **limit)
    return Flags(pairs={"duplicate": {frozenset({links[a], links[b]}) for a, others in found.items() for b in others}})


def ask_hash(name: str) -> Callable[[Path], Tool]:
    """One of imagededup's hashes, with distances up to 24 of 64 bits in hindsight."""

    def ask(folder: Path) -> Tool:
        import imagededup.methods

        limits = [{"max_distance_threshold": limit} for limit in range(25)]
        method = getattr(imagededup.methods, name)(verbose=False)
        return ask_imagededup(folder, method, defaults={"max_distance_threshold": FARTHEST}, limits=limits)

    return ask


def ask_network(weights: Path) -> Callable[[Path], Tool]:
    """imagededup with a network from a file."""

    def ask(folder: Path) -> Tool:
        import timm
        from imagededup.methods import CNN
        from imagededup.utils.models import CustomModel, MobilenetV3
        from safetensors.torch import load_file

        network = timm.create_model("mobilenetv2_100", num_classes=0).eval()
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(weights).items()})
        method = CNN(verbose=False, model_config=CustomModel("mobilenetv2_100", network, MobilenetV3.transform))
        limits = [{"min_similarity_threshold": 0.5 + limit / 100} for limit in range(50)]
        return ask_imagededup(folder, method, defaults={"min_similarity_threshold": LIKEST}, limits=limits)

    return ask


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Without the progress bars and notices of the peers."""
    logging.disable(logging.INFO)
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings(action="ignore"):
        yield


def score(folder: Path, kind: str, claim: Claim) -> Score:
    """One claim against the truth of its folder."""
    scorer = score_pairs if kind in PAIR_KINDS else score_images
    return scorer(read_truth(folder), claim.flags, kind=kind, codes=claim.codes)


def print_kind(kind: str, folders: list[Path], answers: dict[str, list[Tool]]) -> None:
    """A row for each tool that looks for the kind, and one for its best in hindsight."""
    for name, tools in answers.items():
        if not all(kind in tool.claims for tool in tools):
            continue
        scores = [[score(f, kind, c) for c in t.claims[kind]] for f, t in zip(folders, tools, strict=True)]
        rows = {name: [s[0] for s in scores]}
        if any(len(s) > 1 for s in scores):
            rows[f"{name}, best in hindsight"] = [max(s, key=lambda one: one.f1) for s in scores]
        for label, chosen in rows.items():
            recall, precision = describe([s.recall for s in chosen]), describe([s.precision for s in chosen])
            print(ROW.format(kind, label, recall, precision, describe([s.wrong for s in chosen], digits=0)))


def write_flags(path: Path, answers: dict[Path, dict[str, Tool]]) -> None:
    """What each tool said with its defaults: a row per image and code, or per pair."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["folder", "tool", "kind", "image", "code", "other"])
        for folder, tools in answers.items():
            for name, kind, claims in ((n, k, c) for n, tool in tools.items() for k, c in tool.claims.items()):
                flags, codes = claims[0]
                sets = flags.pairs if kind in PAIR_KINDS else flags.images
                found = [(item, code) for code in codes for item in sets.get(code, ())]
                rows = (([item] if isinstance(item, str) else sorted(item), code) for item, code in found)
                writer.writerows([folder.name, name, kind, one[0], code, *one[1:]] for one, code in sorted(rows))


def main() -> None:
    """Print a table for each source, then the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("planted", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    kept = sorted(p.with_suffix("") for p in args.planted.glob("*.audit"))
    folders = [p for p in kept if (p / "truth" / "planted.csv").exists()]
    tools: dict[str, Callable[[Path], Tool]] = {"smalti": ask_smalti, "cleanvision": ask_cleanvision}
    tools |= {f"imagededup {name}": ask_hash(name) for name in HASHES}
    if args.weights is not None:
        tools["imagededup CNN, given weights"] = ask_network(args.weights)
    written = {}
    for source in sorted({re.sub(r"-\d+$", "", folder.name) for folder in folders}):
        chosen = [folder for folder in folders if re.sub(r"-\d+$", "", folder.name) == source]
        with silence():
            answers = {name: [ask(folder) for folder in chosen] for name, ask in tools.items()}
        print(f"\n{source}: {len(chosen)} planted cohort(s)")
        print(ROW.format("kind", "tool", "recall", "precision", "wrong"))
        for kind in (*IMAGE_KINDS, *PAIR_KINDS):
            print_kind(kind, chosen, answers)
        for name, found in answers.items():
            print(f"seconds {name}: {describe([tool.seconds for tool in found], digits=1)}", flush=True)
        written |= {folder: {name: answers[name][i] for name in tools} for i, folder in enumerate(chosen)}
    if args.weights is None:
        print("imagededup CNN: not applicable: its weights are a download")
    if args.write is not None:
        write_flags(args.write, written)


if __name__ == "__main__":
    main()
