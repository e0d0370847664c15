"""An operator that is killed again and again over one policy, at steps that proxies count, and what must hold after it.

A step is a request to the registry, or a write to the API server. The process is killed right before a step is carried
out, or right after it, before the operator hears of it.
"""

import asyncio
import json
import signal
import threading
import zlib
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from aiohttp import web

from registry_cleanup.domain.published import Published, decode
from tests.support.api_proxy import APIProxy, api_proxy, cut, is_write
from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.faulty import FaultyRegistry, Forward, faulty_registry
from tests.support.images import push_image
from tests.support.operator import Operator, operator
from tests.support.policies import LIMIT, NAME, Namespace, Resource, is_planned, last_run, policy_spec
from tests.support.processes import Process, wait_until
from tests.support.registries import RegistryServer

# A busy machine may take long to start an operator; nothing waits so long where all is well.
_PATIENCE = 90.0
_APPS = {"team/a": 5, "team/b": 4}


@dataclass(frozen=True)
class Kill:
    """The end of an operator at one of its steps.

    Attributes:
        number: Of the step, counted from the moment when the test begins to count.
        after: Whether the step is carried out before the process ends.
    """

    number: int
    after: bool


class Steps:
    """Counts steps, and kills the operator at the one that is chosen.

    Attributes:
        count: How many there were.
        where: The one that the operator was killed at; empty before that.
        deleted: How often the registry accepted a deletion, by path.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kill: Kill | None = None
        self._victim: Process | None = None
        self._known = threading.Event()
        self.count = 0
        self.where = ""
        self.deleted: Counter[str] = Counter()

    def begin(self, kill: Kill | None = None) -> None:
        """Count from one; kill at this step."""
        with self._lock:
            self.count, self._kill, self.where = 0, kill, ""

    @property
    def killed(self) -> bool:
        """Whether the chosen step was reached."""
        return self.where != ""

    def watch(self, victim: Process | None) -> None:
        """Say whom to kill; a step that is reached before waits for it."""
        self._victim = victim
        if victim is None:
            self._known.clear()
        else:
            self._known.set()

    async def fault(self, request: web.Request, forward: Forward) -> web.StreamResponse:
        """Count this request, and pass it on or kill."""
        with self._lock:
            self.count += 1
            kill = self._kill
            if kill is None or self.count != kill.number:
                kill = None
            else:
                self.where = f"{request.method} {request.path}"
        if kill is not None and not kill.after:
            await asyncio.to_thread(self._strike)
            return cut(request)
        answer = await forward()
        if request.method == "DELETE" and answer.status == 202:
            self.deleted[request.path] += 1
        if kill is None:
            return answer.response()
        await asyncio.to_thread(self._strike)
        return cut(request)

    def _strike(self) -> None:
        assert self._known.wait(_PATIENCE), "nobody to kill"
        assert self._victim is not None
        self._victim.signal(signal.SIGKILL)
        self._victim.wait(LIMIT)


@dataclass
class Campaign:
    """One policy at one registry, and the operator that is killed over it.

    Attributes:
        namespace: Of the policy.
        server: The registry.
        kills: How many so far, by what they struck.
        starts: How many operators were started.
    """

    namespace: Namespace
    server: RegistryServer
    crane: Crane
    folder: Path
    steps: Steps
    plane: ControlPlane
    api: APIProxy
    registry: FaultyRegistry
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    _rounds: int = 0
    _uid: str = ""
    _digests: dict[str, dict[str, str]] = field(default_factory=dict)
    _lengths: list[int] = field(default_factory=list)
    _life: ExitStack = field(default_factory=ExitStack)
    _operator: Operator | None = None

    # What there is, and what stays

    def _push(self) -> None:
        """Push what a round begins with; the same each time, digest by digest."""
        self._digests = {repository: {} for repository in _APPS}
        for repository, number in _APPS.items():
            for build in range(1, number + 1):
                more = ["release"] if build == 2 else []
                tags = [f"build-{build}", *more]
                created = datetime(2020, 1, build, tzinfo=UTC)
                digest = push_image(self.server.url, repository, tags, created=created, seed=f"{repository} {build}")
                self._digests[repository] |= dict.fromkeys(tags, digest)

    def _going(self, repository: str) -> set[str]:
        # Where only whole digests can be deleted, `release` keeps what it shares with build-2.
        shared = {"build-2"} if self.server.version == "2" else set()
        return {f"build-{build}" for build in range(1, _APPS[repository] - 1)} - shared

    @property
    def going(self) -> int:
        """How many tags go in a round."""
        return sum(len(self._going(repository)) for repository in _APPS)

    def _there(self) -> dict[str, dict[str, str]]:
        """Return the digest of every tag, as crane sees it."""
        found = {}
        for repository in _APPS:
            place = f"{self.server.host}/{repository}"
            found[repository] = {tag: self.crane.digest(f"{place}:{tag}") for tag in self.crane.ls(place)}
        return found

    def _staying(self) -> dict[str, dict[str, str]]:
        return {
            repository: {tag: digest for tag, digest in tags.items() if tag not in self._going(repository)}
            for repository, tags in self._digests.items()
        }

    def _published(self) -> Published:
        (plan,) = [each for name, each in self.namespace.config_maps().items() if name.endswith("-plan-0")]
        return decode(self._uid, zlib.decompress(b64decode(plan["binaryData"]["plan"])))

    # Rounds

    def round(self, planning: Kill | None = None, pruning: Kill | None = None, chain: Random | None = None) -> None:
        """Push, plan and prune, and see that all is as the policy says.

        Args:
            planning: when the operator is killed first while it plans.
            pruning: when it is killed first while it prunes.
            chain: chooses whether the operator is killed again and again after that.
        """
        self._rounds += 1
        self._push()
        self._lengths.clear()
        self.api.writes.clear()
        self.steps.deleted.clear()
        before = self.namespace.policy().get("status", {}).get("lastHandledRunRequest") if self._uid else None
        planned = self._until_done(self._change, self._is_planned, planning, chain)
        assert planned["status"]["plan"]["deletions"] == self.going
        assert self._items() == self.going, "the published plan holds what goes"
        assert self._there() == self._digests, "planning changed the registry"
        self._lives_on(planned, "SpecChange", dry_run=True)
        request = f"round-{self._rounds}"
        asked = len(self._statuses())
        done = self._until_done(
            lambda: self.namespace.request_run(request), lambda policy: _handled(policy, request), pruning, chain
        )
        self._lives_on(done, "Request", dry_run=False)
        assert self._there() == self._staying(), "the registry holds what the policy says"
        assert self._items() == 0, "the published plan holds what is left"
        assert set(self.steps.deleted.values()) == {1}, "deleted once"
        handled = [status.get("lastHandledRunRequest") for status in self._statuses()]
        assert set(handled[:asked]) <= {before}
        assert [one for one in dict.fromkeys(handled[asked:]) if one != before] == [request]
        assert handled == sorted(handled, key=lambda one: one == request), "handled once"

    def lengths(self) -> tuple[int, int]:
        """Carry out a round without a kill, and return how many steps its planning and its pruning have."""
        self.round()
        planning, pruning = self._lengths
        return planning, pruning

    def _until_done(
        self,
        action: Callable[[], None],
        done: Callable[[Resource], bool],
        kill: Kill | None,
        chain: Random | None,
    ) -> Resource:
        """Act, and kill and start the operator until the policy is as `done` wants it; no step comes after that."""
        self.start()
        self.steps.begin(kill)
        action()
        while True:
            if not self._struck(done):
                self._lengths.append(self.steps.count)
                self.steps.begin()
                return self.namespace.policy()
            self._bury()
            again = chain is not None and chain.random() < 0.4
            self.steps.begin(Kill(chain.randint(1, 30), chain.random() < 0.5) if again and chain is not None else None)
            self.start()

    def _struck(self, done: Callable[[Resource], bool]) -> bool:
        """Wait for the end of the work or of the operator; say whether it was the operator's."""
        assert self._operator is not None
        process = self._operator.process

        def is_over() -> bool:
            return process.exit_code is not None or done(self.namespace.policy())

        wait_until(is_over, _PATIENCE, "the work or a kill")
        if self.steps.killed:  # perhaps just after the work was done
            process.wait(LIMIT)
            return True
        assert process.exit_code is None, f"the operator ended by itself:\n{process.tail()}"
        return False

    def _change(self) -> None:
        """Make a new generation that plans the same."""
        limits = {"limits": {"maxDeletions": 100 + self._rounds}}
        if self._uid:
            self.namespace.change(limits)
        else:
            spec = policy_spec(self.registry.url, dryRun=False, **limits)
            self._uid = self.namespace.apply(spec)

    def _is_planned(self, policy: Resource) -> bool:
        return is_planned(policy) and last_run(policy)["phase"] == "Succeeded"

    # Lives

    def start(self) -> None:
        """Start an operator unless one lives; it may be killed before it says that it is well."""
        if self._operator is not None:
            return
        self.starts += 1
        life = ExitStack()
        self._operator = life.enter_context(operator(self.plane, self.folder / f"life-{self.starts}"))
        self._life = life
        self.steps.watch(self._operator.process)

    def _bury(self) -> None:
        self.kills[self.steps.where.partition(" ")[0]] += 1
        self.end()

    def end(self) -> None:
        """End the operator, if one lives."""
        self._life.close()
        self._operator = None
        self.steps.watch(None)

    # What must hold

    def _items(self) -> int:
        return sum(len(entries) for entries in self._published().repositories.values())

    def _statuses(self) -> list[dict[str, Any]]:
        """Return what was written to the policy's status in this round, in order."""
        path = f"/namespaces/{self.namespace.name}/registrycleanuppolicies/{NAME}/status"
        return [
            json.loads(write.body)[-1]["value"]
            for write in self.api.writes
            if write.path.endswith(path) and write.status == 200
        ]

    def _lives_on(self, policy: Resource, trigger: str, *, dry_run: bool) -> None:
        """See that the status tells of every run how it ended, and of the last that it did what was asked."""
        run = last_run(policy)
        assert (run["phase"], run["trigger"], run["dryRun"]) == ("Succeeded", trigger, dry_run)
        assert run["counts"]["tagsFailed"] == run["counts"]["repositoriesFailed"] == 0

        def is_recorded() -> bool:
            # The resource shows it a moment before the proxy has the API server's answer.
            told = [status["lastRun"] for status in self._statuses() if "lastRun" in status]
            return any((each["id"], each["phase"]) == (run["id"], run["phase"]) for each in told)

        wait_until(is_recorded, LIMIT, "the record of the last status")
        phases: dict[str, list[str]] = {}
        for status in self._statuses():
            if "lastRun" in status:
                told = phases.setdefault(status["lastRun"]["id"], [])
                if told[-1:] != [status["lastRun"]["phase"]]:
                    told.append(status["lastRun"]["phase"])
        # The run before this round may be told of once more, as it ended.
        ends = (["Running", "Succeeded"], ["Running", "Interrupted"], ["Succeeded"])
        assert {id_: told for id_, told in phases.items() if told not in ends} == {}, "a run ended without a word"
        history = policy["status"].get("history", [])
        assert len({each["id"] for each in history}) == len(history)
        assert all(each["phase"] != "Running" for each in history)


def _handled(policy: Resource, request: str) -> bool:
    status = policy.get("status", {})
    return bool(status.get("lastHandledRunRequest") == request and status["lastRun"]["phase"] != "Running")


@contextmanager
def campaign(plane: ControlPlane, namespace: Namespace, server: RegistryServer, folder: Path) -> Iterator[Campaign]:
    """Put the registry and the API server behind proxies that count the operator's steps."""
    steps = Steps()
    with ExitStack() as stack:
        api = stack.enter_context(api_proxy(plane.url, plane.ca_file, folder / "api"))
        registry = stack.enter_context(faulty_registry(server.url))
        api.inject(steps.fault, is_write)
        registry.inject(steps.fault)
        before = api.before(plane, folder / "plane")
        made = Campaign(namespace, server, Crane(folder / "crane"), folder, steps, before, api, registry)
        try:
            yield made
        finally:
            made.end()
