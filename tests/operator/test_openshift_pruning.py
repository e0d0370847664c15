"""A large policy on OpenShift prunes exactly its plan and says so, while builds go on pushing."""

import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.controlplane import ControlPlane
from tests.support.image_api import ImageApi
from tests.support.image_api.faults import ApiRequest
from tests.support.openshift_cluster import (
    ACCOUNT,
    LOOKED_AT,
    SERVICE_CA,
    STATUS_ROLE,
    TAGS_ROLE,
    OpenShiftCluster,
    openshift_cluster,
)
from tests.support.operator import OWN_USER, Operator
from tests.support.policies import Namespace, Resource, condition, conditions, last_run

# Seconds between two pushes.
_PAUSE = 0.005
_BUILDS = 46
_STREAMS = 40
# Of each stream's builds the oldest 36 go; of the others the newest 3 are kept as such, all others for their age.
_OLD, _RECENT = 36, 3
_KEEP = "registrycleanup.dev/keep"

# A namespace and the name of a stream in it.
Key = tuple[str, str]
Contents = Mapping[Key, Mapping[str, str]]


@dataclass(frozen=True)
class Registry:
    """40 streams of 50 tags in three namespaces, and what is to become of them by the rules' words.

    Attributes:
        cluster: Where they are.
        namespaces: In their order.
        streams: All of them.
        going: The tags of each that are to go.
        kept: Number of those that stay, by reason.
    """

    cluster: OpenShiftCluster
    namespaces: tuple[str, ...]
    streams: tuple[Key, ...]
    going: Mapping[Key, set[str]]
    kept: Counter[str]

    def contents(self) -> dict[Key, dict[str, str]]:
        return {key: self.cluster.images.tags(*key) for key in self.streams}


@pytest.fixture(scope="module")
def cluster(installed: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenShiftCluster]:
    with openshift_cluster(installed, tmp_path_factory.mktemp("openshift")) as running:
        yield running


@pytest.fixture
def registry(cluster: OpenShiftCluster, namespace: Namespace) -> Iterator[Registry]:
    """Fill three namespaces, of which the first has the policy, and grant the least Role in all of them."""
    cluster.images.calm()
    namespaces = (namespace.name, f"{namespace.name}-b", f"{namespace.name}-c")
    for name in namespaces[1:]:
        cluster.plane.kubectl("create", "namespace", name)
    namespace.grant_credentials()
    namespace.create_service_account(ACCOUNT)
    namespace.create_config_map(cluster.service_ca, name=SERVICE_CA)
    cluster.bind(TAGS_ROLE, f"{namespace.name}:{ACCOUNT}", *namespaces)
    yield _filled(cluster, namespaces)
    cluster.images.calm()


def _filled(cluster: OpenShiftCluster, namespaces: tuple[str, ...]) -> Registry:
    """Push 46 builds, `latest` and three more tags to each stream; every fourth has the same peculiarity."""
    images = cluster.images
    streams = tuple((namespaces[number % 3], f"app-{number:02}") for number in range(_STREAMS))
    # Half a day off, so that no build turns 30 days old while the test runs.
    oldest = datetime.now(UTC).replace(microsecond=0) - timedelta(days=30 + _OLD - 1, hours=12)
    going: dict[Key, set[str]] = {}
    kept: Counter[str] = Counter()
    for number, (namespace, name) in enumerate(streams):
        digests = images.fill(namespace, name, _BUILDS, name="build-{:03}", created=oldest, step=timedelta(days=1))
        goes = {f"build-{build:03}" for build in range(_OLD)}
        images.push(namespace, name, "latest", created=oldest)
        # One image under two names, of which only one goes.
        images.push_again(namespace, name, "release-1", digests["build-000"], created=oldest)
        kept += Counter(
            {"MostRecent": _RECENT, "NotOldEnough": _BUILDS - _OLD - _RECENT, "KeepTags": 1, "Unmatched": 1}
        )
        nightly = 2
        match number % 4:
            case 0:
                images.import_tag(namespace, name, "build-900", created=oldest)
                kept["ManagedBySpec"] += 1
                nightly = 1
            case 1:
                images.create_stream(namespace, name, annotations={_KEEP: "build-00[0-4], nothing-.*"})
                goes -= {f"build-{build:03}" for build in range(5)}
                kept["KeepTags"] += 5
            case 2:
                # Its neighbour, in the next namespace, runs what this one built.
                other = streams[number + 1]
                images.alias(*other, "stable", "build-010", source_stream=name, source_namespace=namespace)
                goes.remove("build-010")
                kept += Counter({"InUse": 1, "Unmatched": 1})
            case _:
                # An alias of its own is managed, and what it names is in use.
                images.alias(namespace, name, "build-901", "build-011")
                goes.remove("build-011")
                kept += Counter({"InUse": 1, "ManagedBySpec": 1})
                nightly = 0
        for index in range(nightly):
            images.push(namespace, name, f"nightly-{index}", created=oldest)
        kept["Unmatched"] += nightly
        going[namespace, name] = goes
    return Registry(cluster, namespaces, streams, going, kept)


