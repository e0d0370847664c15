"""Policies that collect the garbage of a registry of their namespace, asked and awaited, and what they must leave."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.hosted import COLLECTING_LABEL, FORMER_STATE, Hosted
from tests.support.policies import GROUP, NAME, Resource, policy_spec
from tests.support.spaces import REGISTRY, Document

REQUEST = f"{GROUP}/collect-requested-at"
# Two rollouts, a Job of three containers, and a busy machine; nothing waits so long where all is well.
LIMIT = 120.0
# With which the names of a collection's pods begin.
JOB = "registry-cleanup-collect"
_RARELY = "0 0 29 2 *"


@dataclass(frozen=True)
class Left:
    """What a collection must leave as it was.

    Attributes:
        replicas: Of the workload.
        containers: Of its template.
        marks: Labels and annotations of a collection on it.
    """

    replicas: int
    containers: list[Document]
    marks: frozenset[str] = frozenset()


def left(registry: Hosted) -> Left:
    """Return what there is of it now."""
    workload = registry.workload
    metadata, spec = workload["metadata"], workload["spec"]
    marked = {*metadata.get("labels", {}), *metadata.get("annotations", {})}
    return Left(
        spec["replicas"], spec["template"]["spec"]["containers"], frozenset(marked & {COLLECTING_LABEL, FORMER_STATE})
    )


def collecting_spec(
    registry: Hosted,
    collection: Mapping[str, Any] | None = None,
    url: str | None = None,
    **changes: Any,  # noqa: ANN401 - values of any field
) -> dict[str, Any]:
    """Return a spec that prunes old builds and collects when it is asked to.

    Args:
        registry: Whose workload it names.
        collection: Adds to garbageCollection.
        url: Another way to the registry.
        changes: As in `policy_spec`.
    """
    wanted = {
        "mode": "Run",
        "schedule": _RARELY,
        "workloadRef": {"kind": registry.kind, "name": REGISTRY},
        **(collection or {}),
    }
    return policy_spec(
        url or registry.url, **{"dryRun": False, "untagged": "Delete", "garbageCollection": wanted, **changes}
    )


def adopt(registry: Hosted, spec: Mapping[str, Any], name: str = NAME) -> None:
    """Create a policy and wait for its plan: what is requested before that is no request."""
    registry.namespace.apply(spec, name)
    registry.namespace.planned(name)


def collection(policy: Resource) -> dict[str, Any]:
    """Return `status.collection`, empty where there is none."""
    found: dict[str, Any] = policy.get("status", {}).get("collection", {})
    return found


def ask(registry: Hosted, value: str, name: str = NAME) -> None:
    """Set the annotation that requests a collection."""
    registry.place.kubectl("annotate", "rcp", name, "--overwrite", f"{REQUEST}={value}")


def wait(registry: Hosted, condition: Callable[[dict[str, Any]], bool], what: str, name: str = NAME) -> dict[str, Any]:
    """Wait until `status.collection` is as `condition` wants it, and return it."""
    try:
        policy = registry.namespace.wait(lambda policy: condition(collection(policy)), what, name, limit=LIMIT)
    except Exception as error:
        error.add_note(registry.place.kubectl("get", "pods,jobs,deployments,statefulsets", "-o=wide", check=False))
        raise
    return collection(policy)


def is_held_up(told: Mapping[str, Any], word: str) -> bool:
    """Tell whether a collection waits for what `word` names."""
    return told.get("phase") == "Waiting" and word in told["message"]


def is_over(policy: Resource, request: str) -> bool:
    """Tell whether the collection that `request` asked for has ended."""
    handled = policy.get("status", {}).get("lastHandledCollectRequest") == request
    return handled and collection(policy).get("phase") in {"Succeeded", "Failed"}


def ended(registry: Hosted, request: str, name: str = NAME) -> dict[str, Any]:
    """Wait for the end of the collection that `request` asked for, and return it."""

    def is_so(policy: Resource) -> bool:
        registry.place.node.check()
        return is_over(policy, request)

    try:
        policy = registry.namespace.wait(is_so, f"the collection that {request} asked for", name, limit=LIMIT)
    except Exception as error:
        error.add_note(registry.place.kubectl("get", "pods,jobs,deployments,statefulsets", "-o=wide", check=False))
        raise
    return collection(policy)


def collected(registry: Hosted, request: str, name: str = NAME) -> dict[str, Any]:
    """Request a collection and wait for its end."""
    ask(registry, request, name)
    return ended(registry, request, name)


@contextmanager
def held(registry: Hosted, request: str = "held") -> Iterator[None]:
    """Request a collection, and hold its Job up while the registry is frozen, as long as the context lasts."""
    with registry.place.node.faults.held(JOB):
        ask(registry, request)
        wait(registry, lambda told: told.get("step") == "Collecting", "the collection's Job")
        registry.place.wait(lambda: bool(job_pods(registry)), "its pod")
        yield


def job_pods(registry: Hosted) -> list[str]:
    """Return the names of the pods that collect."""
    names = [pod["metadata"]["name"] for pod in registry.place.pods()]
    return [name for name in names if name.startswith(JOB)]


def jobs(registry: Hosted) -> list[Document]:
    """Return the Jobs of its namespace."""
    found: list[Document] = json.loads(registry.place.kubectl("get", "jobs", "-o=json"))["items"]
    return found


def is_up_as_before(registry: Hosted, before: Left, tag: str) -> None:
    """See that the registry is up and takes pushes, and its workload is as it was, with nothing left on it."""
    assert left(registry) == before
    registry.place.wait_for_rollout(f"{registry.kind.lower()}/{REGISTRY}")
    registry.place.registry_host()
    registry.push_by_crane(tag)
    registry.pull("pushed", tag)
