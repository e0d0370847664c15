"""Registries of any size, written as Docker Distribution keeps them on a disk: a push of 100,000 images takes hours.

The layout is the one that `registry/storage/paths.go` of Distribution describes, the same in 2.8 and 3.1. A contract
test holds it to both (`tests/contract/test_benchmark_layout.py`). What is written depends on the shape alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.speed.truth import NOW, SPREAD, Fact, RepositoryTruth, Truth, load
from tests.support.images import OCI_INDEX, OCI_MANIFEST

# To be raised with every change of what is written: registries of another version are written anew.
_VERSION: Final = 1
_LAYERS = 8
_COMMON_LAYERS = 6  # of a base image, which all images of a repository share
_SHARES_EVERY, _SHARES_AT = 10, 9  # the tag stands on the digest of the one before
_INDEX_EVERY, _INDEX_AT = 50, 3
_PLATFORMS = ("amd64", "arm64")
_PART = 500  # tags that one process writes at a time
_APART = 60  # seconds between the platforms of an index; the last one counts


@dataclass(frozen=True, slots=True)
class Shape:
    """A registry to write.

    Attributes:
        repositories: how many.
        tags: in each.
        purpose: makes a registry of its own, for what changes it.
    """

    repositories: int
    tags: int
    purpose: str = "reading"

    @property
    def size(self) -> int:
        """The number of tags in all."""
        return self.repositories * self.tags

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.purpose}-{self.repositories}x{self.tags}-{_VERSION}"


@dataclass(frozen=True, slots=True)
class WrittenRegistry:
    """A registry on the disk.

    Attributes:
        storage: root of the filesystem driver.
        truth: what is in it.
        truth_file: where that is written down.
    """

    storage: Path
    truth: Truth
    truth_file: Path

    def restore(self) -> None:
        """Bring back what clients deleted: tags, and links to manifests; the content itself is never deleted."""
        for one in self.truth.repositories:
            home = _home(self.storage, one.name)
            for digest in one.facts:
                if not (home / "_manifests/revisions/sha256" / _hex(digest) / "link").exists():
                    _write_revision(home, digest)
            for tag, digest in one.tags.items():
                if not (home / "_manifests/tags" / tag / "current/link").exists():
                    _write_tag(home, tag, digest)

    def tags_left(self) -> set[tuple[str, ...]]:
        """Return the tags that are there, each with its repository."""
        found: set[tuple[str, ...]] = set()
        for one in self.truth.repositories:
            tags = _home(self.storage, one.name) / "_manifests/tags"
            found.update((one.name, tag.name) for tag in tags.iterdir() if (tag / "current/link").exists())
        return found


def written(shape: Shape, folder: Path) -> WrittenRegistry:
    """Return the registry of this shape in `folder`, writing it first where it is not there."""
    place = folder / shape.name
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Renamed into place when whole.
        new = Path(tempfile.mkdtemp(prefix=f"{shape.name}.", dir=folder))
        try:
            _write(shape, new / "storage").save(new / "truth")
            new.rename(place)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    return WrittenRegistry(place / "storage", load(place / "truth"), place / "truth")


def _write(shape: Shape, storage: Path) -> Truth:
    for number in range(256):
        (_root(storage) / f"blobs/sha256/{number:02x}").mkdir(parents=True)
    names = [f"bench/app-{number:03}" for number in range(shape.repositories)]
    for name in names:
        for part in ("_layers/sha256", "_manifests/revisions/sha256", "_manifests/tags"):
            (_home(storage, name) / part).mkdir(parents=True)
    # A part begins with a tag that shares nothing with the one before.
    parts = [(name, first, min(first + _PART, shape.tags)) for name in names for first in range(0, shape.tags, _PART)]
    tags: dict[str, dict[str, str]] = {name: {} for name in names}
    facts: dict[str, dict[str, Fact]] = {name: {} for name in names}
    with ProcessPoolExecutor() as pool:
        for (name, _, _), done in zip(parts, pool.map(partial(_write_part, storage, shape.tags), parts), strict=True):
            tags[name].update(done.tags)
            facts[name].update(done.facts)
    return Truth([RepositoryTruth(name, tags[name], facts[name]) for name in names])


def _write_part(storage: Path, of: int, part: tuple[str, int, int]) -> _Writer:
    name, first, end = part
    writer = _Writer(storage, name)
    for number in range(first, end):
        writer.tag(number, of)
    return writer


@dataclass
class _Writer:
    """Writes one repository, and takes note of it."""

    storage: Path
    name: str
    tags: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Fact] = field(default_factory=dict)

    def tag(self, number: int, of: int) -> None:
        """Write a tag, the oldest of `of` being number 0, with what it names."""
        if number % _SHARES_EVERY == _SHARES_AT:
            digest = self.tags[tag_name(number - 1)]
        else:
            created = int((NOW - SPREAD * ((of - number - 0.5) / of)).timestamp())
            if number % _INDEX_EVERY == _INDEX_AT:
                digest = self._index(number, created)
            else:
                digest = self._image(f"{number}", "amd64", created).digest
        self.tags[tag_name(number)] = digest
        _write_tag(self._home, tag_name(number), digest)

    @property
    def _home(self) -> Path:
        return _home(self.storage, self.name)

    def _index(self, number: int, created: int) -> str:
        children = [
            self._image(f"{number} {platform}", platform, created - _APART * back)
            for back, platform in enumerate(reversed(_PLATFORMS))
        ]
        entries = [
            {
                "mediaType": OCI_MANIFEST,
                "digest": child.digest,
                "size": child.size,
                "platform": {"architecture": platform, "os": "linux"},
            }
            for child, platform in zip(children, reversed(_PLATFORMS), strict=True)
        ]
        index = self._manifest({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
        self.facts[index.digest] = Fact(0, None, tuple(child.digest for child in children))
        return index.digest

    def _image(self, seed: str, architecture: str, created: int) -> _Blob:
        config = _write_blob(self.storage, _encoded(_config(f"{self.name} {seed}", architecture, created)))
        # Layers are listed only: nobody pulls them here.
        _write_file(f"{self._home}/_layers/sha256/{_hex(config.digest)}", "link", config.digest.encode())
        base, own = f"{self.name} base", f"{self.name} {seed}"
        layers = [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": _sha256(f"layer {layer} of {base if layer < _COMMON_LAYERS else own}".encode()),
                "size": 1_000_000 + layer,
            }
            for layer in range(_LAYERS)
        ]
        manifest = self._manifest(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": config.digest,
                    "size": config.size,
                },
                "layers": layers,
            }
        )
        self.facts[manifest.digest] = Fact(created, config.digest)
        return manifest

    def _manifest(self, document: Mapping[str, Any]) -> _Blob:
        blob = _write_blob(self.storage, _encoded(document))
        _write_revision(self._home, blob.digest)
        return blob


@dataclass(frozen=True, slots=True)
class _Blob:
    digest: str
    size: int


def tag_name(number: int) -> str:
    """Return the name of a tag."""
    return f"build-{number:06}"


def _config(seed: str, architecture: str, created: int) -> dict[str, Any]:
    """Return a config of some 2.7 KB, as `docker build` makes it for an ordinary service."""
    when = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "architecture": architecture,
        "os": "linux",
        "created": when,
        "config": {
            "User": "1000",
            "ExposedPorts": {"8080/tcp": {}},
            "Env": [
                "PATH=/usr/local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG=C.UTF-8",
                f"BUILD_ID={seed}",
            ],
            "Cmd": ["python", "-m", "service"],
            "WorkingDir": "/srv",
            "Labels": {
                "org.opencontainers.image.source": "https://git.example.com/team/service",
                "org.opencontainers.image.revision": hashlib.sha1(seed.encode(), usedforsecurity=False).hexdigest(),
                "org.opencontainers.image.title": "service",
            },
        },
        "history": list(_history(when)),
        "rootfs": {
            "type": "layers",
            "diff_ids": [_sha256(f"content {layer} of {seed}".encode()) for layer in range(_LAYERS)],
        },
    }


def _history(when: str) -> Iterator[dict[str, Any]]:
    for step in range(_LAYERS):
        yield {
            "created": when,
            "created_by": f"RUN /bin/sh -c apt-get install -y part-{step} && rm -rf /var/cache/*",
            "comment": "buildkit.dockerfile.v0",
        }
    for setting in ("ENV LANG=C.UTF-8", "USER 1000", 'CMD ["python" "-m" "service"]'):
        yield {"created": when, "created_by": setting, "comment": "buildkit.dockerfile.v0", "empty_layer": True}


# Files: six for each tag, in nine folders; pathlib would take longer than the disk


def _root(storage: Path) -> Path:
    return storage / "docker/registry/v2"


def _home(storage: Path, repository: str) -> Path:
    return _root(storage) / "repositories" / repository


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _write_tag(home: Path, tag: str, digest: str) -> None:
    place = f"{home}/_manifests/tags/{tag}"
    for folder in ("", "/index", "/index/sha256"):
        _make(place + folder)
    _write_file(f"{place}/current", "link", digest.encode())
    _write_file(f"{place}/index/sha256/{_hex(digest)}", "link", digest.encode())


def _write_revision(home: Path, digest: str) -> None:
    _write_file(f"{home}/_manifests/revisions/sha256/{_hex(digest)}", "link", digest.encode())


def _write_blob(storage: Path, content: bytes) -> _Blob:
    digest = _sha256(content)
    value = _hex(digest)
    _write_file(f"{_root(storage)}/blobs/sha256/{value[:2]}/{value}", "data", content)
    return _Blob(digest, len(content))


def _write_file(folder: str, name: str, content: bytes) -> None:
    _make(folder)
    file = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(file, content)
    finally:
        os.close(file)


def _make(folder: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(folder)  # noqa: PTH102 - as above


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
