"""From the API's documents to repositories: what a tag names, since when, and what protects it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from registry_cleanup.openshift.errors import OddAnswerError
from registry_cleanup.openshift.streams import KEEP_ANNOTATION, Stream, StreamTag, read_stream
from tests.support.builders import digest

_WHEN = "2026-03-04T05:06:07Z"
_PUSHED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def _document(
    tags: object = None,
    spec_tags: object = None,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a stream as the API serves it: empty parts are absent (openshift.md, 6)."""
    metadata: dict[str, Any] = {"namespace": "team", "name": "app", "uid": "a-uid", "resourceVersion": "7"}
    if annotations is not None:
        metadata["annotations"] = dict(annotations)
    status: dict[str, Any] = {"dockerImageRepository": "registry.svc:5000/team/app"}
    return {
        "metadata": metadata,
        "spec": {"lookupPolicy": {"local": False}} | ({} if spec_tags is None else {"tags": spec_tags}),
        "status": status | ({} if tags is None else {"tags": tags}),
    }


def _tag(name: str, *words: str, created: str | None = _WHEN) -> dict[str, Any]:
    """Return a tag of the status whose history is `words`, the current one first."""
    items = [
        {"created": created, "dockerImageReference": "x", "image": digest(word), "generation": 1} for word in words
    ]
    return {"tag": name, "items": items or None}


def _spec_tag(name: str, kind: str | None = None, source: str = "", namespace: str | None = None) -> dict[str, Any]:
    origin = {"kind": kind, "name": source} | ({} if namespace is None else {"namespace": namespace})
    return {
        "name": name,
        "annotations": None,
        "generation": 2,
        "importPolicy": {"importMode": "Legacy"},
        "referencePolicy": {"type": "Source"},
    } | ({} if kind is None else {"from": origin})


def _read(*tags: dict[str, Any], spec: list[dict[str, Any]] | None = None, keep: str | None = None) -> Stream:
    annotations = None if keep is None else {KEEP_ANNOTATION: keep, "other": "x"}
    return read_stream(_document(list(tags) or None, spec, annotations))


# What it holds


def test_a_stream_is_a_repository_of_two_parts() -> None:
    stream = _read(_tag("v1", "a"))
    assert (stream.namespace, stream.name, stream.repository) == ("team", "app", "team/app")
    assert stream.inventory(()).repository == "team/app"


@pytest.mark.parametrize("tags", [None, []])
def test_a_stream_without_tags_is_an_empty_repository(tags: list[object] | None) -> None:
    stream = read_stream(_document(tags))
    assert (stream.tags, stream.digests(), stream.inventory(()).size) == ({}, set(), 0)


def test_a_stream_that_was_only_just_created_is_one_too() -> None:
    stream = read_stream({"metadata": {"namespace": "team", "name": "app"}})
    assert (stream.tags, stream.managed, stream.references) == ({}, frozenset(), frozenset())


def test_a_tag_names_the_newest_item_since_its_push_and_its_history_can_still_be_pulled() -> None:
    stream = _read(_tag("v1", "new", "old", "new"))
    assert stream.tags["v1"] == StreamTag(digest("new"), _PUSHED, (digest("new"), digest("old"), digest("new")))
    assert stream.digests() == {digest("new"), digest("old")}
    inventory = stream.inventory(())
    assert inventory.tags == {"v1": digest("new")}
    assert inventory.pushed == {"v1": _PUSHED}
    assert inventory.manifests.keys() == {digest("new")}


def test_two_tags_on_one_image_have_a_date_each() -> None:
    later = "2026-03-05T00:00:00Z"
    inventory = _read(_tag("v1", "same"), _tag("v2", "same", created=later)).inventory(())
    assert inventory.pushed == {"v1": _PUSHED, "v2": datetime(2026, 3, 5, tzinfo=UTC)}


def test_a_tag_whose_import_failed_is_dangling() -> None:
    failed = _tag("bad") | {"conditions": [{"type": "ImportSuccess", "status": "False"}]}
    inventory = _read(failed, _tag("v1", "a")).inventory(())
    assert (set(inventory.tags), set(inventory.dangling), inventory.size) == ({"v1"}, {"bad"}, 2)


def test_a_time_that_is_not_known_leaves_the_tag_without_date() -> None:
    # A metav1.Time of zero is null.
    inventory = _read(_tag("v1", "a", created=None)).inventory(())
    assert (set(inventory.tags), dict(inventory.pushed)) == ({"v1"}, {})


# What its spec says


@pytest.mark.parametrize("kind", ["DockerImage", "ImageStreamTag", "ImageStreamImage"])
def test_a_tag_that_the_spec_imports_or_aliases_is_managed(kind: str) -> None:
    stream = _read(_tag("v1", "a"), _tag("v2", "b"), spec=[_spec_tag("v1", kind, "upstream/x:y")])
    assert stream.managed == stream.inventory(()).managed == {"v1"}


def test_a_tag_that_the_spec_only_refers_to_is_managed_too() -> None:
    reference = _spec_tag("v1", "DockerImage", "quay.io/x/y:z") | {"reference": True}
    assert _read(_tag("v1", "a"), spec=[reference]).managed == {"v1"}


def test_a_tag_that_the_spec_only_annotates_is_not_managed() -> None:
    assert _read(_tag("v1", "a"), spec=[_spec_tag("v1"), _spec_tag("v2") | {"from": None}]).managed == frozenset()


def test_a_tag_of_the_spec_alone_is_no_tag_of_the_repository() -> None:
    inventory = _read(_tag("v1", "a"), spec=[_spec_tag("later", "DockerImage", "quay.io/x/y")]).inventory(())
    assert (inventory.size, inventory.managed) == (1, frozenset())


