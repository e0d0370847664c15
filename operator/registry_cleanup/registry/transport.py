"""One HTTP request: time limits, bounded answers, retries of what is safe to repeat, foreign errors translated."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias

import httpx
import stamina

from registry_cleanup.domain.trust import link_local
from registry_cleanup.ports import POLICY_WORDS, Clock, LoginWords, Observer, Passage
from registry_cleanup.registry.connections import AddressError, AiohttpTransport
from registry_cleanup.registry.errors import (
    KNOWN_CODES,
    ForbiddenAddressError,
    MalformedAnswerError,
    RegistryError,
    ServerFaultError,
    ThrottledError,
    TLSError,
    UnreachableError,
)

# Answers that say that the request was not carried out, or that repeating a read may help.
_THROTTLED = 429
_TRANSIENT = frozenset({500, 502, 503, 504})
_REPEATABLE = frozenset({"GET", "HEAD"})
_NO_WAY = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH})
_HEADERS = {"User-Agent": "registry-cleanup", "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}


Ready: TypeAlias = Callable[[], Awaitable[None]]
"""Awaited right before a request is sent, when nothing is left to wait for; if it raises, nothing is sent."""

_Body: TypeAlias = Mapping[str, str] | bytes | None
"""Of a request: a form, or bytes as they are."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that was read whole."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def accepted(self) -> bool:
        """Whether the server says that it did, or will do, what was asked."""
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """The registry's error code if it is a known one, else the HTTP status; never other text of its body."""
        try:
            code = json.loads(self.body)["errors"][0]["code"]
        except (ValueError, LookupError, TypeError, RecursionError):
            code = None
        return code if isinstance(code, str) and code in KNOWN_CODES else f"HTTP {self.status}"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how often one request is tried, and how much of an answer is read.

    Attributes:
        connect: seconds until a connection stands.
        read: seconds without a byte; OpenShift's registry may need 45 to say that its API server hangs
            (openshift.md, 2).
        total: seconds of one attempt, however slowly its body drips.
        attempts: of a request that may be repeated.
        back_off: seconds before the first repetition, doubled for each further one.
        longest_wait: seconds, whatever `Retry-After` asks for.
        most_bytes: of one body; the longest is the list of tags: 100,000 names of 128 characters are 13 MB.
    """

    connect: float = 10.0
    read: float = 60.0
    total: float = 180.0
    attempts: int = 4
    back_off: float = 0.1
    longest_wait: float = 60.0
    most_bytes: int = 64 * 1024 * 1024

    def wait(self, asked: float | None, tries: int) -> float:
        """Return the seconds to wait after so many `tries`, where the server asks for a time or not."""
        return min(self.back_off * 2.0 ** (tries - 1) if asked is None else asked, self.longest_wait)


USUAL_LIMITS = Limits()


class RetryableError(Exception):
    """Another attempt may help and does no harm: of a DELETE, nothing was done.

    Attributes:
        error: to be raised where nobody tries again.
        wait: seconds that the server asks to wait; None if it asks for nothing.
    """

    def __init__(self, error: RegistryError, wait: float | None = None) -> None:
        super().__init__()
        self.error = error
        self.wait = wait


class Transport:
    """Requests to one registry, its token service and the blob store it redirects to, on one pool of connections.

    All of them pass the registry's gate: they are made on its behalf.

    Attributes:
        limits: of each request.
        clock_offset: the server's clock minus ours, by the `Date` of its first answer; None before.
        sent: number of requests so far, repetitions included.
    """

    def __init__(
        self,
        clock: Clock,
        tls: ssl.SSLContext,
        passage: Passage,
        *,
        max_connections: int,
        limits: Limits = USUAL_LIMITS,
        observer: Observer | None = None,
        forbidden: Callable[[str], bool] = link_local,
        words: LoginWords = POLICY_WORDS,
    ) -> None:
        """Connect nowhere yet.

        `observer` is told of every request, repetitions included. No connection is opened to an address that is
        `forbidden`, whatever name leads to it. `words` say what people are to do where no connection comes about.
        """
        self._words = words
        self._clock = clock
        self._passage = passage
        self._observer = observer
        self.limits = limits
        # Without httpx's client: its cookies, redirects and logins are not wanted, and cost as much as the rest.
        self._wire = AiohttpTransport(tls, max_connections, forbidden)
        self._extensions = {"timeout": {"connect": limits.connect, "read": limits.read}}
        self.clock_offset: timedelta | None = None
        self.sent = 0

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.aclose()

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        most_bytes: int | None = None,
        ready: Ready | None = None,
        again: bool = False,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """Send one request and return its answer, whatever its status below 500 (but for 429).

        Its body is a `form` or `content`, if there is one.

        Reads are repeated after a lost connection, a time limit or a 5xx; anything is repeated after a 429, which
        says that nothing was done. A DELETE that may have been carried out is never repeated. Each attempt waits for
        its place, before all others if it has to be asked whether it is still `ready`. That follows a look, which is
        old after a wait: only who looks again may repeat it, and says that it comes `again`.

        Raises:
            UnreachableError, TLSError, ThrottledError, ServerFaultError, MalformedAnswerError.
            RetryableError: what had to be `ready` was not done, and may be tried again.
        """
        most, body = most_bytes or self.limits.most_bytes, form if content is None else content
        try:
            return await self._attempt(method, url, headers, most, again=again, ready=ready, body=body)
        except RetryableError as error:
            if ready is not None:
                raise
            failed = error
        try:
            # Begun where it is needed alone: to be ready for a second attempt costs a tenth of a request.
            async for attempt in stamina.retry_context(
                on=self._wait,
                attempts=self.limits.attempts,
                wait_initial=self.limits.back_off,
                wait_jitter=2 * self.limits.back_off,
                timeout=300,
            ):
                with attempt:
                    if attempt.num == 1:
                        raise failed
                    return await self._attempt(method, url, headers, most, again=True, body=body)
        except RetryableError as spent:
            raise spent.error from spent.__cause__
        raise AssertionError("unreachable: retry_context either returns or raises")

    async def _attempt(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        most_bytes: int,
        *,
        again: bool,
        ready: Ready | None = None,
        body: _Body = None,
    ) -> Answer:
        """Send one request in its turn."""
        await self._passage.enter(first=ready is not None)
        overloaded = False
        try:
            if ready is not None:
                await ready()
            return await self._once(method, url, headers, most_bytes, body, again=again)
        except (RetryableError, ServerFaultError, UnreachableError):
            overloaded = True
            raise
        finally:
            self._passage.leave(overloaded=overloaded)

    async def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        most_bytes: int,
        body: _Body,
        *,
        again: bool,
    ) -> Answer:
        repeatable = method in _REPEATABLE
        status: int | None = None
        self.sent += 1
        try:
            content, form = (body, None) if isinstance(body, bytes) else (None, body)
            request = httpx.Request(
                method,
                url,
                headers={**_HEADERS, **headers},
                content=content,
                data=form,
                extensions=self._extensions,
            )
            async with (
                asyncio.timeout(self.limits.total),
                aclosing(await self._wire.handle_async_request(request)) as response,
            ):
                received = bytearray()
                async for chunk in response.aiter_bytes():
                    received += chunk
                    if len(received) > most_bytes:
                        raise MalformedAnswerError(f"the registry's answer exceeds {most_bytes} bytes")
                status = response.status_code
        except httpx.ConnectError as error:
            raise _connect_failure(error, self._words) from error
        except (httpx.TransportError, TimeoutError) as error:
            failure = UnreachableError(f"no whole answer from the registry ({_cause(error)})")
            raise (RetryableError(failure) if repeatable else failure) from error
        except (httpx.DecodingError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise MalformedAnswerError(f"the registry's answer cannot be read ({type(error).__name__})") from error
        finally:
            if self._observer is not None:
                self._observer.requested(method, status, again=again)
        answer = Answer(response.status_code, response.headers, bytes(received))
        self._note_clock(answer)
        return _sorted_out(answer, repeatable=repeatable)

    def _wait(self, error: Exception) -> bool | float:
        """Tell stamina whether to try again: not at all, after its own back-off, or after so many seconds."""
        if not isinstance(error, RetryableError):
            return False
        return True if error.wait is None else min(error.wait, self.limits.longest_wait)

    def _note_clock(self, answer: Answer) -> None:
        if self.clock_offset is None and (date := answer.headers.get("Date")):
            try:
                theirs = parsedate_to_datetime(date)
            except ValueError:
                return
            self.clock_offset = utc(theirs) - self._clock.now()


def json_object(answer: Answer) -> dict[str, Any]:
    """Return the JSON object that `answer` holds; raise `MalformedAnswerError` for anything else."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError) as error:  # not UTF-8, no JSON, or nested without end
        raise MalformedAnswerError("the registry's answer is not JSON") from error
    if not isinstance(value, dict):
        raise MalformedAnswerError("the registry's answer is not a JSON object")
    return value


