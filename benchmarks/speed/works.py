"""The kinds of work that are measured, each in rounds that take one client after the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from benchmarks.speed.layout import Shape, WrittenRegistry, written
from benchmarks.speed.ours import NAMES_KEPT
from benchmarks.speed.peers import PEERS, peers_python, script
from benchmarks.speed.rounds import Cores, Ended, Figures, ended, on, python
from benchmarks.speed.table import BARE, OURS, Section, Target, ratios, start_up_ratios
from benchmarks.speed.truth import RepositoryTruth
from tests.support.registries import RegistryServer, Version, distribution
from tests.support.workshop import UnavailableError, cache, say

AGE = timedelta(days=30)
"""Older than this goes, where something is planned."""

_KEPT_AGE = timedelta(days=1)  # leaves one tag in a hundred
_CONNECTIONS = 16
_PRELUDE = 4  # requests of a run besides those for tags: /v2/, the list of repositories, two to ask what can be deleted
_FEW_HUNDRED = 400
_PEERS_IN_FLIGHT = 8

Going = set[tuple[str, ...]]
_Client = Callable[[], Figures]


class WrongError(Exception):
    """What a client said, or did, is not the truth."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and how often things are measured.

    Attributes:
        folder: for registries, logs and results.
        registries: the folder where registries are kept.
        rounds: of each work.
        cores: of servers and clients.
        size: tags, in place of those that the issue names; None for these.
    """

    folder: Path
    registries: Path
    rounds: int
    cores: Cores
    size: int | None = None

    def shape(self, repositories: int, tags: int, purpose: str = "reading") -> Shape:
        """Return a shape, or one of the size that was asked for instead."""
        if self.size is None:
            return Shape(repositories, tags, purpose)
        many = min(repositories, max(self.size // tags, 1))
        return Shape(many, self.size // many, purpose)

    @contextmanager
    def stage(self, version: Version, shape: Shape, kept: Path | None = None) -> Iterator[Stage]:
        """Write a registry, into `kept` if that is given, and serve it."""
        say(f"Writing a registry of {shape.repositories} x {shape.tags} tags, unless it is there")
        registry = written(shape, kept or self.registries)
        folder = self.folder / f"server-{version}"
        with ExitStack() as stack:
            with on(self.cores.server):
                serving = distribution(version, folder, storage=registry.storage, access_log=False)
                server = stack.enter_context(serving)
            yield Stage(self, registry, server)

    def in_turn(self, clients: Mapping[str, _Client]) -> dict[str, list[Figures]]:
        """Let one client after the other do its work, round by round."""
        found: dict[str, list[Figures]] = {name: [] for name in clients}
        for number in range(1, self.rounds + 1):
            for name, client in clients.items():
                figures = client()
                found[name].append(figures)
                say(f"  round {number} of {self.rounds}: {name}: {figures.seconds:.1f} s, {figures.cpu:.1f} s of CPU")
        return found


@dataclass(frozen=True, slots=True)
class Stage:
    """A registry that is served, and the clients that work on it."""

    bench: Bench
    registry: WrittenRegistry
    server: RegistryServer

    @property
    def size(self) -> int:
        """The number of tags."""
        return self.registry.truth.size

    def bare(self, work: str, days: float = AGE.days) -> Figures:
        """Do the work with the bare client; one that deletes is checked by what is left."""
        command = python("benchmarks.speed.limit", self.server.host, self.registry.truth_file, work, _CONNECTIONS, days)
        done = self._ended(command)
        return Figures(self.size, done.told["requests"], done.told["seconds"], done.told["cpu"], done.seconds)

    def ours(
        self, work: str, expected: Going, *, days: float = AGE.days, concurrency: int = 16, facts: Path | None = None
    ) -> Figures:
        """Do the work with the operator's engine, and check what it planned or pruned."""
        result = self.bench.folder / "result"
        options = [
            self.server.url,
            result,
            *("--work", work),
            *("--days", days),
            *("--concurrency", concurrency),
            *(() if facts is None else ("--cache", facts)),
        ]
        done = self._ended(python("benchmarks.speed.ours", *options))
        told = done.told
        if told["tags"] != self.size:
            raise WrongError(f"the operator saw {told['tags']} of {self.size} tags")
        compare(OURS, lines_of(result, len(next(iter(expected), ()))), expected)
        memory = told["peak"] - told["idle"]
        part = told.get("pruning", told)
        return Figures(self.size, part["requests"], part["seconds"], part["cpu"], done.seconds, memory)

    def peer(self, name: str, interpreter: Path, expected: Going) -> Figures:
        """Read digest and date of each tag with a peer, and check them."""
        result = self.bench.folder / "result"
        names = [one.name for one in self.registry.truth.repositories]
        command = [str(interpreter), str(script(name)), self.server.host, str(result), *names]
        done = self._ended(command, tells=False)
        compare(name, lines_of(result, 4), expected)
        return Figures(self.size, None, done.seconds, done.cpu, done.seconds)

    def _ended(self, command: Sequence[str], *, tells: bool = True) -> Ended:
        return ended(command, self.bench.cores.client, tells=tells)


