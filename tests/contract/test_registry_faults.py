"""Our client before a real registry whose answers break.

Each fault ends in the error that names it, never in a part of a list, and nothing that may have been done is
repeated.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.inventory import Inventory
from registry_cleanup.registry.errors import (
    DeniedError,
    MalformedAnswerError,
    NotFoundError,
    RegistryError,
    ServerFaultError,
    ThrottledError,
    UnreachableError,
)
from tests.support.clients import QUICK, applied, dated, kinds, opened, planned, prunes, references, resolved
from tests.support.crane import Crane
from tests.support.faulty import (
    Fault,
    FaultyRegistry,
    Forward,
    answers,
    changes_headers,
    chops_the_body,
    drops_the_answer,
    drops_the_connection,
    faulty_registry,
    is_not_json,
    lies_about_the_digest,
    links_to,
    links_to_itself,
    stalls,
    throttles,
    truncates_the_body,
)
from tests.support.images import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, push_image
from tests.support.registries import RegistryServer, distribution

APP = "team/app"
CATALOG, TAGS, MANIFESTS, BLOBS = "/v2/_catalog", ".*/tags/list", ".*/manifests/.*", ".*/blobs/.*"
# What a registry may put into an answer, and nobody may read in a status.
BODY = "BODY-OF-THE-REGISTRY"
ERROR_BODY = f'{{"errors":[{{"code":"{BODY}","message":"{BODY}","detail":"{BODY}"}}]}}'


@dataclass(frozen=True)
class Setting:
    """A registry behind a proxy that breaks its answers.

    Attributes:
        proxy: What clients talk to.
        digests: Of `team/app`, by tag.
    """

    proxy: FaultyRegistry
    digests: dict[str, str]

    @property
    def url(self) -> str:
        return self.proxy.url

    async def read(self) -> Inventory:
        """Read everything there is to read."""
        async with opened(self.url) as registry:
            assert await registry.repositories() == [APP]
            assert (await resolved(registry, APP)).tags == self.digests
            return await dated(registry, APP)


@pytest.fixture(scope="module")
def _filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RegistryServer, dict[str, str]]]:
    with distribution("3", tmp_path_factory.mktemp("faults")) as server:
        yield server, {f"v{n}": push_image(server.url, APP, [f"v{n}"], seed=str(n)) for n in range(4)}


@pytest.fixture
def setting(_filled: tuple[RegistryServer, dict[str, str]]) -> Iterator[Setting]:
    """Give each test a proxy of its own: requests that another test gave up may still arrive at that one's."""
    server, digests = _filled
    with faulty_registry(server.url) as proxy:
        yield Setting(proxy, digests)


# What passes


@pytest.mark.parametrize(
    "fault",
    [
        answers(500),
        answers(502),
        answers(503, headers={"Retry-After": "0"}),
        answers(504),
        throttles("0"),
        throttles(None),
        drops_the_connection(),
        truncates_the_body(0.9),
    ],
)
@pytest.mark.parametrize("path", [CATALOG, TAGS, MANIFESTS, BLOBS])
async def test_a_read_is_repeated_after_what_may_pass(setting: Setting, fault: Fault, path: str) -> None:
    setting.proxy.inject(fault, method="GET", path=path, times=2)
    assert (await setting.read()).tags == setting.digests


# What stays


