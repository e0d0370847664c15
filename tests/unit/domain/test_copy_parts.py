"""A part is read as it was written, or not at all; what is lost of a run's parts shows, and nothing else seems lost."""

import gzip
import hashlib
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from registry_cleanup.domain.copies import CopiedManifest, CopiedTag, Copies
from registry_cleanup.domain.copy_parts import (
    MOST_THINGS,
    DamagedCopyError,
    Part,
    cut,
    decode,
    encode,
    lost_parts,
)
from registry_cleanup.domain.reference import Digest

_APP, _RUN, _UID = "team/app", "20260615-030000-abcdef", "a-uid"
_TYPE = "application/vnd.oci.image.manifest.v1+json"
_MIB = 1024 * 1024


def _manifest(content: bytes | dict[str, Any]) -> CopiedManifest:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return CopiedManifest(_APP, Digest(f"sha256:{hashlib.sha256(body).hexdigest()}"), _TYPE, body)


_IMAGE, _ODD = _manifest({"layers": []}), _manifest(b'{ "spaces":1,\n"\xc3\xa4":"\\u00e4" }\r\n')
_WHOLE = Part(
    Copies(
        _UID,
        _RUN,
        (
            CopiedTag(_APP, "v1", _IMAGE.digest),
            CopiedTag(_APP, "v2", _IMAGE.digest, "example.com/app@sha256:1", managed=True),
            CopiedTag("b", "v1", _ODD.digest),
        ),
        (_IMAGE, _ODD, _manifest(b"\xff\xfe\x00\n"), _manifest(b"")),
    ),
    number=3,
    after=1,
)


def _read(content: bytes) -> Part:
    return decode(content, _UID, _RUN, 3)


@pytest.mark.parametrize(
    "part", [_WHOLE, replace(_WHOLE, last=True, registry="here:5000"), Part(Copies(_UID, _RUN), 3)]
)
def test_a_part_comes_back_byte_for_byte(part: Part) -> None:
    assert _read(encode(part)) == part
    assert encode(part) == encode(part)


def test_ten_thousand_manifests_pack_to_half_a_kilobyte_each() -> None:
    random = Random(1)  # noqa: S311 - the same each time
    layers = [{"digest": f"sha256:{random.randbytes(32).hex()}", "size": 10**6} for _ in range(500)]
    many = [_manifest({"config": layers[n % 500], "layers": random.sample(layers, 8)}) for n in range(1000)]
    assert len(encode(Part(Copies(_UID, _RUN, (), tuple(many)), 1))) < 500 * len(many)


def _lines(change: Callable[[list[Any]], object]) -> bytes:
    """Return a part of two tags with a change to its lines."""
    part = Part(Copies(_UID, _RUN, _WHOLE.copies.tags[:2]), 3, 1)
    lines = [json.loads(line) for line in gzip.decompress(encode(part)).splitlines()]
    change(lines)
    return gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode())


def _manifest_line(**change: object) -> bytes:
    """Return a part of one manifest with a change to its line."""
    head, line, content = gzip.decompress(encode(Part(Copies(_UID, _RUN, (), (_IMAGE,)), 3))).splitlines()
    return gzip.compress(b"\n".join([head, json.dumps({**json.loads(line), **change}).encode(), content, b""]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        encode(_WHOLE)[:-10],
        encode(_WHOLE)[:-1],
        encode(_WHOLE) + b"more",
        encode(_WHOLE) + encode(_WHOLE),
        gzip.compress(b""),
        gzip.compress(b"[]\n"),
        gzip.compress(b"{]\n"),
        gzip.compress(b"[" * 10_000 + b"\n"),
        gzip.compress(bytes(65 * _MIB)),
        encode(replace(_WHOLE, number=2)),
        encode(replace(_WHOLE, after=3)),
        encode(Part(Copies(_UID, _RUN, _WHOLE.copies.tags[:1] * (MOST_THINGS + 1)), 3)),
        _lines(lambda lines: lines[0].update(version=2)),
        _lines(lambda lines: lines[0].update(policy="another")),
        _lines(lambda lines: lines[0].update(run="another")),
        _lines(lambda lines: lines[0].update(after="1")),
        _lines(lambda lines: lines[0].update(registry=7)),
        _lines(lambda lines: lines[0].pop("registry")),
        _lines(lambda lines: lines[0].update(tags=1)),
        _lines(lambda lines: lines[0].update(tags=3)),
        _lines(lambda lines: lines[0].update(tags=-1)),
        _lines(lambda lines: lines[0].update(tags=2.5)),
        _lines(lambda lines: lines.pop(0)),
        _lines(lambda lines: lines.pop()),
        _lines(lambda lines: lines[1].update(type="manifest")),
        _lines(lambda lines: lines[1].update(tag="no tag")),
        _lines(lambda lines: lines[1].update(tag=7)),
        _lines(lambda lines: lines[1].update(repository="../up")),
        _lines(lambda lines: lines[1].update(digest="sha256:1")),
        _lines(lambda lines: lines[1].update(reference=7)),
        _lines(lambda lines: lines[1].update(padding="x" * 20_000)),
        _lines(lambda lines: lines[1].pop("digest")),
        _manifest_line(mediaType="a\r\nb: c"),
        _manifest_line(mediaType=7),
        _manifest_line(size=len(_IMAGE.content) - 1),
        _manifest_line(size=len(_IMAGE.content) + 1),
        _manifest_line(size=10**12),
        _manifest_line(size=-1),
        _manifest_line(size="1"),
    ],
    ids=lambda content: str(content[-12:]),
)
def test_what_is_damaged_is_not_used(content: bytes) -> None:
    with pytest.raises(DamagedCopyError):
        _read(content)


