"""Weights files: what training scripts wrap around a network's tensors, which of them fit, and what does not.

Nothing is unpickled but tensors, plain containers and a few records of numbers; what else a file holds is not loaded.
What wraps a network is not guessed from a list of names: it is whatever goes before the names of all its tensors.
"""

from __future__ import annotations

import argparse
import difflib
import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import timm
import torch
from torch import nn

from ..errors import WeightsError
from ..packages import Package, check_package, describe_package

State = dict[str, torch.Tensor]

HEADS = ("classifier", "fc", "head", "heads")
INNER_WRAPS = re.compile(r"(?<=\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
DEEPEST = 8  # of mappings in mappings; checkpoints have two or three
COUNTER = "num_batches_tracked"  # of a batch normalisation; it changes no output, and older files lack it
# Where several networks fit: the average of weights is what its authors score, and a query is what they hand on.
PREFERRED = (("the averaged network", ("ema", "teacher", "swa", "averaged")), ("the query", ("q", "query", "online")))
# What records beside the tensors are made of; building one runs nothing but its own constructor.
SCALAR = np.float64(0).__reduce__()[0]  # of numpy, under its names in releases 1 and 2
RECORDS: tuple[Any, ...] = (
    argparse.Namespace, np.dtype, *(type(np.dtype(kind)) for kind in "?bhilBHILefd"),
    (SCALAR, "numpy.core.multiarray.scalar"), (SCALAR, "numpy._core.multiarray.scalar"),
)  # fmt: skip
SAVE = (
    "torch.save(network.state_dict(), 'FILE.pth'), or safetensors.torch.save_file(network.state_dict(), "
    "'FILE.safetensors')"
)
# A name by which a family is known, and its members, the usual ones first.
FAMILIES = {
    "layer1.0.conv1.weight": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d"),
    "conv_stem.weight": (
        "mobilenetv2_100", "efficientnet_b0", "mobilenetv3_large_100", "tf_efficientnet_lite0", "efficientnet_b1",
        "tf_efficientnet_lite1", "tf_efficientnet_lite2", "efficientnet_b2", "efficientnet_b3", "tf_efficientnetv2_s",
    ),
    "patch_embed.proj.weight": (
        "vit_small_patch16_224", "vit_base_patch16_224", "vit_large_patch16_224", "vit_tiny_patch16_224",
        "swin_tiny_patch4_window7_224",
    ),
    "stages.0.blocks.0.conv_dw.weight": ("convnext_tiny", "convnext_small", "convnext_base"),
    "features.denseblock1.denselayer1.conv1.weight": ("densenet121", "densenet169", "densenet201"),
}  # fmt: skip
NEIGHBOURS = 6  # of the backbone's own family that are tried too, those of the nearest names


@dataclass(frozen=True, slots=True)
class Fit:
    """A network of a weights file under one prefix of its tensors' names.

    Attributes:
        label: where it is: keys of the file and prefix, with dots; empty where nothing wraps it.
        tensors: by the names that the backbone has.
        others: names of the file beside it, or of a head.
        faults: of each tensor that does not fit, its name, what is there and what is wanted.
    """

    label: str
    tensors: State
    others: tuple[str, ...]
    faults: tuple[tuple[str, str, str], ...]


def load_weights(
    module: nn.Module, path: Path, *, name: str, heads: Iterable[str] = (), part: str | None = None
) -> str | None:
    """Load a weights file into a network; a former last layer is left out, anything else that differs is an error.

    ``name`` is timm's of the backbone, ``heads`` are names of last layers beside the usual ones; ``part`` chooses where
    a file holds several networks.
    Returns one sentence about what was unwrapped, chosen, left out or converted; None where nothing was.

    Raises:
        WeightsError: no file, no tensors, tensors that do not fit, NaN weights, or several networks.
    """
    states = [
        (label, {INNER_WRAPS.sub("", name): tensor for name, tensor in state.items()})
        for label, state in find_states(read_checkpoint(path))
    ]
    if not states:
        raise WeightsError(f"{path} holds no tensors by name", fix="save the state_dict alone, best as .safetensors")
    wanted, heads = module.state_dict(), {*heads, *HEADS}
    fits = find_fits(states, wanted, heads=heads)
    if fits[0].faults:
        what, fix = _describe_misfit(fits[0], states, name, heads)
        raise WeightsError(f"{path} does not fit the backbone {name}: {what}", fix=fix)
    fit, reason = _choose([fit for fit in fits if not fit.faults], path=path, part=part)
    broken = [name for name, tensor in fit.tensors.items() if not torch.isfinite(tensor.float()).all()]
    if broken:
        raise WeightsError(
            f"{path} holds NaN or infinite weights: {', '.join(broken[:3])}{', ...' if len(broken) > 3 else ''}",
            fix="take an earlier checkpoint of that training",
        )
    module.load_state_dict(wanted | {name: tensor.to(wanted[name].dtype) for name, tensor in fit.tensors.items()})
    parts = [f"taken from '{fit.label}'{f', {reason}' if reason else ''}"] if fit.label or reason else []
    if fit.others:
        shown = f"{', '.join(fit.others[:3])}{', ...' if len(fit.others) > 3 else ''}"
        parts.append(f"{len(fit.others)} tensors left out ({shown})")
    kinds = sorted({str(t.dtype)[6:] for t in fit.tensors.values() if t.is_floating_point()} - {"float32"})
    if kinds:
        parts.append(f"{' and '.join(kinds)} read as float32")
    if len(fit.tensors) < len(wanted):
        parts.append(f"no {COUNTER} in it, which changes no output")
    return f"weights {path.name}: {'; '.join(parts)}" if parts else None


def load_package(module: nn.Module, package: Package) -> str:
    """Load a package's weights into its backbone without last layer; return one sentence about what was taken.

    The file names its tensors in its own way and keeps them in timm's order; all must agree in last name and shape.

    Raises:
        WeightsError: the file is missing, damaged, or has other layers than timm's network.
    """
    path = check_package(package)
    theirs = {name: value for name, value in read_checkpoint(path).items() if COUNTER not in name}
    with torch.device("meta"):  # shapes without numbers
        whole = {n: v for n, v in timm.create_model(package.backbone).state_dict().items() if COUNTER not in n}
    pairs = list(zip(theirs, whole, strict=False))
    unlike = [
        f"{their} {tuple(theirs[their].shape)} beside {our} {tuple(whole[our].shape)}"
        for their, our in pairs
        if their.split(".")[-1] != our.split(".")[-1] or theirs[their].shape != whole[our].shape
    ]
    if unlike or len(theirs) != len(whole):
        raise WeightsError(
            f"{path} does not fit {package.backbone} of timm {timm.__version__}: {len(theirs)} tensors for "
            f"{len(whole)}{'; ' if unlike else ''}{'; '.join(unlike[:3])}",
            fix="install a timm that smalti asks for",
        )
    wanted = module.state_dict()
    module.load_state_dict(wanted | {our: theirs[their] for their, our in pairs if our in wanted})
    return f"weights of {package.backbone} from package {describe_package(package)}, trained on ImageNet-1k"


def read_checkpoint(path: Path) -> Any:
    """Return whatever a weights file holds of tensors and plain containers, by its content and not by its suffix.

    Raises:
        WeightsError: it is missing or damaged, no such file, or holds what would have to be executed.
    """
    if path.is_dir():
        raise WeightsError(f"{path} is a folder", fix="--set model.weights= with the file in it")
    if not path.is_file():
        raise WeightsError(f"no weights file at {path.resolve()}", fix="check model.weights")
    try:
        with path.open("rb") as file, torch.serialization.safe_globals([*RECORDS]):
            head = file.read(64)
            if head[8:9] == b"{" or (path.suffix == ".safetensors" and not head.startswith(b"PK")):
                return safetensors.torch.load_file(path)
            if head.startswith(b"PK") and any(n.endswith("constants.pkl") for n in zipfile.ZipFile(path).namelist()):
                raise WeightsError(f"{path} is a TorchScript program, which would have to be executed", fix=f"{SAVE}")
            file.seek(0)
            # Opened here, since torch goes by the suffix of a path.
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        kind = re.search(r"Unsupported (?:global: GLOBAL|class) ([\w.]+)", str(error))
        if kind is None and not head.startswith((b"PK", b"\x80")):
            raise WeightsError(
                f"{path} is no weights file: it begins with {head[:24]!r}", fix="fetch it again"
            ) from None
        what = f"a pickled object ({kind[1]})" if kind is not None else "more than tensors"
        raise WeightsError(
            f"{path} holds {what}, which would have to be executed, and is not loaded",
            fix=f"where it was trained, {SAVE}",
        ) from None
    except (OSError, RuntimeError, ValueError, safetensors.SafetensorError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error) or "it ends too early"
        raise WeightsError(f"{path} cannot be read as weights: {reason}", fix="fetch or save it again") from error


def find_states(content: Any, label: str = "", depth: int = 0) -> Iterator[tuple[str, State]]:
    """Yield every mapping of names to tensors in a checkpoint, outermost first, and where it is."""
    if not isinstance(content, Mapping) or depth > DEEPEST:
        return
    state = {name: v for name, v in content.items() if isinstance(name, str) and isinstance(v, torch.Tensor)}
    if state:
        yield label, state
    for name, inner in content.items():
        yield from find_states(inner, f"{label}.{name}".lstrip("."), depth + 1)


def find_fits(states: Iterable[tuple[str, State]], wanted: State, *, heads: Iterable[str]) -> list[Fit]:
    """Find every network that fits, or the nearest one if none does."""
    fits: list[Fit] = []
    for label, state in states:
        ends = ((name[: len(name) - len(end)], end) for name in state for end in _list_ends(name))
        prefixes = dict.fromkeys(("", *(prefix for prefix, end in ends if end in wanted)))
        fits += [_fit(state, prefix, wanted, label=label, heads=heads) for prefix in prefixes]
    found = [fit for fit in fits if not fit.faults]
    return found or [min(fits, key=lambda fit: len({name for name, _, _ in fit.faults} & wanted.keys()))]


def _list_ends(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[i:]) for i in range(len(parts)))


