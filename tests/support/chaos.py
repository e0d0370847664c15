"""A proxy's faults, chosen by a seed: what a registry, a network and its users do at the worst moment.

Each request meets a fault or none by the seed and by what is asked, not by when it comes, so that a seed does the same
each time however busy the machine is.

What no client could see through is left out: a registry that lies about one reference again and again, or that denies
what it has after a deletion that it did not carry out. It may lie about each reference once in a run.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from aiohttp import web

from tests.support.faulty import (
    Fault,
    Forward,
    answers,
    chops_the_body,
    drops_the_answer,
    drops_the_connection,
    is_not_json,
    lies_about_the_digest,
    links_to,
    links_to_itself,
    stalls,
    throttles,
    truncates_the_body,
)
from tests.support.generated_registry import Changes, Yard, seeded
from tests.support.http import Answer
from tests.support.watched_runs import STALL, Meddle, Watch

_JSON = {"Content-Type": "application/json"}
_LIST = "/tags/list"


def _error(status: int, code: str, headers: Mapping[str, str] | None = None) -> Fault:
    body = f'{{"errors":[{{"code":"{code}","message":"by chaos"}}]}}'
    return answers(status, body, {**_JSON, **(headers or {})})


def _links_to_more(request: web.Request) -> Fault:
    """Name as the next page the whole list again: every entry comes twice."""
    return links_to(f"{request.path}?again={len(request.query_string)}")


def _answers_too_much(request: web.Request) -> Fault:
    # Manifests may be larger than anything else that is read (`registry.client`).
    size = 17 * 1024 * 1024 if "/manifests/" in request.path else 1024 * 1024
    return answers(200, b" " * size, _JSON)


_REFUSALS: dict[str, Fault] = {
    "401": _error(401, "UNAUTHORIZED"),
    "401 with a challenge": _error(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="chaos"'}),
    "403": _error(403, "DENIED"),
    "429": throttles("1"),
    "429 without Retry-After": throttles(None),
    "500": _error(500, "UNKNOWN"),
    "502": is_not_json(502),
    "503": _error(503, "UNAVAILABLE"),
    "connection dropped": drops_the_connection(),
    "stalled": stalls(STALL),
}
_BODIES: dict[str, Fault] = {"body truncated": truncates_the_body(), "body chopped": chops_the_body()}
_PAGES: dict[str, Callable[[web.Request], Fault]] = {
    "page again": _links_to_more,
    "pages in a circle": lambda _request: links_to_itself(),
    "page elsewhere": lambda _request: links_to("http://127.0.0.1:9/v2/"),
}


@dataclass
class Chaos:
    """Faults for one run after the other.

    Attributes:
        seed: Chooses.
        rate: How many of the requests meet a fault.
        begin: With which look at the repository it begins: the first is for the plan, the second before the deletions.
        done: How many faults of each kind there were.
        lied: References that the registry lied about in this run, or did not delete though it was told to.
    """

    seed: int
    rate: float
    begin: int = 0
    done: Counter[str] = field(default_factory=Counter)
    lied: set[str] = field(default_factory=set)
    _asked: Counter[str] = field(default_factory=Counter)

    def meddler(self, watch: Watch, changes: Changes) -> Meddle:
        """Begin with another run."""
        self.lied.clear()
        yard = watch.yard

        async def meddle(request: web.Request, forward: Forward) -> web.StreamResponse | None:
            random = self._random(yard, request)
            # The few lists of a run have the most ways to fail.
            rate = 3 * self.rate if request.path.endswith(_LIST) else self.rate
            if watch.looks < self.begin or random.random() >= rate:
                return None
            kind, fault = self._choose(random, yard, request, changes)
            self.done[kind] += 1
            return None if fault is None else await fault(request, forward)

        return meddle

    def _random(self, yard: Yard, request: web.Request) -> Random:
        """Return what decides about this request: the same for the same one, counted from the first."""
        place, _, reference = request.path.removeprefix(f"/v2/{yard.repository}/").partition("/")
        what = f"{self.seed} {request.method} {place} {yard.word(reference)}"
        self._asked[what] += 1
        return seeded(f"{what} {self._asked[what]}")

    def _choose(self, random: Random, yard: Yard, request: web.Request, changes: Changes) -> tuple[str, Fault | None]:
        reference = request.path.rpartition("/")[2]
        kinds: list[str] = [*_REFUSALS, "tag moves"]
        if "/manifests/" in request.path or request.path.endswith(_LIST):
            kinds.append("404")
        if request.method == "GET":
            kinds += [*_BODIES, "body too large", "no JSON"]
        if request.path.endswith(_LIST):
            kinds += list(_PAGES) * 3
        if request.method != "DELETE" and "/manifests/" in request.path:
            kinds += ["wrong digest"] * 3
        if request.method == "DELETE":
            kinds += ["answer lost", "accepted without effect"] * 2
        kind = random.choice(kinds)
        if kind == "tag moves":
            return kind, self._moves(random, request, changes)
        if kind == "answer lost":
            return kind, drops_the_answer()
        if request.method == "DELETE":
            return self._refuses_to_delete(kind, reference)
        if kind in ("404", "wrong digest"):
            return self._lies(kind, random, yard, request, reference)
        return kind, self._plain(kind, request)

    def _plain(self, kind: str, request: web.Request) -> Fault:
        if kind in _PAGES:
            return _PAGES[kind](request)
        if kind == "body too large":
            return _answers_too_much(request)
        return is_not_json() if kind == "no JSON" else (_REFUSALS | _BODIES)[kind]

    def _refuses_to_delete(self, kind: str, reference: str) -> tuple[str, Fault]:
        self.lied.add(reference)
        if kind == "accepted without effect":
            return kind, answers(202)
        return kind, _error(404, "MANIFEST_UNKNOWN") if kind == "404" else _REFUSALS[kind]

    def _lies(
        self, kind: str, random: Random, yard: Yard, request: web.Request, reference: str
    ) -> tuple[str, Fault | None]:
        """Deny what is there, or name it by another digest, if that was not done before in this run."""
        concerned = set(yard.tags()) if request.path.endswith(_LIST) else {reference}
        if concerned & self.lied:
            return "none", None
        self.lied |= concerned
        if kind == "wrong digest":
            others: Sequence[str] = sorted(yard.facts, key=yard.word)
            return kind, lies_about_the_digest(random.choice([f"sha256:{random.getrandbits(256):064x}", *others]))
        if request.path.endswith(_LIST):
            return kind, _error(404, random.choice(["NAME_UNKNOWN", "NOT_FOUND"]))
        return kind, random.choice([_error(404, "MANIFEST_UNKNOWN"), answers(404)])

    def _moves(self, random: Random, request: web.Request, changes: Changes) -> Fault:
        """Let some tag name a new image right before the request is passed on.

        Not the tag whose very deletion is under way: that is the window that remains.
        """

        async def fault(_request: web.Request, forward: Forward) -> web.StreamResponse:
            await asyncio.to_thread(changes.move_one, random, request.path.rpartition("/")[2])
            answer: Answer = await forward()
            return answer.response()

        return fault