def _spec(namespaces: tuple[str, ...]) -> dict[str, Any]:
    rule = {
        "name": "builds",
        "tags": {"include": ["build-[0-9]+"]},
        "olderThan": "30d",
        "keep": {"mostRecent": _RECENT},
    }
    return {
        "registry": {"type": "OpenShift", "serviceAccountName": ACCOUNT},
        "repositories": {"include": [f"{namespace}/*" for namespace in namespaces]},
        "rules": [rule],
        "gracePeriod": "0s",
        "limits": {"maxDeletions": 10_000, "maxPercentPerRepository": 100},
        "dryRun": False,
    }


@dataclass
class Builds:
    """Builds that go on pushing: tags that are new, and tags that are to go, which then name something else.

    Attributes:
        images: Where to.
        last: The digest that each pushed tag has to have in the end.
    """

    images: ImageApi
    registry: Registry
    atomic: bool
    last: dict[tuple[Key, str], str] = field(default_factory=dict)
    _looked_at: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _random: random.Random = field(default_factory=lambda: random.Random(4))  # noqa: S311 - no cryptography

    def push(self, key: Key, tag: str) -> None:
        """Push something new under a tag, unless it is just being removed by its name."""
        with self._lock:
            if not self.atomic and f"{key[0]}/{key[1]}:{tag}" in self._looked_at:
                return
            self.last[key, tag] = self.images.push(*key, tag, seed=f"{key} {tag} {len(self.last)}")

    def look(self, request: ApiRequest) -> None:
        """Hear that the operator is about to look at a tag before it removes it.

        Between that look and the DELETE is a moment in which a push is lost, as the documentation says: a DELETE
        takes no condition on what it deletes (openshift.md, 5). Nobody pushes there.
        """
        parts = request.path.split("/")
        with self._lock:
            self._looked_at.add(f"{parts[-3]}/{parts[-1]}")

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Push all the while."""
        end = threading.Event()

        def work() -> None:
            number = 0
            while not end.wait(_PAUSE):
                key = self._random.choice(self.registry.streams)
                self.push(key, f"build-{2000 + number}" if number % 2 else self._random.choice(self._goers(key)))
                number += 1

        thread = threading.Thread(target=work, name="builds", daemon=True)
        with self.images.on_request(self.look, method="GET", path=".*/imagestreamtags/.*"):
            thread.start()
            try:
                yield
            finally:
                end.set()
                thread.join()

    def _goers(self, key: Key) -> list[str]:
        return sorted(self.registry.going[key])


@pytest.mark.parametrize("role", [TAGS_ROLE, STATUS_ROLE], ids=["least role", "with imagestreams/status"])
def test_a_policy_over_many_streams_prunes_exactly_its_plan_while_builds_go_on(
    registry: Registry, namespace: Namespace, shared_operator: Operator, role: str
) -> None:
    images = registry.cluster.images
    user = f"{namespace.name}:{ACCOUNT}"
    if role == STATUS_ROLE:
        registry.cluster.bind(role, user, *registry.namespaces)
    before = registry.contents()
    assert sum(map(len, before.values())) == 50 * _STREAMS
    planned_tags = sum(map(len, registry.going.values()))

    # The plan, while nobody pushes, is what the rules say in words.
    namespace.apply(_spec(registry.namespaces))
    planned = namespace.planned()
    assert _plan(shared_operator, planned) == _flat(registry.going)
    counts = last_run(planned)["counts"]
    assert (counts["repositoriesScanned"], counts["repositoriesFailed"]) == (_STREAMS, 0)
    assert (counts["tagsScanned"], counts["tagsPlanned"]) == (50 * _STREAMS, planned_tags)
    assert counts["tagsKept"] == 50 * _STREAMS - planned_tags
    # Nothing was published before, so all of it has to wait for the next run.
    assert Counter(last_run(planned)["keptByReason"]) == registry.kept + Counter({"GracePeriod": planned_tags})
    assert registry.contents() == before
    images.requests.clear()

    builds = Builds(images, registry, role == STATUS_ROLE)
    first = registry.streams[0]
    moved = f"build-{_OLD - 1:03}"
    # One push, at least, certainly comes between the plan and the removal.
    method, path = ("PUT", f".*/{first[1]}/status") if builds.atomic else ("DELETE", f".*/{first[1]}:build-.*")
    pushed = threading.Lock()

    def push_in_between(_request: ApiRequest) -> None:
        if pushed.acquire(blocking=False):
            builds.push(first, moved)

    with builds.going_on(), images.on_request(push_in_between, method=method, path=path):
        done = namespace.run("now")
    after = registry.contents()
    _check(registry, builds, before, after, _outcomes(shared_operator, done))

    run = last_run(done)
    outcomes = Counter(_outcomes(shared_operator, done).values())
    assert run["phase"] == "Succeeded"
    assert run["counts"]["tagsPlanned"] == outcomes.total()
    assert run["counts"]["tagsPruned"] == outcomes["Pruned"] + outcomes["AlreadyGone"]
    assert run["counts"]["tagsSkipped"] == outcomes["Moved"]
    assert run["counts"]["tagsFailed"] == 0
    assert outcomes["Moved"] >= 1
    assert conditions(done)["Ready"] == "True"
    assert condition(done, "DeleteSupported")["reason"] == "ByTag"

    # How, and as whom.
    methods = {request.method for request in images.requests}
    assert methods == {"GET", method}
    by_others = [request for request in images.requests if request.user != f"system:serviceaccount:{user}"]
    assert {(request.user, request.method) for request in by_others} == {(OWN_USER, "GET")}
    assert {request.path for request in by_others} == LOOKED_AT
    assert all(images.most_deletions_at_once(*key) <= 1 for key in registry.streams)


def _plan(operator: Operator, policy: Resource) -> set[tuple[str, str]]:
    """Return what the last run planned to prune, by its log."""
    lines = operator.log_lines(run=last_run(policy)["id"], verdict="Prune")
    return {(line["repository"], line["tag"]) for line in lines}


def _outcomes(operator: Operator, policy: Resource) -> dict[tuple[str, str], str]:
    lines = operator.log_lines(run=last_run(policy)["id"], message="outcome")
    found = {(line["repository"], line["tag"]): line["outcome"] for line in lines}
    assert len(lines) == len(found), "a tag has two outcomes"
    assert found.keys() == _plan(operator, policy)
    return found


def _flat(going: Mapping[Key, set[str]]) -> set[tuple[str, str]]:
    return {("/".join(key), tag) for key, tags in going.items() for tag in tags}


def _check(
    registry: Registry, builds: Builds, before: Contents, after: Contents, outcomes: Mapping[tuple[str, str], str]
) -> None:
    """See that what was pushed is there, what was planned is gone unless it was pushed, and all else is as it was."""
    pushed = {(key, tag) for key, tag in builds.last}
    assert pushed
    for key in registry.streams:
        expected = {tag: digest for tag, digest in before[key].items() if tag not in registry.going[key]}
        expected |= {tag: digest for (at, tag), digest in builds.last.items() if at == key}
        assert after[key] == expected, key
    # Only what is to go goes, all of it is either planned or was pushed before that, and only a push saves it.
    assert outcomes.keys() <= _flat(registry.going)
    unplanned = _flat(registry.going) - outcomes.keys()
    assert unplanned <= {("/".join(key), tag) for key, tag in pushed}
    moved = {what for what, outcome in outcomes.items() if outcome == "Moved"}
    assert moved <= {("/".join(key), tag) for key, tag in pushed}
    assert set(outcomes.values()) <= {"Pruned", "Moved"}
