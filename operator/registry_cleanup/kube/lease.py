"""The Lease that says which of several operators works, and how its holder knows that it may no longer.

As client-go's leader election does it: nobody trusts another's clock. Whoever waits counts, by its own clock, how long
the Lease has not changed; whoever holds it counts from the moment at which it sent the last renewal that succeeded, and
gives up well before the others may take over. Each write names the version that it replaces, so two never succeed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Protocol

from typing_extensions import override

from registry_cleanup.kube.api import (
    APIError,
    ConflictError,
    ForbiddenError,
    KubernetesAPI,
    NoAnswerError,
    NotThereError,
)
from registry_cleanup.ports import Clock

_log = logging.getLogger(__name__)

LEASE_NAME = "registry-cleanup"
# That of manifests/base/rbac.yaml.
LEASE_RULES = (
    "{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create]}",
    f"{{apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [{LEASE_NAME}], verbs: [get, update]}}",
)


class LeaseStore(Protocol):
    """Where the Lease is. Every call may raise `APIError`."""

    async def read(self) -> dict[str, Any]:
        """Return the Lease; raise `NotThereError` where there is none."""

    async def create(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Create it and return it; raise `ConflictError` where there is one."""

    async def replace(self, spec: Mapping[str, Any], version: str) -> dict[str, Any]:
        """Replace the Lease of this resourceVersion and return it; raise `ConflictError` where it is another by now."""