def cold(bench: Bench, tags: int = 10_000, *, with_peers: bool = True) -> Section:
    """Measure a plan by age that sees everything for the first time, beside peers that read digest and date."""
    notes: list[str] = []
    with bench.stage("2", bench.shape(1, tags)) as stage:
        truth = stage.registry.truth
        expected: Going = set(truth.older_than(AGE))
        clients: dict[str, _Client] = {BARE: lambda: stage.bare("cold"), OURS: lambda: stage.ours("cold", expected)}
        if with_peers:
            dates: Going = {(*place, *facts) for place, facts in truth.dates().items()}
            try:
                interpreter = peers_python()
            except UnavailableError as error:
                notes.append(f"The peers could not be installed: {error}")
            else:
                clients |= {name: _peer(stage, name, interpreter, dates) for name in PEERS}
                notes.append(f"Peers have {_PEERS_IN_FLIGHT} requests in flight, the others {_CONNECTIONS}.")
        stage.bare("cold")  # nobody is the first to touch the server
        found = bench.in_turn(clients)
        targets = [
            Target("time, times the bare client's", 1.5, ratios(found[OURS], found[BARE])),
            Target("requests per tag", 1.95, [(one.requests or 0) / one.tags for one in found[OURS]]),
        ]
        if peers := [found[name] for name in PEERS if name in found]:
            fastest = min(peers, key=lambda rounds: sum(one.whole for one in rounds))
            faster = start_up_ratios(fastest, found[OURS])
            targets.append(Target("times as fast as the fastest peer, start-up included", 1.5, faster, at_least=True))
        title = f"Cold plan by age, {stage.size:,} tags in one repository, Distribution 2.8"
        return Section(title, found, targets, notes)


def _peer(stage: Stage, name: str, interpreter: Path, expected: Going) -> _Client:
    return lambda: stage.peer(name, interpreter, expected)


def concurrency(bench: Bench) -> Section:
    """Measure what requests cost the client at 8 and at 64 in flight."""
    with bench.stage("2", bench.shape(1, 10_000)) as stage:
        expected: Going = set(stage.registry.truth.older_than(AGE))
        few, many = f"{OURS}, 8 in flight", f"{OURS}, 64 in flight"
        found = bench.in_turn(
            {
                few: lambda: stage.ours("cold", expected, concurrency=8),
                many: lambda: stage.ours("cold", expected, concurrency=64),
            }
        )
        costs = [[one.cpu / (one.requests or 1) for one in found[name]] for name in (many, few)]
        values = [a / b for a, b in zip(*costs, strict=True)]
        title = f"Cold plan by age, {stage.size:,} tags in one repository, by concurrency, Distribution 2.8"
        return Section(title, found, [Target("client CPU per request, 64 in flight against 8", 1.2, values)])