def _sorted_out(answer: Answer, *, repeatable: bool) -> Answer:
    """Return `answer`, or raise for what says that another attempt may help."""
    if answer.status == _THROTTLED:
        error = ThrottledError("the registry answers 429 (too many requests) even after waiting", answer.code)
        raise RetryableError(error, _retry_after(answer))
    if answer.status >= 500:
        fault = ServerFaultError(f"the registry answers {answer.status} ({answer.code})", answer.code)
        if repeatable and answer.status in _TRANSIENT:
            raise RetryableError(fault, _retry_after(answer))
        raise fault
    return answer


def _retry_after(answer: Answer) -> float | None:
    """Return the seconds that `Retry-After` asks for (RFC 9110 section 10.2.3); None if it says nothing."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
        now = parsedate_to_datetime(answer.headers.get("Date", ""))
    except ValueError:
        return None
    # A date that ends with -0000 comes without a zone (RFC 5322 section 3.3).
    return max((utc(until) - utc(now)).total_seconds(), 0.0)


def _connect_failure(error: httpx.ConnectError, words: LoginWords) -> Exception:
    """Tell an untrusted certificate, which waiting does not cure, from a host that does not answer."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, AddressError):
            return ForbiddenAddressError(
                f"the name of the registry or of its token service leads to {cause.address}, a link-local address, "
                f"with which the operator never talks; {words.address} and the DNS"
            )
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TLSError(f"the registry's certificate is not trusted ({cause.verify_message}); {words.unknown_ca}")
        if isinstance(cause, ssl.SSLError):
            return TLSError(
                f"no TLS connection ({cause.reason}); if the registry speaks http on this port, {words.plain_http}"
            )
        cause = cause.__cause__ or cause.__context__
    # Nothing was sent yet, so this is safe to repeat whatever the method.
    return RetryableError(UnreachableError(f"the registry cannot be reached ({_cause(error)}); {words.unreachable}"))


def _cause(error: BaseException) -> str:
    """Return in a few words why there was no answer; never what an error says itself, which may be the server's."""
    if isinstance(error, httpx.ConnectTimeout):
        return "time limit: no connection"
    if isinstance(error, (httpx.TimeoutException, TimeoutError)):
        return "time limit"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        if isinstance(cause, socket.gaierror):
            return "no such host"
        if isinstance(cause, OSError) and cause.errno in _NO_WAY:
            return "no way to the host"
        cause = cause.__cause__ or cause.__context__
    return "no connection" if isinstance(error, httpx.ConnectError) else "connection lost"


def utc(moment: datetime) -> datetime:
    """Return `moment` in UTC; a moment without a zone is taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