@pytest.mark.parametrize(
    ("fault", "error", "requests"),
    [
        (answers(500, ERROR_BODY), ServerFaultError, 3),
        (answers(503, ERROR_BODY), ServerFaultError, 3),
        (answers(501, ERROR_BODY), ServerFaultError, 1),
        (throttles("0"), ThrottledError, 3),
        (drops_the_connection(), UnreachableError, 3),
        (truncates_the_body(), UnreachableError, 3),
        (chops_the_body(), MalformedAnswerError, 1),
        (is_not_json(), MalformedAnswerError, 1),
        (answers(200, ""), MalformedAnswerError, 1),
        (answers(200, b"\xff\xfe"), MalformedAnswerError, 1),
        (answers(200, f'["{BODY}"]'), MalformedAnswerError, 1),
        (answers(200, "{}"), MalformedAnswerError, 1),
        (answers(200, "[" * 200_000), MalformedAnswerError, 1),
        (answers(200, b"not gzip", {"Content-Encoding": "gzip"}), MalformedAnswerError, 1),
        (answers(204), MalformedAnswerError, 1),
        (answers(403, ERROR_BODY), DeniedError, 1),
        (answers(404, ERROR_BODY), NotFoundError, 1),
        (answers(400, ERROR_BODY), MalformedAnswerError, 1),
        (answers(400, "[" * 200_000), MalformedAnswerError, 1),
        (answers(400), ServerFaultError, 1),
    ],
)
async def test_what_stays_ends_in_the_error_that_names_it(
    setting: Setting, fault: Fault, error: type[RegistryError], requests: int
) -> None:
    for path, read in _READS.items():
        setting.proxy.heal()
        async with opened(setting.url) as registry:
            injection = setting.proxy.inject(fault, path=path)
            with pytest.raises(error) as caught:
                await read(registry)
        assert type(caught.value) is error
        assert injection.hits == requests
        assert BODY not in f"{caught.value} {caught.value.code} {caught.value.failure}"


_READS: dict[str, Callable[[Any], Any]] = {
    CATALOG: lambda registry: registry.repositories(),
    TAGS: lambda registry: resolved(registry, APP),
}


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (answers(500), ServerFaultError),
        (answers(403), DeniedError),
        (throttles("0"), ThrottledError),
        (drops_the_connection(), UnreachableError),
        (is_not_json(), MalformedAnswerError),
    ],
)
async def test_a_page_that_cannot_be_read_is_no_shorter_list(
    setting: Setting, fault: Fault, error: type[RegistryError]
) -> None:
    for path, read in _READS.items():
        setting.proxy.heal()
        async with opened(setting.url) as registry:
            target = "/v2/_catalog?last=a" if path == CATALOG else f"/v2/{APP}/tags/list?last=a"
            setting.proxy.inject(links_to(target), path=path, times=1)
            setting.proxy.inject(fault, path=path)
            with pytest.raises(error):
                await read(registry)


@pytest.mark.parametrize("path", [CATALOG, TAGS])
@pytest.mark.parametrize(
    "fault",
    [
        links_to_itself(),
        links_to("http://[bad"),
        links_to("http://127.0.0.1:99999/"),
        changes_headers({"Link": '<ü>; rel="next"'}),
        links_to("missing"),
        answers(200, '{"repositories":["A B"],"tags":["a b"]}'),
        answers(200, '{"repositories":[1],"tags":[1]}'),
        answers(200, '{"repositories":"team/app","tags":"v1"}'),
        answers(200, f'{{"repositories":["{BODY}"],"tags":["../{BODY}"]}}'),
    ],
)
async def test_a_list_that_is_none_is_malformed(setting: Setting, path: str, fault: Fault) -> None:
    async with opened(setting.url) as registry:
        setting.proxy.inject(fault, path=path)
        with pytest.raises(MalformedAnswerError) as caught:
            await _READS[path](registry)
    assert BODY not in str(caught.value)
    assert len(setting.proxy.requests) <= 4


def _typed(media_type: str, body: str) -> Fault:
    return answers(200, body, {"Content-Type": media_type})


@pytest.mark.parametrize(
    "fault",
    [
        lies_about_the_digest(),
        changes_headers({"Docker-Content-Digest": BODY}),
        chops_the_body(),
        _typed(OCI_MANIFEST, BODY),
        _typed(OCI_MANIFEST, "{}"),
        _typed(OCI_MANIFEST, "[]"),
        _typed(OCI_MANIFEST, '{"config":{"digest":"../../x"}}'),
        _typed(DOCKER_MANIFEST, '{"config":[]}'),
        _typed(OCI_MANIFEST, '{"config":{"digest":"sha256:0"},"annotations":[1]}'),
        _typed(OCI_INDEX, '{"manifests":{"a":1}}'),
        _typed(OCI_INDEX, '{"manifests":[{"platform":{}}]}'),
        _typed(OCI_INDEX, '{"manifests":[1]}'),
        _typed(OCI_INDEX, "[" * 200_000),
    ],
)
async def test_a_manifest_of_another_shape_or_digest_is_malformed(setting: Setting, fault: Fault) -> None:
    async with opened(setting.url) as registry:
        setting.proxy.inject(fault, method="GET", path=MANIFESTS)
        with pytest.raises(MalformedAnswerError) as caught:
            await dated(registry, APP)
    assert BODY not in str(caught.value)


