"""The faults that tests inject between the operator and a real registry, each seen by a client."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from tests.support.certificates import certificate_authority
from tests.support.faulty import (
    Fault,
    FaultyRegistry,
    after,
    answers,
    before,
    changes_headers,
    chops_the_body,
    drops_the_answer,
    drops_the_connection,
    faulty_registry,
    is_not_json,
    lies_about_the_digest,
    links_to,
    links_to_itself,
    redirects,
    stalls,
    throttles,
    truncates_the_body,
)
from tests.support.http import Received, Server, serve

BODY = '{"name":"team/app","tags":["a","b"]}'
TAGS = "/v2/team/app/tags/list"


@dataclass(frozen=True)
class Setting:
    """A proxy and the trivial registry behind it."""

    proxy: FaultyRegistry
    upstream: Server

    def get(self, path: str = TAGS, **headers: str) -> httpx.Response:
        return httpx.get(self.proxy.url + path, headers=headers, trust_env=False, timeout=5)


@pytest.fixture
def setting() -> Iterator[Setting]:
    async def handle(request: web.Request) -> web.StreamResponse:
        headers = {"Docker-Content-Digest": "sha256:real", "Content-Type": "application/json"}
        return web.Response(status=202 if request.method == "DELETE" else 200, text=BODY, headers=headers)

    with serve(handle) as upstream, faulty_registry(upstream.url) as proxy:
        yield Setting(proxy, upstream)


def test_without_a_fault_everything_passes(setting: Setting) -> None:
    answer = setting.get(f"{TAGS}?n=1&last=a%2Fb", Accept="application/json", Authorization="Bearer x")
    assert (answer.status_code, answer.text) == (200, BODY)
    assert answer.headers["Docker-Content-Digest"] == "sha256:real"
    assert answer.headers.get_list("Content-Length") == [str(len(BODY))]
    (request,) = setting.upstream.requests
    assert (request.method, request.path, request.authorization) == ("GET", TAGS, "Bearer x")
    assert dict(request.query) == {"n": "1", "last": "a/b"}
    assert request.headers["Accept"] == "application/json"
    assert request.headers["Host"] == setting.proxy.url.removeprefix("http://")
    assert [request.path for request in setting.proxy.requests] == [TAGS]


def test_head_keeps_the_length_and_has_no_body(setting: Setting) -> None:
    answer = httpx.head(setting.proxy.url + TAGS, trust_env=False)
    assert (answer.headers["Content-Length"], answer.content) == (str(len(BODY)), b"")


def test_a_fault_concerns_its_method_and_path_and_ends_after_its_number(setting: Setting) -> None:
    injection = setting.proxy.inject(answers(500), method="GET", path=r"/v2/team/app/.*", times=2)
    assert httpx.delete(setting.proxy.url + TAGS, trust_env=False).status_code == 202
    assert setting.get("/v2/team/other/tags/list").status_code == 200
    assert [setting.get().status_code for _ in range(3)] == [500, 500, 200]
    assert injection.hits == 2


def test_without_a_number_a_fault_lasts_until_it_is_healed(setting: Setting) -> None:
    setting.proxy.inject(answers(500))
    assert [setting.get().status_code for _ in range(3)] == [500, 500, 500]
    setting.proxy.heal()
    assert setting.get().status_code == 200


def test_the_first_fault_that_is_left_wins(setting: Setting) -> None:
    setting.proxy.inject(answers(500), times=1)
    setting.proxy.inject(answers(503), times=1)
    assert [setting.get().status_code for _ in range(3)] == [500, 503, 200]


@pytest.mark.parametrize(
    ("fault", "status", "header", "value"),
    [
        (answers(405, '{"errors":[]}', {"X-Why": "disabled"}), 405, "X-Why", "disabled"),
        (throttles("7"), 429, "Retry-After", "7"),
        (throttles(None), 429, "Retry-After", None),
        (redirects("http://elsewhere.test/x"), 307, "Location", "http://elsewhere.test/x"),
        (lies_about_the_digest("sha256:wrong"), 200, "Docker-Content-Digest", "sha256:wrong"),
        (links_to("http://elsewhere.test/x"), 200, "Link", '<http://elsewhere.test/x>; rel="next"'),
        (links_to_itself(), 200, "Link", f'<{TAGS}?n=2>; rel="next"'),
        (changes_headers({"Docker-Content-Digest": None}), 200, "Docker-Content-Digest", None),
    ],
)
def test_an_answer_or_its_headers_are_replaced(
    setting: Setting, fault: Fault, status: int, header: str, value: str | None
) -> None:
    setting.proxy.inject(fault)
    answer = setting.get(f"{TAGS}?n=2")
    assert (answer.status_code, answer.headers.get(header)) == (status, value)


def test_a_page_for_people_is_no_json(setting: Setting) -> None:
    setting.proxy.inject(is_not_json())
    answer = setting.get()
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html")
    with pytest.raises(ValueError, match="Expecting value"):
        answer.json()


def test_a_chopped_body_is_whole_for_http_and_broken_for_json(setting: Setting) -> None:
    setting.proxy.inject(chops_the_body())
    answer = setting.get()
    assert answer.text == BODY[: len(BODY) // 2]
    assert answer.headers["Content-Length"] == str(len(BODY) // 2)


def test_a_truncated_body_is_shorter_than_announced(setting: Setting) -> None:
    setting.proxy.inject(truncates_the_body())
    with pytest.raises(httpx.RemoteProtocolError, match=r"incomplete|without sending complete"):
        setting.get()


@pytest.mark.parametrize(("fault", "arrived"), [(drops_the_connection(), 0), (drops_the_answer(), 1)])
def test_a_dropped_connection_answers_nothing(setting: Setting, fault: Fault, arrived: int) -> None:
    setting.proxy.inject(fault, times=1)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        setting.get()
    assert len(setting.upstream.requests) == arrived
    assert setting.get().status_code == 200


def test_a_stalled_request_is_never_answered_and_does_not_hold_up_the_end_of_a_test(setting: Setting) -> None:
    setting.proxy.inject(stalls(30))
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(setting.proxy.url + TAGS, trust_env=False, timeout=0.1)
    blocked = threading.Thread(target=lambda: _ignoring_errors(setting))
    blocked.start()
    time.sleep(0.1)


def _ignoring_errors(setting: Setting) -> None:
    with pytest.raises(httpx.TransportError):
        setting.get()


@pytest.mark.parametrize(("fault", "seen"), [(before, [0, 1]), (after, [1, 1])])
def test_a_hook_runs_around_the_moment_when_the_registry_hears_of_the_request(
    setting: Setting, fault: Callable[[Callable[[], object]], Fault], seen: list[int]
) -> None:
    counts: list[int] = []
    setting.proxy.inject(fault(lambda: counts.append(len(setting.upstream.requests))), times=1)
    assert setting.get().text == BODY
    assert [*counts, len(setting.upstream.requests)] == seen


def test_a_hook_that_asks_the_registry_itself_does_not_block_the_proxy(setting: Setting) -> None:
    answered: list[int] = []
    setting.proxy.inject(before(lambda: answered.append(setting.get().status_code)), times=1)
    assert setting.get().status_code == 200
    assert answered == [200]


def test_a_registry_that_is_down_is_a_bad_gateway() -> None:
    async def handle(_request: web.Request) -> web.StreamResponse:
        return web.Response()

    with serve(handle) as upstream:
        gone = upstream.url
    with faulty_registry(gone) as proxy:
        assert httpx.get(proxy.url, trust_env=False).status_code == 502


def test_it_stands_between_https_and_https(tmp_path: Path) -> None:
    authority = certificate_authority(tmp_path)
    certificate = authority.issue("127.0.0.1")

    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(text=request.headers["X-Forwarded-Proto"])

    with (
        serve(handle, certificate=certificate) as upstream,
        faulty_registry(upstream.url, certificate=certificate, ca_file=authority.ca_file) as proxy,
    ):
        assert proxy.url.startswith("https://")
        assert httpx.get(proxy.url, verify=authority.client_context(), trust_env=False).text == "https"


def test_a_bug_in_a_server_of_the_tests_fails_the_test() -> None:
    async def handle(_request: web.Request) -> web.StreamResponse:
        raise KeyError("bug")

    with pytest.raises(ExceptionGroup, match="server of the tests raised"), serve(handle) as server:
        assert httpx.get(server.url, trust_env=False).status_code == 500


def test_a_received_request_shows_its_authorization() -> None:
    assert Received("GET", "/").authorization is None