@pytest.mark.parametrize(
    ("kind", "source", "namespace", "expected"),
    [
        ("ImageStreamTag", "v1", None, ("team", "app", "v1")),
        ("ImageStreamTag", "app:v1", None, ("team", "app", "v1")),
        ("ImageStreamTag", "base:v1", None, ("team", "base", "v1")),
        ("ImageStreamTag", "base:v1", "shared", ("shared", "base", "v1")),
        ("ImageStreamTag", "v1", "shared", ("shared", "app", "v1")),
        ("ImageStreamImage", f"base@{digest('x')}", None, ("team", "base", digest("x"))),
        ("ImageStreamImage", f"base@{digest('x')}", "shared", ("shared", "base", digest("x"))),
        ("DockerImage", "registry.svc:5000/shared/base:v1", None, ("shared", "base", "v1")),
        ("DockerImage", "registry.svc:5000/shared/base", None, ("shared", "base", "latest")),
        ("DockerImage", f"route.example.com/shared/base@{digest('x')}", None, ("shared", "base", digest("x"))),
        ("DockerImage", f"route.example.com/shared/base:v1@{digest('x')}", None, ("shared", "base", digest("x"))),
        ("DockerImage", "shared/base:v1", None, ("shared", "base", "v1")),
        # Whatever namespace `from` gives: a path says its own.
        ("DockerImage", "route.example.com/shared/base:v1", "team", ("shared", "base", "v1")),
        ("DockerImage", "busybox", None, None),
        ("DockerImage", "quay.io/a/b/c:v1", None, None),
        ("Unheard", "base:v1", None, None),
    ],
)
def test_what_the_spec_refers_to_is_read_whatever_way_it_is_written(
    kind: str, source: str, namespace: str | None, expected: tuple[str, str, str] | None
) -> None:
    stream = _read(_tag("mine", "a"), spec=[_spec_tag("mine", kind, source, namespace)])
    assert stream.references == ({expected} if expected is not None else set())


def test_what_others_refer_to_is_in_use_as_far_as_it_is_there() -> None:
    inventory = _read(_tag("v1", "a"), _tag("bad")).inventory(["v1", "gone", "bad"])
    assert inventory.used == {"v1"}


# What its annotation says


@pytest.mark.parametrize("keep", ["v1,rel-.*", "v1, rel-.*", "v1 rel-.*", " v1\n,\trel-.* ,", "(?i)V1,rel-[0-9]"])
def test_the_annotation_protects_the_tags_that_any_of_its_patterns_match(keep: str) -> None:
    stream = _read(_tag("v1", "a"), _tag("v10", "b"), _tag("rel-1", "c"), _tag("a-rel-1", "d"), keep=keep)
    assert stream.inventory(()).protected == {"v1", "rel-1"}


@pytest.mark.parametrize("keep", [None, "", " , "])
def test_without_patterns_it_protects_nothing(keep: str | None) -> None:
    assert _read(_tag("v1", "a"), keep=keep).inventory(()).protected == frozenset()


def test_a_pattern_that_nobody_can_read_names_stream_and_annotation_and_what_to_write() -> None:
    stream = _read(_tag("v1", "a"), keep="v1,[")
    with pytest.raises(OddAnswerError, match=r"registrycleanup.dev/keep of image stream team/app .*missing") as caught:
        stream.inventory(())
    assert "write tag patterns, separated by commas" in str(caught.value)


def test_a_pattern_that_nobody_can_read_hides_nothing_that_other_streams_need_to_know() -> None:
    stream = _read(_tag("v1", "a"), spec=[_spec_tag("v1", "ImageStreamTag", "base:v1")], keep="[")
    assert stream.references == {("team", "base", "v1")}
    assert stream.digests() == {digest("a")}


# What it cannot be


def _odd() -> list[dict[str, Any]]:
    good = _tag("v1", "a")
    item = good["items"][0]
    return [
        {},
        {"metadata": None},
        {"metadata": {"name": "app"}},
        {"metadata": {"namespace": "team"}},
        {"metadata": {"namespace": "team", "name": "app"}, "status": "x"},
        _document({"v1": "a"}),
        _document("v1"),
        _document(["v1"]),
        _document([{}]),
        _document([{"items": []}]),
        _document([good | {"items": "none"}]),
        _document([good | {"items": {"0": item}}]),
        _document([good | {"items": [None]}]),
        _document([good | {"items": [{"created": _WHEN}]}]),
        _document([good | {"items": [{"image": digest("a")}]}]),
        _document([good | {"items": [item | {"image": ""}]}]),
        _document([good | {"items": [item | {"image": "sha256:short"}]}]),
        _document([good | {"items": [item, item | {"image": None}]}]),
        _document([good | {"items": [item | {"created": "yesterday"}]}]),
        _document([good | {"items": [item | {"created": ""}]}]),
        _document([good | {"items": [item | {"created": 7}]}]),
        _document([good | {"items": [item | {"created": "2026-03-04T05:06:07"}]}]),
        _document([good], [{"from": {"kind": "DockerImage", "name": "x"}}]),
        _document([good], ["v1"]),
        _document([good], [{"name": "v1", "from": "x"}]),
    ]


@pytest.mark.parametrize("document", _odd(), ids=lambda document: str(document)[-60:])
def test_a_document_of_another_shape_is_an_error_and_never_a_smaller_stream(document: dict[str, Any]) -> None:
    with pytest.raises(OddAnswerError, match="another shape"):
        read_stream(document)
