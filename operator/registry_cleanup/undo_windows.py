"""Until when what was pruned at a registry can still be undone: garbage waits for that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from registry_cleanup.domain.collecting import Answer
from registry_cleanup.domain.duration import LONGEST, duration_text
from registry_cleanup.domain.interval import expected_interval
from registry_cleanup.domain.run import Phase
from registry_cleanup.kube.spec import InvalidSpecError, ParsedPolicy, parse_policy
from registry_cleanup.kube.status import OWN_REGISTRY, PolicyStatus, parse_status, parse_time, registry_name
from registry_cleanup.live_policies import Parse
from registry_cleanup.ports import RunError
from registry_cleanup.rivals import Connect, SameRegistry

Ask = Callable[[ParsedPolicy], Awaitable[Answer]]
"""Asks the registry of a policy whether it takes changes."""

_NOWHERE = {"url": "https://registry.invalid"}
# Between the last look at the windows and the beginning of a collection.
_BEFORE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class UndoWindow:
    """A window that has not passed.

    Attributes:
        until: its end.
        policy: whose runs can be undone, `namespace/name`.
        length: of the window.
        interval: the longest time between two scheduled runs of that policy, where they come more often than what
            each of them prunes can be undone no more.
        runs: whether it is that of a run that is under way, or ended without a word.
        valid: whether the spec of that policy is.
    """

    until: datetime
    policy: str
    length: timedelta
    interval: timedelta | None
    runs: bool = False
    valid: bool = True


@dataclass(frozen=True, slots=True)
class _Open:
    """A window that has not passed.

    Attributes:
        policy: whose, with the registry where it pruned.
        window: it.
        pruned: when the policy pruned last, as far as its status says.
        runs: whether it may have pruned since, in a run that has not said so yet.
        comparable: whether that registry is known, and may be looked at.
        moved: whether that is another registry than the policy names by now.
    """

    policy: ParsedPolicy
    window: UndoWindow
    pruned: datetime | None
    runs: bool
    comparable: bool
    moved: bool


class UndoWindows:
    """The windows of all policies of the cluster, whatever name each uses for its registry."""

    def __init__(
        self,
        policies: Callable[[], AsyncIterator[Mapping[str, Any]]],
        parse: Parse,
        registries: SameRegistry,
        connect: Connect,
    ) -> None:
        """Ask `policies` for all resources, of which one may come several times.

        In `registries` what cannot be compared has to count as one: waiting does no harm.
        """
        self._policies = policies
        self._parse = parse
        self._registries = registries
        self._connect = connect

    async def last_at(self, policy: ParsedPolicy, pruned: datetime | None, now: datetime) -> UndoWindow | None:
        """Return the window at the registry of `policy` that ends last; None where all have passed.

        One of a run that is under way is returned where there is no other.

        Args:
            policy: that wants to collect.
            pruned: when it pruned last itself, which its written status may not tell yet.
            now: the time.

        Raises:
            APIError: the policies could not be read, so nobody knows.
        """
        found = [each.window for each in await self._open(policy, pruned, now) if await self._same(policy, each)]
        return max(found, key=lambda window: (not window.runs, window.until), default=None)

    async def opened_since(self, policy: ParsedPolicy, begun: datetime, now: datetime, ask: Ask) -> UndoWindow | None:
        """Return a window that was opened since a collection of `policy` has begun; raise `APIError`.

        The registry is frozen by now. What takes changes is another one, and `ask` says what does.
        """
        for each in await self._open(policy, None, now):
            since = each.runs or (each.pruned is not None and each.pruned >= begun - _BEFORE)
            if not since or (each.comparable and await ask(each.policy) is Answer.WRITABLE):
                continue
            if await self._same(policy, each):
                return each.window
        return None

    async def _open(self, policy: ParsedPolicy, pruned: datetime | None, now: datetime) -> list[_Open]:
        """Return what has not passed, at any registry."""
        found: dict[str, list[_Open]] = {}
        async for body in self._policies():
            other, valid, comparable = self._read(body)
            status = parse_status(body.get("status"))
            last = parse_time(status.last_pruned_time)
            unwritten = pruned if other.uid == policy.uid else None
            if unwritten is not None and last is not None and unwritten <= last:
                unwritten = None
            found[other.uid] = []
            for place in _places(status, other, last, unwritten):
                at, known = other, comparable
                if place.moved:
                    at, _, known = self._read(_moved(body, place.registry)) if place.registry else (other, valid, False)
                window = _window(other, place, now, valid=valid)
                if window is not None:
                    found[other.uid].append(_Open(at, window, unwritten or last, place.runs, known, place.moved))
        return [each for windows in found.values() for each in windows]

    def _read(self, body: Mapping[str, Any]) -> tuple[ParsedPolicy, bool, bool]:
        """Return a policy, whether it is valid, and whether its registry may be looked at.

        What can be undone once its spec is mended counts: of one that is not valid, as much as can be read.
        """
        with suppress(InvalidSpecError):
            return self._parse(body), True, True
        spec = body.get("spec")
        spec = spec if isinstance(spec, Mapping) else {}
        undo = spec.get("undo", {})
        window = undo.get("window", "0s") if isinstance(undo, Mapping) else None
        with suppress(InvalidSpecError):
            return self._parse(_reduced(body, spec.get("registry"), window)), False, True
        with suppress(InvalidSpecError):
            return parse_policy(_reduced(body, _NOWHERE, window)), False, False
        return parse_policy(_reduced(body, _NOWHERE, duration_text(LONGEST))), False, False

    async def _same(self, mine: ParsedPolicy, theirs: _Open) -> bool:
        """Say whether both are at one registry; where nobody can tell they are, since waiting does no harm."""
        other = theirs.policy
        own = mine.uid == other.uid and not theirs.moved
        if own or not theirs.comparable or mine.registry.url == other.registry.url:
            return True
        try:
            async with self._connect(mine) as registry:
                return await self._registries.same(mine, registry, other, None)
        except RunError:
            return True


@dataclass(frozen=True, slots=True)
class _Place:
    """What a policy may have pruned at one registry.

    Attributes:
        registry: as status calls it; None where that is not known.
        pruned: when it pruned there last; None where it did not.
        told: until when people are told that it can be put back.
        runs: whether it may prune there just now.
        moved: whether the policy names another registry by now, or nobody knows.
    """

    registry: str | None
    pruned: datetime | None
    told: datetime | None
    runs: bool = False
    moved: bool = True


def _places(
    status: PolicyStatus, policy: ParsedPolicy, pruned: datetime | None, unwritten: datetime | None
) -> list[_Place]:
    """Return where a policy pruned: at its registry, by what is known of it, and where it did before it was changed."""
    here, undo, run = registry_name(policy.registry.url), status.undo, status.last_run
    moved = undo is not None and undo.registry not in (None, here)
    unsaid = run is not None and not run.dry_run and run.phase in (Phase.RUNNING, Phase.INTERRUPTED)
    # It may have pruned a moment ago, and says so when it ends only.
    runs = unsaid and run is not None and run.phase is Phase.RUNNING
    # Copies tell where the last run pruned, but for one that ended without a word.
    own = unwritten or (None if moved and not unsaid else pruned)
    storage = status.collection.storage if status.collection is not None else None
    told = [None if undo is None or moved else undo.until, None if storage is None else storage.until]
    places = [_Place(here, own, _latest(told), runs, moved=False)]
    if undo is not None and moved:
        places.append(_Place(undo.registry, pruned, _latest([undo.until])))
    former = (undo.former or ()) if undo is not None else ()
    places += [_Place(each.registry, None, _latest([each.until]), moved=each.registry != here) for each in former]
    if runs and status.observed_generation not in (None, policy.generation):
        # Begun before the spec was changed: nobody knows which registry that named.
        places.append(_Place(None, None, None, runs))
    return places


def _latest(times: Iterable[str | None]) -> datetime | None:
    return max((until for text in times if (until := parse_time(text)) is not None), default=None)


def _window(policy: ParsedPolicy, place: _Place, now: datetime, *, valid: bool) -> UndoWindow | None:
    rules, name, runs = policy.policy.undo, f"{policy.namespace}/{policy.name}", place.runs
    promised = None if place.pruned is None else place.pruned + rules.window
    until = max((each for each in (promised, place.told) if each is not None), default=now)
    if until > now:
        interval = None
        if policy.schedule is not None and not policy.suspend and not policy.dry_run and not place.moved:
            longest = expected_interval(policy.schedule, now)
            interval = longest if longest <= rules.kept_for else None
        return UndoWindow(until, name, rules.window, interval, valid=valid)
    return UndoWindow(now + rules.window, name, rules.window, None, runs=True, valid=valid) if runs else None


def _moved(body: Mapping[str, Any], registry: str) -> dict[str, Any]:
    """Return a policy as if it named this registry, with whatever else it says of it."""
    spec = body.get("spec")
    spec = spec if isinstance(spec, Mapping) else {}
    section = spec.get("registry")
    section = dict(section) if isinstance(section, Mapping) else {}
    section.pop("url", None)
    if registry != OWN_REGISTRY:
        section["url"] = registry
    return {**body, "spec": {**spec, "registry": section}}


def _reduced(body: Mapping[str, Any], registry: object, window: object) -> dict[str, Any]:
    """Return a policy with nothing but its registry and its window; whatever else it wants is as in any other."""
    rules = [{"name": "any", "tags": {"include": [".*"]}, "olderThan": "1d"}]
    spec = {"registry": registry, "repositories": {"include": ["**"]}, "rules": rules, "undo": {"window": window}}
    return {**body, "spec": spec}
