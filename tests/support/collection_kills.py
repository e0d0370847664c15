"""An operator that is killed again and again while a registry collects its garbage, at writes that a proxy counts.

The process is killed right before a write to the API server is carried out, or right after it, before the operator
hears of it. What must hold after each collection: see `Campaign.round`.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.support.api_proxy import api_proxy, is_write
from tests.support.collecting import LIMIT, Left, ask, collecting_spec, collection, is_over, is_up_as_before, left
from tests.support.controlplane import ControlPlane
from tests.support.hosted import Hosted, Pulled, collector
from tests.support.kills import Kill, Steps
from tests.support.operator import Operator
from tests.support.processes import wait_until


@dataclass
class Campaign:
    """One policy that collects, and the operator that is killed over it.

    Attributes:
        registry: Whose garbage is collected.
        strategy: How it is frozen.
        steps: Writes to the API server.
        plane: As the operator sees it, behind the proxy.
        kills: How many so far, by what they struck.
        ends: How collections ended, by phase.
        starts: How many operators were started.
    """

    registry: Hosted
    strategy: str
    steps: Steps
    plane: ControlPlane
    kills: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    _rounds: int = 0
    _before: Left | None = None
    _life: ExitStack = field(default_factory=ExitStack)
    _operator: Operator | None = None

    def begin(self) -> None:
        """Make the policy, which plans first; all that comes later is about a collection."""
        self._before = left(self.registry)
        self.start()
        wanted = {"strategy": self.strategy}
        # What it prunes is of no interest here.
        self.registry.namespace.apply(collecting_spec(self.registry, wanted, repositories={"include": ["nothing/*"]}))
        self.registry.namespace.planned()

    def round(self, kill: Kill | None = None, chain: Random | None = None) -> int:
        """Collect, and see what it leaves; return how many writes that took.

        However often the operator was killed, the registry is up, takes pushes and has all that it had, its workload is
        as it was, and the collection was answered. One that ended as Succeeded removed what was to be removed.

        Args:
            kill: When the operator is killed first.
            chain: Chooses whether the operator is killed again and again after that.
        """
        assert self._before is not None
        self._rounds += 1
        request = f"round-{self._rounds}"
        self.registry.litter(request)
        there = self._pulled()
        self.start()
        self.steps.begin(kill)
        ask(self.registry, request)
        while self._struck(request):
            self._bury()
            again = chain is not None and chain.random() < 0.4
            self.steps.begin(Kill(chain.randint(1, 12), chain.random() < 0.5) if again and chain is not None else None)
            self.start()
        steps = self.steps.count
        self.steps.begin()
        told = collection(self.registry.namespace.policy())
        self.ends[told["phase"]] += 1
        assert told["phase"] == "Succeeded" or told["message"], "a collection failed without a word"
        assert told["phase"] == "Succeeded" or kill is not None, told
        is_up_as_before(self.registry, self._before, request)
        assert self._pulled().items() >= there.items(), "something was lost"
        return steps

    def _pulled(self) -> Pulled:
        return self.registry.pulled()

    def _struck(self, request: str) -> bool:
        """Wait for the end of the collection or of the operator; say whether it was the operator's."""
        assert self._operator is not None
        process = self._operator.process

        def is_done() -> bool:
            self.registry.place.node.check()
            return process.exit_code is not None or is_over(self.registry.namespace.policy(), request)

        try:
            wait_until(is_done, LIMIT, "the collection or a kill")
        except Exception as error:
            error.add_note(f"killed at {self.steps.where!r}; {self.registry.namespace.policy().get('status')}")
            error.add_note(self.registry.place.kubectl("get", "pods,jobs,deployments,statefulsets", "-o=wide"))
            raise
        if self.steps.killed:  # perhaps just after the work was done
            process.wait(LIMIT)
            return True
        assert process.exit_code is None, f"the operator ended by itself:\n{process.tail()}"
        return False

    # Lives

    def start(self) -> None:
        """Start an operator unless one lives; it may be killed before it says that it is well."""
        if self._operator is not None:
            return
        self.starts += 1
        life = ExitStack()
        node, name = self.registry.place.node, f"life-{self.starts}"
        self._operator = life.enter_context(collector(node, self.plane, self.plane.folder / name))
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


@contextmanager
def campaign(registry: Hosted, strategy: str, folder: Path) -> Iterator[Campaign]:
    """Put the API server behind a proxy that counts the operator's writes."""
    steps = Steps()
    plane = registry.place.node.plane
    with api_proxy(plane.url, plane.ca_file, folder / "api") as api:
        api.inject(steps.fault, is_write)
        made = Campaign(registry, strategy, steps, api.before(plane, folder / "plane"))
        try:
            made.begin()
            yield made
        finally:
            made.end()