class OwnLease(LeaseStore):
    """The Lease of the operator, in the namespace of its ServiceAccount."""

    def __init__(self, api: KubernetesAPI, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    @override
    async def read(self) -> dict[str, Any]:
        return await self._api.lease(self._namespace, LEASE_NAME)

    @override
    async def create(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        return await self._api.create_lease(self._namespace, self._body(spec, {}))

    @override
    async def replace(self, spec: Mapping[str, Any], version: str) -> dict[str, Any]:
        body = self._body(spec, {"resourceVersion": version})
        return await self._api.replace_lease(self._namespace, LEASE_NAME, body)

    def _body(self, spec: Mapping[str, Any], more: Mapping[str, str]) -> dict[str, Any]:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": LEASE_NAME, "namespace": self._namespace, **more},
            "spec": dict(spec),
        }


class Time(Protocol):
    """Seconds that pass, which no change of the clock touches."""

    def now(self) -> float:
        """Return seconds since some moment."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class MachineTime(Time):
    """The machine's; where it can tell, the time that the machine slept counts."""

    @override
    def now(self) -> float:
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    @override
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Election(Protocol):
    """Who works; one for the life of a process.

    Attributes:
        state: where this process stands, for people.
        trouble: why the API server could not be asked the last time; None if it could.
    """

    state: str
    trouble: str | None

    async def acquire(self) -> None:
        """Wait until this process may work."""

    async def keep(self) -> str:
        """Go on to hold what was acquired; return why it is lost, as soon as it is."""

    async def release(self) -> None:
        """Let the next one work at once. Nothing may be changed any more."""

    def objection(self) -> str | None:
        """Say why nothing may be changed (any more); None where nothing speaks against it. Cheap, and never late."""


class Alone(Election):
    """Without an election: somebody else sees to it that there is one operator only."""

    def __init__(self) -> None:
        self.state = "works alone, without leader election"
        self.trouble: str | None = None

    @override
    async def acquire(self) -> None:
        return

    @override
    async def keep(self) -> str:
        await asyncio.Event().wait()
        raise AssertionError("unreachable: nobody sets that event")

    @override
    async def release(self) -> None:
        return

    @override
    def objection(self) -> str | None:
        return None


@dataclass(frozen=True, slots=True)
class _Seen:
    """The Lease as it was seen, and since when it has been so by our own clock."""

    holder: str
    seconds: float
    acquired: str
    transitions: int
    version: str
    since: float

    @classmethod
    def of(cls, lease: Mapping[str, Any], now: float) -> _Seen:
        spec = lease.get("spec") or {}
        return cls(
            str(spec.get("holderIdentity") or ""),
            float(spec.get("leaseDurationSeconds") or 0),
            str(spec.get("acquireTime") or ""),
            int(spec.get("leaseTransitions") or 0),
            str(lease["metadata"]["resourceVersion"]),
            now,
        )


class LeaseElection(Election):
    """One Lease, held by at most one."""

    def __init__(self, store: LeaseStore, identity: str, seconds: int, clock: Clock, passing: Time) -> None:
        """Stand for election.

        Args:
            store: where the Lease is.
            identity: what no other operator calls itself. A Lease in its name is its own, whoever took it.
            seconds: after which others may take over a Lease that nobody renews.
            clock: the time of day, which the Lease shows to people; nobody decides by it.
            passing: by which everything is decided.
        """
        self.state = "has not seen the Lease yet"
        self.trouble: str | None = None
        self._store = store
        self._identity = identity
        self._seconds = seconds
        self._deadline = seconds * 2 / 3
        self._pause = seconds * 2 / 15
        self._clock = clock
        self._time = passing
        self._seen: _Seen | None = None
        self._acquired = ""
        self._transitions = 0
        self._version: str | None = None
        self._until = 0.0
        self._objection: str | None = "this operator does not hold the Lease"
        self._told = ""

    @override
    def objection(self) -> str | None:
        if self._objection is None and self._time.now() >= self._until:
            why = "" if self.trouble is None else f": {self.trouble}"
            self._lose(f"the Lease could not be renewed for {self._deadline:g} s{why}")
        return self._objection

    # Waiting

    @override
    async def acquire(self) -> None:
        while not await self._try():
            await self._time.sleep(self._until_next_try())

    def _until_next_try(self) -> float:
        """Return how long to wait: until the Lease may be taken, if that comes before the next look."""
        if self._seen is None or self.trouble is not None:
            return self._pause
        return min(self._pause, max(self._free_at(self._seen) - self._time.now(), 0.05))

    def _free_at(self, seen: _Seen) -> float:
        return seen.since + (seen.seconds if seen.seconds > 0 else self._seconds)

    async def _try(self) -> bool:
        """Take the Lease if it is free; say whether it is ours."""
        try:
            found = await self._within(self._store.read())
        except NotThereError:
            self._reached()
            return await self._take(None)
        except (APIError, TimeoutError) as error:
            self._troubled(error)
            return False
        self._reached()
        seen = _Seen.of(found, self._time.now())
        if self._seen is None or seen.version != self._seen.version:
            self._seen = seen
        if self._seen.holder not in ("", self._identity) and self._time.now() < self._free_at(self._seen):
            self._say(f"stands by: {self._seen.holder} holds the Lease")
            return False
        return await self._take(self._seen)

    async def _take(self, seen: _Seen | None) -> bool:
        sent = self._time.now()
        acquired = self._moment()
        transitions = 0 if seen is None else seen.transitions + (seen.holder != self._identity)
        spec = self._spec(acquired, transitions)
        try:
            if seen is None:
                taken = await self._within(self._store.create(spec))
            else:
                taken = await self._within(self._store.replace(spec, seen.version))
        except (ConflictError, NotThereError):
            return False  # somebody else was there first
        except (APIError, TimeoutError) as error:
            # It may have been carried out all the same: then it is found in our own name.
            self._troubled(error)
            return False
        self._acquired, self._transitions = acquired, transitions
        self._objection = None
        self._renewed(sent, taken)
        self._say(f"leads: {self._identity} holds the Lease")
        return True

    # Holding

    @override
    async def keep(self) -> str:
        while (reason := self.objection()) is None:
            await self._time.sleep(max(min(self._pause, self._until - self._time.now()), 0.0))
            if self.objection() is None:
                await self._renew()
        return reason

    async def _renew(self) -> None:
        sent = self._time.now()
        spec = self._spec(self._acquired, self._transitions)
        try:
            if self._version is None:
                renewed = await self._within(self._store.create(spec), self._until - sent)
            else:
                renewed = await self._within(self._store.replace(spec, self._version), self._until - sent)
        except ConflictError:
            await self._look_who()
        except NotThereError:
            self._version = None  # deleted: whoever creates it first holds it
        except (APIError, TimeoutError) as error:
            self._troubled(error)
        else:
            self._renewed(sent, renewed)

    async def _look_who(self) -> None:
        """See who changed the Lease: we, by a renewal whose answer was lost; somebody beside it; or the next holder."""
        try:
            seen = _Seen.of(await self._within(self._store.read(), self._until - self._time.now()), self._time.now())
        except NotThereError:
            self._version = None
        except (APIError, TimeoutError) as error:
            self._troubled(error)
        else:
            self._reached()
            if (seen.holder, seen.acquired) == (self._identity, self._acquired):
                self._version = seen.version
            else:
                self._lose(f"{seen.holder or 'nobody'} holds the Lease now")

    @override
    async def release(self) -> None:
        if self.objection() is not None:
            return
        self._objection = "this operator has released the Lease"
        self._say("has released the Lease")
        spec = {**self._spec(self._acquired, self._transitions), "holderIdentity": None, "leaseDurationSeconds": 1}
        for _ in range(2):  # a renewal that was cut short may have changed the version
            try:
                if self._version is not None:
                    await self._within(self._store.replace(spec, self._version))
            except ConflictError:
                await self._look_who()
            except (APIError, TimeoutError) as error:
                _log.warning(
                    "the Lease could not be released; others wait until it is old", extra={"cause": _of(error)}
                )
                return
            else:
                return

    # Both

    def _spec(self, acquired: str, transitions: int) -> dict[str, Any]:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._seconds,
            "acquireTime": acquired,
            "renewTime": self._moment(),
            "leaseTransitions": transitions,
        }

    def _moment(self) -> str:
        """Return the present as the API server wants it: always with six digits."""
        return self._clock.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    async def _within(self, call: Awaitable[dict[str, Any]], limit: float | None = None) -> dict[str, Any]:
        """Await a call for no longer than leaves time for another, and not beyond `limit` seconds."""
        longest = self._deadline / 2 if limit is None else min(self._deadline / 2, limit)
        async with asyncio.timeout(longest):
            try:
                return await call
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # kopf, when it ends, cancels whatever began after it: also a connection that is just being made.
                raise NoAnswerError("the request was cut short") from None

    def _renewed(self, sent: float, lease: Mapping[str, Any]) -> None:
        self._version = str(lease["metadata"]["resourceVersion"])
        self._until = sent + self._deadline
        self._told = ""
        self._reached()

    def _lose(self, reason: str) -> None:
        if self._objection is None:
            self._objection = reason
            self._say(f"has lost the Lease: {reason}")

    def _reached(self) -> None:
        self.trouble = None

    def _troubled(self, error: Exception) -> None:
        self.trouble = _of(error)
        if self.trouble != self._told:  # once, and not every two seconds
            _log.warning("the Lease cannot be read or written: %s", self.trouble)
        self._told = self.trouble

    def _say(self, state: str) -> None:
        if state != self.state:
            self.state = state
            _log.info("this operator %s", state)


def _of(error: Exception) -> str:
    if isinstance(error, ForbiddenError):
        return f"{error}; Role registry-cleanup-leader of manifests/base grants it with: {', '.join(LEASE_RULES)}"
    return str(error) or "no answer from the API server in time"
