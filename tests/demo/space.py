"""How space comes back, and that until then a run can be undone: a registry that runs in the cluster it cleans up for.

Distribution 3.1 as a Deployment with a volume; a kubelet of the tests runs its pods.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import yaml

from tests.demo.session import POLICY_FILE, Person, Typed
from tests.demo.stage import POLICY, conclude, linger, say, show, stage, step
from tests.support.controlplane import ControlPlane, control_plane
from tests.support.hosted import (
    COLLECTOR_ROLE,
    Hosted,
    Measure,
    Pulled,
    collector,
    grant_collection,
    hosted,
    ready_to_collect,
)
from tests.support.kubelet import distribution_image, kubelet, unavailable
from tests.support.operator import NAMESPACE, SERVICE_ACCOUNT
from tests.support.processes import wait_until
from tests.support.spaces import IMAGES, REGISTRY, space

_TEAM = "team"
_LIMIT = 120.0
_WINDOW = "20s"
# Of a run, which adds to the window: so that the demo need not last hours.
_TIMEOUT = "40s"
_MUCH, _LITTLE = 1_000_000, 1_000
# What the plan says of the bytes, and what the disk says, may differ by so much.
_TOLERANCE = 0.01


def perform_space() -> int:
    """Perform it; return the exit code."""
    if reason := unavailable():
        print(reason)
        return 1
    began = time.monotonic()
    with stage() as folder, ExitStack() as stack:
        step("Start etcd, kube-apiserver, kube-controller-manager and a kubelet; kubectl apply -k manifests/base")
        plane = stack.enter_context(
            control_plane(folder / "plane", controller_manager=True, admit_service_accounts=True)
        )
        images = {IMAGES["3"]: distribution_image("3")}
        node = stack.enter_context(kubelet(plane, folder / "kubelet", images))
        ready_to_collect(node)
        place = stack.enter_context(space(node, _TEAM))
        step(f"Roll out Distribution 3.1 in the namespace {_TEAM}, with a volume, and push to it")
        registry = stack.enter_context(hosted(place, folder, granted=False))
        show(plane, "get", "deployments,pods,persistentvolumeclaims", "-n", _TEAM)
        step("Grant what a collection needs in this namespace, and no other")
        grant_collection(place.node.plane, place.name)
        say(
            f"$ kubectl create rolebinding {COLLECTOR_ROLE} --clusterrole={COLLECTOR_ROLE} "
            f"--serviceaccount={NAMESPACE}:{SERVICE_ACCOUNT} -n {_TEAM}"
        )
        step("Run the operator with the RBAC that it ships with")
        running = stack.enter_context(collector(node))
        person = Person(folder / "person", plane.admin_kubeconfig)
        good = _Story(plane, registry, person).tell()
        conclude(began, good=good)
        linger(plane, running, _TEAM, [f"curl http://{registry.host}/v2/team/app/tags/list"])
    return 0 if good else 1


@dataclass(frozen=True)
class _Story:
    plane: ControlPlane
    registry: Hosted
    person: Person

    def tell(self) -> bool:
        """Prune, undo, prune again and collect; say whether all came as it should."""
        registry = self.registry
        full, before = registry.pulled(), registry.measure()
        say(f"{_tags(full)} tags in {len(full)} repositories; {_told(before)}")

        step("Apply a policy that prunes, can be undone for an hour, and collects on Sundays: it is planned at once")
        self._apply(self._spec("1h"))
        plan = self._status()["plan"]
        say(f"{plan['deletions']} tags would go, which would free {_bytes(plan['reclaimableBytes'])}")

        step("Prune")
        self._request("run-requested-at", "first", lambda status: status.get("lastHandledRunRequest") == "first")
        pruned = registry.pulled()
        good = _tags(pruned) == _tags(full) - plan["deletions"] > 0
        say(f"{_tags(pruned)} tags are left. Yet no space came back: {_told(registry.measure())}")
        good &= registry.measure().files >= before.files

        step("That was a mistake? Undo it")
        say(self.person.types(Typed(f"undo {POLICY} -n {_TEAM}")))
        undone = registry.pulled() == full
        say("Every tag pulls again, as it was" if undone else "NOT every tag came back")

        step(
            f"It was none: change the policy, which leaves alone what was undone, to a window of {_WINDOW}; prune again"
        )
        self._patch({"undo": {"window": _WINDOW}, "timeout": _TIMEOUT})
        self._request("run-requested-at", "second", lambda status: status.get("lastHandledRunRequest") == "second")
        good &= registry.pulled() == pruned

        step("Ask for a collection now; it waits until that run cannot be undone any more")
        filled = registry.measure()
        self._request(
            "collect-requested-at", "now", lambda status: status.get("collection", {}).get("phase") == "Waiting"
        )
        say(self._status()["collection"]["message"])
        step("Then the registry is made read-only, a Job collects on its volume, and it is made writable again")
        done = self._follow()
        freed = registry.measure()
        say(f"{done['phase']}: {done['message']}")
        say(f"status: {done['bytesBefore']:,} bytes before, {done['bytesAfter']:,} after, {done['blobsRemoved']} blobs")
        say(f"Measured on the disk: {_told(filled)} before, {_told(freed)} after")
        expected = plan["reclaimableBytes"]
        say(f"The plan estimated {_bytes(expected)}; {_bytes(filled.files - freed.files)} came back")
        good &= done["phase"] == "Succeeded" and abs(filled.files - freed.files - expected) <= _TOLERANCE * expected
        good &= (done["bytesBefore"], done["bytesAfter"]) == (filled.blobs, freed.blobs)

        step("Pull every kept tag whole with crane, and push something new")
        whole = registry.pulled() == pruned
        registry.place.registry_host()
        registry.push_by_crane("new")
        show(self.plane, "get", "deployments,jobs,pods", "-n", _TEAM)
        say(f"{_tags(pruned)} tags pulled whole; the push went through" if whole else "NOT every kept tag is whole")
        show(self.plane, "get", "events", "-n", _TEAM, "--field-selector=involvedObject.kind=RegistryCleanupPolicy")
        return good and undone and whole

    # The policy

    def _spec(self, window: str) -> dict[str, Any]:
        return {
            "registry": {"url": self.registry.url, "insecure": True},
            "repositories": {"include": ["team/*"]},
            "rules": [
                {"name": "builds", "tags": {"include": ["build-.*"]}, "olderThan": "14d", "keep": {"mostRecent": 2}}
            ],
            "untagged": "Delete",
            # So that the demo need not last a day.
            "gracePeriod": "0s",
            "dryRun": False,
            "undo": {"window": window, "repository": "ops/undo"},
            "garbageCollection": {
                "mode": "Run",
                "schedule": "0 4 * * 0",
                "workloadRef": {"kind": "Deployment", "name": REGISTRY},
            },
        }

    def _apply(self, spec: Mapping[str, Any]) -> None:
        policy = {
            "apiVersion": "registrycleanup.dev/v1alpha1",
            "kind": "RegistryCleanupPolicy",
            "metadata": {"name": POLICY, "namespace": _TEAM},
            "spec": dict(spec),
        }
        text = yaml.safe_dump(policy, sort_keys=False)
        self.person.folder.joinpath(POLICY_FILE).write_text(text)
        say(yaml.safe_dump({key: spec[key] for key in ("undo", "garbageCollection")}, sort_keys=False).rstrip())
        self.plane.kubectl("apply", "-f", "-", stdin=text)
        self._planned(1)

    def _patch(self, spec: Mapping[str, Any]) -> None:
        show(self.plane, "patch", "rcp", POLICY, "-n", _TEAM, "--type=merge", "-p", json.dumps({"spec": spec}))
        self._planned(2)

    def _planned(self, generation: int) -> None:
        self._wait("the plan", lambda status: status.get("plan", {}).get("observedGeneration") == generation)

    def _request(self, what: str, value: str, done: Callable[[dict[str, Any]], bool]) -> None:
        show(self.plane, "annotate", "rcp", POLICY, "-n", _TEAM, "--overwrite", f"registrycleanup.dev/{what}={value}")
        self._wait(what, done)

    def _follow(self) -> dict[str, Any]:
        """Say each step of the collection; return the last that its status said."""
        told: list[str] = []

        def is_over(status: dict[str, Any]) -> bool:
            now = _collection(status)
            line = f"{now.get('phase')} {now.get('step', '')}".rstrip()
            if told[-1:] != [line]:
                told.append(line)
                say(f"{line}: {now.get('message', '')}")
            return now.get("phase") in {"Succeeded", "Failed"}

        self._wait("the collection", is_over)
        return _collection(self._status())

    def _status(self) -> dict[str, Any]:
        text = self.plane.kubectl("get", "rcp", POLICY, "-n", _TEAM, "-o", "json")
        found: dict[str, Any] = json.loads(text).get("status", {})
        return found

    def _wait(self, what: str, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the policy's status, with no run under way, fulfils `condition`."""

        def fulfilled() -> bool:
            status = self._status()
            return status.get("lastRun", {}).get("phase") not in (None, "Running") and condition(status)

        wait_until(fulfilled, _LIMIT, what)


def _collection(status: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = status.get("collection", {})
    return found


def _tags(found: Pulled) -> int:
    return sum(len(tags) for tags in found.values())


def _told(measure: Measure) -> str:
    return f"{_bytes(measure.files)} in {measure.number} blobs"


def _bytes(number: int) -> str:
    return f"{number / _MUCH:.2f} MB" if number >= _MUCH else f"{number / _LITTLE:.1f} kB"