def _fit(state: State, prefix: str, wanted: State, *, label: str, heads: Iterable[str]) -> Fit:
    mine = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    tensors = {name: tensor for name, tensor in mine.items() if name in wanted}
    extra = [name for name in mine if name not in wanted]
    dropped = [name for name in extra if name.split(".")[0] in heads]
    beside = [name for name in state if not name.startswith(prefix)]
    faults = []
    for name, tensor in wanted.items():
        there = tensors.get(name)
        alike = there is not None and there.shape == tensor.shape
        kinds = there is not None and there.is_floating_point() == tensor.is_floating_point()
        if not ((there is None or alike) if name.endswith(COUNTER) else (alike and kinds)):
            faults.append((name, _show(there), _show(tensor)))
    faults += [(name, _show(mine[name]), "nothing") for name in extra if name not in dropped]
    others = (*(prefix + name for name in dropped), *beside)
    return Fit(".".join(filter(None, (label, prefix.rstrip(".")))), tensors, others, tuple(faults))


def _show(tensor: torch.Tensor | None) -> str:
    if tensor is None:
        return "nothing"
    return f"{tuple(tensor.shape)}{'' if tensor.is_floating_point() else f' of {str(tensor.dtype)[6:]}'}"


def _choose(fits: list[Fit], *, path: Path, part: str | None) -> tuple[Fit, str]:
    """Return the network of a file that is meant, and why where there were several."""
    labels = [fit.label or "the outermost" for fit in fits]
    if part is not None:
        fits = [fit for fit in fits if f".{part}." in f".{fit.label}."]
        if not fits:
            raise WeightsError(
                f"{path} has no network '{part}'; those that fit: {', '.join(labels)}",
                fix="--set model.weights_part with one of them, or leave it out",
            )
    unlike: list[Fit] = []
    for fit in fits:
        kept = [(name, tensor) for name, tensor in fit.tensors.items() if COUNTER not in name]
        if not any(all(torch.equal(tensor, other.tensors[name]) for name, tensor in kept) for other in unlike):
            unlike.append(fit)
    if len(unlike) == 1:
        return unlike[0], f"all alike of {', '.join(labels)}" if part is None and len(fits) > 1 else ""
    for what, words in PREFERRED:
        chosen = [fit for fit in unlike if set(words) & set(re.split(r"[._]", fit.label.lower()))]
        if len(chosen) == 1:
            rest = ", ".join(label for label in labels if label != chosen[0].label)
            return chosen[0], f"{what}, and not {rest} (--set model.weights_part=...)"
    raise WeightsError(
        f"{path} holds {len(unlike)} networks that fit and differ: {', '.join(fit.label for fit in unlike)}",
        fix=f"--set model.weights_part={unlike[0].label or unlike[1].label}, or another",
    )


