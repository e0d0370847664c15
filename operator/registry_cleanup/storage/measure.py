"""How much content a registry's storage holds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from registry_cleanup.storage.errors import UnknownLayoutError

# Below the storage driver's root directory; the same in Distribution 2 and 3.
_V2 = Path("docker", "registry", "v2")
_BLOBS = _V2 / "blobs"
_CONTENT = "data"
# As the dry run of both Distribution 2.8 and 3.1 tells it.
_ELIGIBLE = re.compile(r"blob eligible for deletion: (?P<algorithm>[a-z0-9]+):(?P<hex>[0-9a-f]{32,})\s*$")


@dataclass(frozen=True, slots=True)
class Measure:
    """What the blobs of a storage take.

    Attributes:
        bytes: of their content, exactly.
        blobs: how many there are.
    """

    bytes: int
    blobs: int


def measure(root: Path) -> Measure:
    """Return what the blobs below `root` take, the storage driver's root directory.

    Raises:
        UnknownLayoutError: no registry has stored anything there: most likely another folder was meant.
        OSError: something could not be read; half of a sum says nothing.
    """
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is no folder")
    if not (root / _V2).is_dir():
        raise UnknownLayoutError(
            f"{root} holds no {_V2}: --root has to be the rootdirectory of a registry's filesystem storage"
        )
    sizes = list(_sizes(root / _BLOBS)) if (root / _BLOBS).exists() else []
    return Measure(sum(sizes), len(sizes))


def eligible(root: Path, output: Path) -> Measure:
    """Return what those blobs take that the registry's dry run calls eligible for deletion in its `output`.

    Raises:
        OSError: the output or one of these blobs could not be read.
    """
    found = set()
    with output.open(errors="replace") as lines:
        for line in lines:
            if (match := _ELIGIBLE.search(line)) is not None:
                found.add((match["algorithm"], match["hex"]))
    sizes = [(root / _BLOBS / algorithm / hex_[:2] / hex_ / _CONTENT).stat().st_size for algorithm, hex_ in found]
    return Measure(sum(sizes), len(sizes))


def _sizes(folder: Path) -> Iterator[int]:
    """Yield the size of each blob's content: `blobs/ALGORITHM/HE/HEX/data`."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(Path(entry.path))
            elif entry.name == _CONTENT:
                yield entry.stat(follow_symlinks=False).st_size