def _bomb(kind: str) -> bytes:
    """Return a few kilobytes that would unpack, or be parsed, to gigabytes."""
    head = gzip.decompress(encode(_WHOLE)).splitlines()[0] + b"\n"
    if kind == "many things":
        tag = gzip.decompress(encode(Part(Copies(_UID, _RUN, _WHOLE.copies.tags[:1]), 3))).splitlines()[1] + b"\n"
        return gzip.compress(
            head.replace(b'"tags":3', b'"tags":9999').replace(b'"manifests":4', b'"manifests":0') + tag * 10**6
        )
    long = {"lists": b"[" + b"[]," * (21 * _MIB) + b"[]]\n", "zeros": bytes(64 * _MIB), "one manifest": b""}[kind]
    if kind == "one manifest":
        line = json.dumps(
            {"type": "manifest", "repository": _APP, "digest": _IMAGE.digest, "mediaType": _TYPE, "size": 23 * _MIB}
        )
        long = (line.encode() + b"\n" + bytes(23 * _MIB) + b"\n") * 3
    return gzip.compress(head + long)


@pytest.mark.parametrize("kind", ["lists", "zeros", "many things", "one manifest"])
def test_what_unpacks_to_far_more_than_any_part_takes_no_memory(kind: str) -> None:
    content = _bomb(kind)
    assert len(content) < 512 * 1024
    tracemalloc.start()
    try:
        with pytest.raises(DamagedCopyError):
            _read(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * _MIB


# Cutting


def test_what_is_kept_is_cut_into_parts_of_bounded_size_and_number_in_its_order() -> None:
    manifests = [_manifest(b"x" * size) for size in (600, 300, 200, 2000, 10)]
    assert [
        [len(each.content) for each in some if isinstance(each, CopiedManifest)] for some in cut(manifests, 1000)
    ] == [
        [600, 300],
        [200],
        [2000],
        [10],
    ]
    tags = [CopiedTag(_APP, f"v{n}", _IMAGE.digest) for n in range(2 * MOST_THINGS + 1)]
    parts = [*cut(tags, 100 * _MIB)]
    assert [len(some) for some in parts] == [MOST_THINGS, MOST_THINGS, 1]
    assert [tag for some in parts for tag in some] == tags
    assert [*cut([], 1000)] == []


def test_as_many_tags_as_any_stream_has_fit_into_parts_of_a_config_map() -> None:
    tags = [
        CopiedTag(_APP, f"v1.{n}.0-build.{n * 7}", Digest("sha256:" + hashlib.sha256(str(n).encode()).hexdigest()))
        for n in range(12_000)
    ]
    parts = [
        Copies(_UID, _RUN, tuple(each for each in some if isinstance(each, CopiedTag))) for some in cut(tags, _MIB // 4)
    ]
    assert len(parts) > 1
    for number, copies in enumerate(parts, start=1):
        packed = encode(Part(copies, number))
        assert len(packed) < _MIB // 2
        assert decode(packed, _UID, _RUN, number).copies == copies


# What is lost


@pytest.mark.parametrize(
    ("written", "unreadable", "lost"),
    [
        ([], [], 0),
        ([(1, 0), (2, 1)], [], 0),
        ([(2, 1)], [], 1),  # the first is gone
        ([(1, 0), (3, 2)], [], 1),  # the second is gone
        ([(1, 0), (3, 1)], [], 0),  # the second was never written
        ([(1, 0), (3, 1)], [2], 0),  # and left something behind
        ([(1, 0), (3, 2)], [2], 1),
        ([(1, 0)], [2], 1),  # what the end would tell is not known
        ([(4, 3)], [1], 2),  # doubt counts: nobody knows what the third came after
        ([], [1, 2], 2),
        ([(5, 2)], [3, 4], 1),
    ],
)
def test_a_part_that_is_gone_is_missed_and_one_that_was_never_written_is_not(
    written: list[tuple[int, int]], unreadable: list[int], lost: int
) -> None:
    assert lost_parts(dict(written), unreadable) == lost