def _describe_misfit(fit: Fit, states: list[tuple[str, State]], name: str, heads: Iterable[str]) -> tuple[str, str]:
    """Return how the nearest network differs from the backbone ``name``, and what to do."""
    missing = sum(there == "nothing" for _, there, _ in fit.faults)
    extra = sum(wanted == "nothing" for _, _, wanted in fit.faults)
    counts = ((missing, "missing"), (extra, "too many"), (len(fit.faults) - missing - extra, "of another shape"))
    summary = ", ".join(f"{count} {what}" for count, what in counts if count)
    # What has another shape says most about which network it is.
    ranked = sorted(fit.faults, key=lambda fault: "nothing" in fault[1:])
    shown = "; ".join(f"{tensor} has {there} there, {wanted} is wanted" for tensor, there, wanted in ranked[:3])
    place = f" (in '{fit.label}')" if fit.label else ""
    # Of the family that the names of the tensors tell, and of the one that was asked for.
    ends = {end for _, state in states for tensor in state for end in _list_ends(tensor)}
    known = [other for sign, members in FAMILIES.items() if sign in ends for other in members]
    family = timm.model_entrypoint(name).__module__.rpartition(".")[2] if timm.is_model(name) else ""
    near = difflib.get_close_matches(name, timm.list_models(module=family) if family else [], n=NEIGHBOURS, cutoff=0)
    tried = [other for other in dict.fromkeys((*known, *near)) if other != name]
    for other in tried:
        with torch.device("meta"):  # shapes without numbers
            layers = timm.create_model(other, pretrained=False, num_classes=0).state_dict()
        if not find_fits(states, layers, heads=heads)[0].faults:
            return f"{summary}{place}. {shown}. They are those of timm's {other}", f"--set model.backbone={other}"
    return f"{summary}{place}. {shown}. No other of {len(tried)} that were tried fits", "check model.backbone"
