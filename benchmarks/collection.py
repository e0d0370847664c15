"""How long `registry garbage-collect` takes, and what it needs and frees, on storage of as many images as wanted.

Run from the repository's root: `python -m benchmarks.collection [images …]`, by default 1000 and 10000. For each number
and for Distribution 2.8 and 3.1 it lays out a storage folder as the registry does, half of the images as a prune by
digest leaves them, and measures the dry run and the collection. The files are small: what counts is their number.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tests.support.binaries import binary
from tests.support.registries import Version

_REPOSITORIES = 10
_SHARED_LAYERS = 5
_OWN_LAYER = 16_384
_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True)
class Measured:
    """One call of the registry's program.

    Attributes:
        seconds: How long it took.
        mebibytes: Its greatest resident memory.
    """

    seconds: float
    mebibytes: float


class Storage:
    """A filesystem storage of the registry, written without the registry."""

    def __init__(self, root: Path) -> None:
        self._root = root / "docker/registry/v2"

    def fill(self, images: int) -> None:
        """Lay out so many images, spread over the repositories; half of them as a prune by digest leaves them."""
        shared = [self._blob(f"shared layer {number}".encode() * 512) for number in range(_SHARED_LAYERS)]
        for number in range(images):
            self._image(f"team/app-{number % _REPOSITORIES}", number, shared, pruned=number % 20 >= _REPOSITORIES)

    def _image(self, repository: str, number: int, shared: Sequence[dict[str, object]], *, pruned: bool) -> None:
        config = self._blob(json.dumps({"architecture": "amd64", "os": "linux", "number": number}).encode())
        layer = self._blob((b"%020d" % number) * (_OWN_LAYER // 20))
        document = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": {"mediaType": _CONFIG_TYPE, **config},
            "layers": [{"mediaType": _LAYER_TYPE, **part} for part in (*shared, layer)],
        }
        manifest = str(self._blob(json.dumps(document).encode())["digest"])
        for part in (config, layer, *shared):
            self._link(f"{repository}/_layers", str(part["digest"]))
        if not pruned:
            self._link(f"{repository}/_manifests/revisions", manifest)
            self._link(f"{repository}/_manifests/tags/v{number}/index", manifest)
            self._write(f"repositories/{repository}/_manifests/tags/v{number}/current/link", manifest.encode())

    def _blob(self, content: bytes) -> dict[str, object]:
        hexadecimal = hashlib.sha256(content).hexdigest()
        self._write(f"blobs/sha256/{hexadecimal[:2]}/{hexadecimal}/data", content)
        return {"digest": f"sha256:{hexadecimal}", "size": len(content)}

    def _link(self, folder: str, digest: str) -> None:
        self._write(f"repositories/{folder}/{digest.replace(':', '/')}/link", digest.encode())

    def _write(self, path: str, content: bytes) -> None:
        file = self._root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def held(self) -> tuple[int, int]:
        """Return number and bytes of the blobs."""
        sizes = [file.stat().st_size for file in (self._root / "blobs").rglob("data")]
        return len(sizes), sum(sizes)


@contextmanager
def _filled(images: int) -> Iterator[tuple[Storage, Path]]:
    with tempfile.TemporaryDirectory(prefix="collection-") as folder:
        storage = Storage(Path(folder, "storage"))
        storage.fill(images)
        configuration = Path(folder, "config.yaml")
        of_storage = {"filesystem": {"rootdirectory": f"{folder}/storage"}}
        configuration.write_text(json.dumps({"version": "0.1", "storage": of_storage, "http": {"addr": "127.0.0.1:0"}}))
        yield storage, configuration


def measured(version: Version, configuration: Path, *options: str) -> Measured:
    """Run the collection once and return what it took."""
    program = binary("registry-2" if version == "2" else "registry-3")
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
    start = time.perf_counter()
    child = subprocess.Popen(  # noqa: S603 - the registry's own program
        [program, "garbage-collect", *options, configuration],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"garbage-collect of Distribution {version} ended with {child.returncode}")
    return Measured(time.perf_counter() - start, usage.ru_maxrss / 1024)


def main(numbers: Sequence[int]) -> None:
    """Print a line of figures for each number of images and each version."""
    for images in numbers:
        for version in get_args(Version):
            with _filled(images) as (storage, configuration):
                blobs, size = storage.held()
                dry = measured(version, configuration, "--dry-run")
                if storage.held() != (blobs, size):
                    raise SystemExit("the dry run changed something")
                real = measured(version, configuration)
                left, rest = storage.held()
            print(  # noqa: T201 - its output is its purpose
                f"Distribution {version}, {images} images: dry run {dry.seconds:.2f} s, {dry.mebibytes:.0f} MiB; "
                f"collection {real.seconds:.2f} s, {real.mebibytes:.0f} MiB; {blobs} blobs of {size} bytes before, "
                f"{left} of {rest} after",
                flush=True,
            )


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]] or [1_000, 10_000])
