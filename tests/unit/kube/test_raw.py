"""Reading pages of the API server as raw JSON."""

import gc
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry_cleanup.kube import raw


def test_pythons_collector_goes_on_after_a_page_be_it_broken() -> None:
    assert raw.parse_json(b'{"items": []}') == {"items": []}
    assert gc.isenabled()
    with pytest.raises(ValueError, match="Expecting"):
        raw.parse_json(b"{")
    assert gc.isenabled()


def test_pythons_collector_waits_for_the_last_of_several_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    first, others, seen = threading.Event(), threading.Event(), list[bool]()

    def loads(content: bytes) -> object:
        if content == b"long":
            first.set()
            assert others.wait(5)
        seen.append(gc.isenabled())
        return content

    monkeypatch.setattr(json, "loads", loads)
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(raw.parse_json, b"long")
        assert first.wait(5)
        raw.parse_json(b"short")
        assert not gc.isenabled()
        others.set()
        long.result(5)
    assert (seen, gc.isenabled()) == ([False, False], True)
