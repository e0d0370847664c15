"""The operator's port: health, readiness and metrics."""

import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from registry_cleanup.telemetry import Metrics
from registry_cleanup.web import Readiness, serve
from tests.support.processes import free_port

_READY = Readiness(ready=True, checks={"api": "reached", "lease": "held by another; stands by"})


@asynccontextmanager
async def _served(
    readiness: Callable[[], Readiness] = lambda: _READY, metrics: Metrics | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    port = free_port()
    async with (
        serve(port, readiness, metrics, "127.0.0.1"),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client


async def test_health_answers_whatever_readiness_says() -> None:
    async with _served(lambda: Readiness(ready=False, checks={})) as client:
        answer = await client.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok\n")


async def test_readiness_tells_each_check_in_a_line() -> None:
    async with _served() as client:
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.text) == (200, "api: reached\nlease: held by another; stands by\n")


@dataclass
class _Changing:
    readiness: Readiness = _READY

    def __call__(self) -> Readiness:
        return self.readiness


async def test_readiness_is_asked_for_each_request() -> None:
    state = _Changing()
    async with _served(state) as client:
        before = await client.get("/readyz")
        state.readiness = Readiness(ready=False, checks={"api": "does not answer"})
        after = await client.get("/readyz")
    assert before.is_success
    assert (after.status_code, after.text) == (503, "api: does not answer\n")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
async def test_metrics_come_in_the_format_that_is_asked_for(accept: str, content_type: str) -> None:
    async with _served(metrics=Metrics()) as client:
        answer = await client.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith(content_type)
    assert "registry_cleanup_build_info{version=" in answer.text


async def test_metrics_are_compressed_only_for_who_takes_that() -> None:
    async with _served(metrics=Metrics()) as client:
        plain = await client.get("/metrics", headers={"Accept-Encoding": "identity"})
        async with client.stream("GET", "/metrics", headers={"Accept-Encoding": "gzip"}) as answer:
            packed = b"".join([chunk async for chunk in answer.aiter_raw()])
    assert "Content-Encoding" not in plain.headers
    assert answer.headers["Content-Encoding"] == "gzip"
    names = [family.name for family in text_string_to_metric_families(gzip.decompress(packed).decode())]
    assert names == [family.name for family in text_string_to_metric_families(plain.text)]


async def test_the_page_holds_nothing_of_the_global_registry() -> None:
    # What a library adds there is none of ours, and two operators in one process would share it.
    async with _served(metrics=Metrics()) as client:
        page = (await client.get("/metrics")).text
    assert "python_gc" in generate_latest(REGISTRY).decode()
    assert "python_gc" not in page
    assert "process_resident_memory_bytes" in page
    assert "registry_cleanup_asyncio_tasks" in page


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 404), ("GET", "/metrics", 404), ("POST", "/healthz", 405)]
)
async def test_nothing_else_is_answered(method: str, path: str, status: int) -> None:
    async with _served() as client:
        assert (await client.request(method, path)).status_code == status


async def test_port_0_serves_nowhere() -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    async with serve(0, lambda: _READY, Metrics()):
        assert open_files() == before


async def test_a_port_that_is_taken_is_an_error() -> None:
    port = free_port()
    async with serve(port, lambda: _READY, None, "127.0.0.1"):
        with pytest.raises(OSError, match=str(port)):
            async with serve(port, lambda: _READY, None, "127.0.0.1"):
                pass
    async with serve(port, lambda: _READY, None, "127.0.0.1"):  # it is free again
        pass