@pytest.mark.parametrize("fault", [chops_the_body(), is_not_json(), answers(200, '{"created":"2020-01-01T00:00:00Z"}')])
async def test_a_config_that_its_digest_does_not_name_is_malformed(setting: Setting, fault: Fault) -> None:
    async with opened(setting.url) as registry:
        setting.proxy.inject(fault, path=BLOBS)
        with pytest.raises(MalformedAnswerError):
            await dated(registry, APP)


@pytest.mark.parametrize(
    ("path", "fault"), [(MANIFESTS, answers(500)), (BLOBS, answers(500)), (MANIFESTS, answers(403))]
)
async def test_one_manifest_or_config_that_cannot_be_read_fails_the_whole_repository(
    setting: Setting, path: str, fault: Fault
) -> None:
    async with opened(setting.url) as registry:
        for read, method in ((dated, "GET"), (resolved, "HEAD")):
            if path == BLOBS and read is resolved:
                continue
            setting.proxy.heal()
            wanted = f".*/manifests/(v3|{setting.digests['v3']})" if path == MANIFESTS else path
            setting.proxy.inject(fault, method=method, path=wanted)
            with pytest.raises(RegistryError):
                await read(registry, APP)


async def test_a_digest_header_that_is_no_digest_is_malformed(setting: Setting) -> None:
    async with opened(setting.url) as registry:
        setting.proxy.inject(changes_headers({"Docker-Content-Digest": "sha256:x"}), method="HEAD")
        with pytest.raises(MalformedAnswerError):
            await resolved(registry, APP)


# Limits


async def test_an_answer_that_does_not_come_ends_at_the_time_limit(setting: Setting) -> None:
    setting.proxy.inject(stalls(30), path=CATALOG)
    async with opened(setting.url, limits=replace(QUICK, read=1, attempts=2)) as registry:
        started = time.monotonic()
        with pytest.raises(UnreachableError):
            await registry.repositories()
    assert time.monotonic() - started < 8
    assert kinds(setting.proxy.requests) == {"GET catalog": 2}


async def test_an_answer_that_drips_ends_at_the_time_limit(setting: Setting) -> None:
    async def drips(request: web.Request, _forward: Forward) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(200):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    setting.proxy.inject(drips, path=CATALOG)
    async with opened(setting.url, limits=replace(QUICK, total=1, attempts=2)) as registry:
        started = time.monotonic()
        with pytest.raises(UnreachableError):
            await registry.repositories()
    assert time.monotonic() - started < 8


async def test_an_answer_without_end_is_not_read_to_its_end(setting: Setting) -> None:
    setting.proxy.inject(answers(200, b" " * 200_000), path=CATALOG)
    async with opened(setting.url, limits=replace(QUICK, most_bytes=100_000)) as registry:
        with pytest.raises(MalformedAnswerError, match="exceeds"):
            await registry.repositories()


async def test_a_retry_after_is_waited_for(setting: Setting) -> None:
    setting.proxy.inject(throttles("1"), path=CATALOG, times=1)
    async with opened(setting.url) as registry:
        started = time.monotonic()
        assert await registry.repositories() == [APP]
    assert 1 <= time.monotonic() - started < 10