def warm(bench: Bench) -> Section:
    """Measure a plan by age that has seen everything before."""
    facts = bench.folder / "facts"
    with bench.stage("2", bench.shape(200, 500)) as stage:
        expected: Going = set(stage.registry.truth.older_than(AGE))
        first = stage.ours("warm", expected, facts=facts)
        found = bench.in_turn(
            {BARE: lambda: stage.bare("warm"), OURS: lambda: stage.ours("warm", expected, facts=facts)}
        )
        ours, bare = found[OURS], found[BARE]
        speed = [1 / ratio for ratio in ratios(ours, bare)]
        targets = [
            Target("of the bare client's speed", 0.6, speed, at_least=True),
            Target("requests besides one for each tag", _FEW_HUNDRED, [(one.requests or 0) - one.tags for one in ours]),
            Target("peak memory above idle", 120, [(one.memory or 0) / 1e6 for one in ours], unit=" MB"),
        ]
        many = len(stage.registry.truth.repositories)
        memory = (first.memory or 0) / 1e6
        note = f"The first plan took {first.seconds:.0f} s, {first.requests:,} requests and {memory:.0f} MB above idle."
        title = f"Warm plan by age, {stage.size:,} tags in {many} repositories, Distribution 2.8"
        return Section(title, found, targets, [note])


def names(bench: Bench) -> Section:
    """Measure a plan whose rules read nothing but names, at a registry that deletes tags."""
    with bench.stage("3", bench.shape(1, 10_000)) as stage:
        repositories = stage.registry.truth.repositories
        expected: Going = {(one.name, tag) for one in repositories for tag in beyond(one, NAMES_KEPT)}
        found = bench.in_turn({BARE: lambda: stage.bare("names"), OURS: lambda: stage.ours("names", expected)})
        lists = len(repositories) + _PRELUDE
        others = [(one.requests or 0) - lists for one in found[OURS]]
        title = f"Plan by names alone, {stage.size:,} tags in one repository, Distribution 3.1"
        return Section(title, found, [Target("requests other than lists", 0, others)])


def deletion(bench: Bench) -> Section:
    """Measure the deletions of all but one tag in a hundred, at a registry that deletes tags.

    Its storage is on a disk, as that of registries is: reading finds all in memory anyway, but deleting does not.
    """
    with bench.stage("3", bench.shape(1, 10_000, "deletion"), cache() / "benchmarks") as stage:
        registry = stage.registry
        expected = registry.truth.older_than(_KEPT_AGE)
        everything: Going = {(one.name, tag) for one in registry.truth.repositories for tag in one.tags}
        left = everything - {(repository, tag) for repository, tag, _ in expected}

        def checked(client: _Client) -> _Client:
            def deletes() -> Figures:
                registry.restore()
                figures = client()
                compare("what was left on the disk", registry.tags_left(), left)
                return replace(figures, tags=len(expected))

            return deletes

        days = _KEPT_AGE / timedelta(days=1)
        found = bench.in_turn(
            {
                BARE: checked(lambda: stage.bare("deletion", days)),
                OURS: checked(lambda: stage.ours("deletion", set(expected), days=days)),
            }
        )
        registry.restore()
        targets = [Target("time, times the bare client's", 1.5, ratios(found[OURS], found[BARE]))]
        title = f"Deleting {len(expected):,} of {stage.size:,} tags in one repository, Distribution 3.1"
        notes = ["The figures are those of the deletions; what was planned before is not counted, but for memory."]
        return Section(title, found, targets, notes)


def beyond(one: RepositoryTruth, kept: int) -> list[str]:
    """Return the tags that the policy by names lets go: of those that it owns, all but the newest."""
    owned = sorted(tag for tag in one.tags if tag[-1] in "01234567")
    return owned[: max(len(owned) - kept, 0)]


def lines_of(file: Path, fields: int) -> Going:
    """Return the first fields of each line."""
    with file.open() as lines:
        return {tuple(line.split()[:fields]) for line in lines}


def compare(who: str, found: Going, expected: Going) -> None:
    """Raise `WrongError` where the two differ."""
    if found != expected:
        missing, more = sorted(expected - found), sorted(found - expected)
        detail = json.dumps({"missing": missing[:3], "too much": more[:3]})
        raise WrongError(f"{who}: {len(missing)} lines are missing and {len(more)} are too much: {detail}")


SMALL = "cold-1000"

WORKS: Mapping[str, Callable[[Bench], Section]] = {
    SMALL: lambda bench: cold(bench, 1000),
    "cold": cold,
    "concurrency": concurrency,
    "warm": warm,
    "names": names,
    "deletion": deletion,
}
"""By the name that `--only` takes."""
