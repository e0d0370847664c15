"""A page of a list is cut into its items as it arrives, and never into anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_cleanup.openshift.errors import OddAnswerError
from registry_cleanup.openshift.pages import PageReader

_METADATA = {"resourceVersion": "7", "continue": "token"}


def _stream(name: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    tags = [{"tag": "v1", "items": [{"image": "sha256:1"}]}]
    return {"metadata": {"name": name, **more}, "spec": {}, "status": {"tags": tags}}


def _page(*items: Any, indent: int | None = None) -> bytes:  # noqa: ANN401 - any JSON
    separators = (",", ":") if indent is None else None
    page = {"kind": "ImageStreamList", "metadata": _METADATA, "items": list(items)}
    return json.dumps(page, separators=separators, indent=indent).encode() + b"\n"


def _read(content: bytes, size: int) -> tuple[list[Any], list[Any], str]:
    """Return what was read on the way, what at the end, and the token."""
    page = PageReader()
    early = [item for at in range(0, len(content), size) for item in page.feed(content[at : at + size])]
    late, token = page.end()
    return early, late, token


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
def test_each_item_but_the_last_is_read_before_the_end(size: int) -> None:
    items = [_stream(name) for name in ("a", "b", "c")]
    assert _read(_page(*items), size) == (items[:2], items[2:], "token")


@pytest.mark.parametrize("size", [1, 50])
def test_what_looks_like_the_next_item_and_lies_within_one_cuts_nothing(size: int) -> None:
    items = [
        {**_stream("a"), "nested": [{}, {"metadata": {"name": "not-a-stream"}}, {"metadata": {}}]},
        _stream("b", annotations={"says": ',{"metadata":{"name":"x"}},{"metadata":', "items": '"items":['}),
        _stream("c"),
    ]
    assert _read(_page(*items), size) == (items[:2], items[2:], "token")


@pytest.mark.parametrize("indent", [0, 2])
def test_a_page_that_looks_otherwise_is_read_at_its_end(indent: int) -> None:
    items = [_stream(name) for name in ("a", "b")]
    early, late, token = _read(_page(*items, indent=indent), 16)
    assert (early + late, token) == (items, "token")


_TEXTS = st.text('{}[],:"\\ametd', max_size=15) | st.just(',{"metadata":')
_VALUES = st.recursive(
    _TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3), max_leaves=6
)


@given(st.lists(_VALUES, max_size=4), st.integers(1, 40))
def test_whatever_its_items_are_a_page_is_read_as_a_parser_reads_it(values: list[Any], size: int) -> None:
    items = [{"metadata": value} for value in values]
    early, late, token = _read(_page(*items), size)
    assert (early + late, token) == (items, "token")


@pytest.mark.parametrize("metadata", ["", ',"metadata":{}', ',"metadata":null', ',"metadata":{"continue":""}'])
def test_the_last_page_has_no_token_and_may_be_empty(metadata: str) -> None:
    assert _read(f'{{"items":[]{metadata}}}'.encode(), 5) == ([], [], "")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        '{"items":null}',
        '{"items":{}}',
        '{"kind":"Status"}',
        "<html>",
        _page(_stream("a"))[:-4].decode(),
    ],
)
def test_what_is_no_list_or_no_whole_one_is_an_error(content: str) -> None:
    with pytest.raises(OddAnswerError, match="no list"):
        _read(content.encode(), 8)