@pytest.mark.parametrize(
    "retry_after",
    ["3600", "9" * 400, "in a moment", "\u00b2", "-1", ""]
    + [format_datetime(datetime.now(UTC) + shift, usegmt=True) for shift in (-timedelta(1), timedelta(1))]
    + ["Thu, 01 Jan 2099 00:00:00 -0000"],
)
async def test_a_retry_after_is_bounded_and_nonsense_is_not_waited_for(setting: Setting, retry_after: str) -> None:
    setting.proxy.inject(throttles(retry_after), path=CATALOG, times=1)
    async with opened(setting.url, limits=replace(QUICK, longest_wait=0.05)) as registry:
        started = time.monotonic()
        assert await registry.repositories() == [APP]
    assert time.monotonic() - started < 5


# DELETE


@dataclass(frozen=True)
class Deleting:
    """A registry with one tag to prune, behind a proxy."""

    server: RegistryServer
    proxy: FaultyRegistry
    crane: Crane

    async def prune(self, fault: Fault, *, times: int | None = None) -> tuple[Outcome, str | None]:
        """Prune `v1`, with a fault of its DELETE."""
        push_image(self.server.url, APP, ["v1"])
        async with opened(self.proxy.url) as registry:
            plan, deletion = await planned(registry, APP, prunes("v1"))
            self.proxy.requests.clear()
            self.proxy.inject(fault, method="DELETE", times=times)
            return (await applied(registry, plan, deletion))["v1"]

    @property
    def tags(self) -> list[str]:
        return self.crane.ls(f"{self.server.host}/{APP}")

    @property
    def deletions(self) -> int:
        return len(references(self.proxy.requests, "DELETE"))


@pytest.fixture
def deleting(registry: RegistryServer, tmp_path: Path) -> Iterator[Deleting]:
    with faulty_registry(registry.url) as proxy:
        yield Deleting(registry, proxy, Crane(tmp_path / "crane"))


async def test_a_throttled_deletion_is_repeated(deleting: Deleting) -> None:
    assert await deleting.prune(throttles("0"), times=2) == (Outcome.PRUNED, None)
    assert (deleting.tags, deleting.deletions) == ([], 3)


@pytest.mark.parametrize(
    ("fault", "outcome", "left"),
    [
        (throttles("0"), (Outcome.FAILED, "TOOMANYREQUESTS"), ["v1"]),
        (drops_the_connection(), (Outcome.FAILED, "Unreachable"), ["v1"]),
        (drops_the_answer(), (Outcome.PRUNED, None), []),
        (answers(500, ERROR_BODY), (Outcome.FAILED, "HTTP 500"), ["v1"]),
        (answers(503), (Outcome.FAILED, "HTTP 503"), ["v1"]),
        (answers(400, '{"errors":[{"code":"UNSUPPORTED"}]}'), (Outcome.FAILED, "UNSUPPORTED"), ["v1"]),
        (answers(400, ERROR_BODY), (Outcome.FAILED, "HTTP 400"), ["v1"]),
        (answers(202), (Outcome.NOT_DELETED, None), ["v1"]),
        (answers(404), (Outcome.NOT_DELETED, None), ["v1"]),
    ],
)
async def test_the_outcome_of_a_deletion_is_what_is_there_afterwards(
    deleting: Deleting, fault: Fault, outcome: tuple[Outcome, str | None], left: list[str]
) -> None:
    assert await deleting.prune(fault) == outcome
    assert deleting.tags == left
    assert deleting.deletions == (3 if outcome[1] == "TOOMANYREQUESTS" else 1)


async def test_a_deletion_that_was_done_and_answered_500_is_pruned(deleting: Deleting) -> None:
    async def does_it_and_fails(_request: web.Request, forward: Forward) -> web.StreamResponse:
        assert (await forward()).status == 202
        return web.Response(status=500)

    assert await deleting.prune(does_it_and_fails) == (Outcome.PRUNED, None)
    assert (deleting.tags, deleting.deletions) == ([], 1)


async def test_a_deletion_whose_result_cannot_be_read_is_failed_and_ends_the_repository(deleting: Deleting) -> None:
    async def does_it_and_breaks(_request: web.Request, forward: Forward) -> web.StreamResponse:
        deleting.proxy.inject(answers(500), method="HEAD")
        return (await forward()).response()

    with pytest.raises(ServerFaultError):
        await deleting.prune(does_it_and_breaks, times=1)
