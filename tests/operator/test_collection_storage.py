"""A registry that deletes nothing: what a run could not prune, the collection after it prunes in the storage."""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from registry_cleanup.cli.exits import Exit
from tests.support.collecting import (
    adopt,
    ask,
    collected,
    collecting_spec,
    ended,
    is_held_up,
    is_up_as_before,
    left,
    wait,
)
from tests.support.command import run
from tests.support.hosted import APP, MULTI, WEB, Hosted, Measure, Pulled, collector, hosted
from tests.support.kubelet import Kubelet
from tests.support.operator import Operator
from tests.support.policies import APPROVE, Resource, condition, last_run
from tests.support.registries import Version
from tests.support.spaces import REGISTRY, Space

_OFF = [{"name": "REGISTRY_STORAGE_DELETE_ENABLED", "value": "false"}]
_WINDOW = "5s"
# Of a collection, which adds to the window.
_TIMEOUT = "40s"
_ONE_IN_A_HUNDRED = 0.01
_ONE = [{"name": "one", "tags": {"include": ["build-1"]}, "olderThan": "30d"}]


@pytest.fixture(scope="module")
def running(ready_node: Kubelet) -> Iterator[Operator]:
    with collector(ready_node) as made:
        yield made


@contextmanager
def _keeping(place: Space, folder: Path, version: Version = "3", *, filled: bool = True) -> Iterator[Hosted]:
    """Run a registry whose deletion is switched off."""
    with hosted(place, folder, version, filled=filled) as registry:
        if not filled:
            registry.push(APP, ["build-1"], "old")
        registry.patch({"spec": {"template": {"spec": {"containers": [{"name": REGISTRY, "env": _OFF}]}}}})
        place.wait_for_rollout(f"{registry.kind.lower()}/{REGISTRY}")
        place.registry_host()
        yield registry


def _spec(
    registry: Hosted,
    collection: dict[str, Any] | None = None,
    **changes: Any,  # noqa: ANN401 - values of any field
) -> dict[str, Any]:
    return collecting_spec(registry, {"pruneStorage": True, **(collection or {})}, **changes)


def _refused(registry: Hosted) -> Resource:
    """Plan, and run in vain; return the policy as it was planned."""
    planned = registry.namespace.planned()
    done = registry.namespace.run("prune")
    assert last_run(done)["phase"] == "Failed"
    assert condition(done, "DeleteSupported")["reason"] == condition(done, "Stalled")["reason"] == "DeletionDisabled"
    return planned


def _went(before: Pulled, after: Pulled) -> int:
    """Return how many tags are gone; the others are as they were, down to the last blob."""
    for repository, tags in before.items():
        assert after.get(repository, {}).items() <= tags.items()
    return sum(map(len, before.values())) - sum(map(len, after.values()))


@pytest.mark.parametrize(("version", "strategy"), [("2", "ReadOnly"), ("3", "Offline")])
def test_what_the_registry_does_not_delete_goes_with_the_space_that_the_plan_estimated(
    running: Operator, place: Space, tmp_path: Path, version: Version, strategy: str
) -> None:
    assert running.lives()
    with _keeping(place, tmp_path, version) as registry:
        before = left(registry)
        adopt(registry, _spec(registry, {"strategy": strategy}))
        plan = _refused(registry)["status"]["plan"]
        full, tags = registry.measure(), registry.pulled()

        done = collected(registry, "now")

        assert done["phase"] == "Succeeded", done
        assert (done["storage"]["tagsPruned"], done["storage"]["tagsStayed"]) == (plan["deletions"], 0)
        assert done["storage"]["run"] == last_run(registry.namespace.policy())["id"]
        assert "until" not in done["storage"]
        after = registry.pulled()
        assert _went(tags, after) == plan["deletions"]
        assert {"build-4", "build-5", "release"} <= after[APP].keys()
        assert {"build-4", "build-5"} == {tag for tag in after[MULTI] if tag.startswith("build")} == after[WEB].keys()
        free = registry.measure()
        assert full.files - free.files == pytest.approx(plan["reclaimableBytes"], rel=_ONE_IN_A_HUNDRED)
        assert (done["bytesBefore"], done["bytesAfter"]) == (full.blobs, free.blobs)
        is_up_as_before(registry, before, "after")


def test_for_the_window_it_lies_in_the_trash_and_the_first_collection_after_that_frees_it(
    running: Operator, place: Space, tmp_path: Path
) -> None:
    assert running.lives()
    with _keeping(place, tmp_path, filled=False) as registry:
        adopt(registry, _spec(registry, {"timeout": _TIMEOUT}, rules=_ONE, undo={"window": _WINDOW}))
        _refused(registry)
        tags, full = registry.pulled(), registry.measure()

        first = collected(registry, "first")

        assert (first["phase"], first["storage"]["tagsPruned"]) == ("Succeeded", 1), first
        assert first["storage"]["until"] in first["message"]
        assert _went(tags, registry.pulled()) == 1
        trashed = registry.measure()
        # What lay about before went, and nothing of what can be restored.
        assert full.number - trashed.number == first["blobsRemoved"]
        _restored(registry, first["storage"]["run"], tags, trashed)

        _refused(registry)
        again = collected(registry, "again")
        assert again["storage"]["tagsPruned"] == 1, again
        ask(registry, "last")
        told = wait(registry, lambda told: is_held_up(told, "can be restored until"), "a collection that waits")
        assert told["nextTime"] == again["storage"]["until"]
        last = ended(registry, "last")
        assert last["phase"] == "Succeeded", last
        assert last["blobsRemoved"] > 0
        assert trashed.blobs - registry.measure().blobs == last["bytesBefore"] - last["bytesAfter"]
        assert last["storage"] == {"tagsPruned": 0, "manifestsPruned": 0, "tagsStayed": 0}


def _restored(registry: Hosted, run_id: str, tags: Pulled, trashed: Measure) -> None:
    """Put back what the trash has, as an administrator does."""
    done = run(registry.crane.folder, "storage", "restore", "--root", registry.storage, "--run", run_id)
    assert done.returncode == Exit.DONE, done.stderr
    registry.place.kubectl("rollout", "restart", f"{registry.kind.lower()}/{REGISTRY}")
    registry.place.wait_for_rollout(f"{registry.kind.lower()}/{REGISTRY}")
    registry.place.registry_host()
    assert registry.pulled() == tags
    assert registry.measure().blobs == trashed.blobs


def test_what_came_in_use_since_the_run_stays(running: Operator, place: Space, tmp_path: Path) -> None:
    assert running.lives()
    with _keeping(place, tmp_path) as registry:
        adopt(registry, _spec(registry))
        plan = _refused(registry)["status"]["plan"]
        tags = registry.pulled()
        by_digest = f"{registry.host}/{APP}@{tags[APP]['build-3'][0]}"
        for name, image in {"by-name": f"{registry.host}/{APP}:build-1", "by-digest": by_digest}.items():
            place.kubectl("create", "deployment", name, f"--image={image}", "--replicas=0")

        done = collected(registry, "now")

        assert done["phase"] == "Succeeded", done
        after = registry.pulled()
        assert {"build-1", "build-3"} <= after[APP].keys()
        assert done["storage"]["tagsStayed"] == 2
        assert _went(tags, after) == done["storage"]["tagsPruned"] == plan["deletions"] - 2


def test_nothing_is_pruned_by_a_plan_that_nobody_approved(running: Operator, place: Space, tmp_path: Path) -> None:
    assert running.lives()
    with _keeping(place, tmp_path, filled=False) as registry:
        adopt(registry, _spec(registry, rules=_ONE, approval={"required": True}))
        registry.namespace.planned()
        registry.namespace.run("prune")
        tags = registry.pulled()

        done = collected(registry, "unapproved")

        assert done["phase"] == "Succeeded", done
        assert "nothing is pruned in the storage" in done["message"]
        assert registry.pulled() == tags
        plan = registry.namespace.policy()["status"]["plan"]["hash"]
        place.kubectl("annotate", "rcp", "policy", f"{APPROVE}={plan}")
        registry.namespace.wait(lambda policy: condition(policy, "Stalled").get("status") == "True", "the approved run")
        done = collected(registry, "approved")
        assert (done["storage"]["tagsPruned"], _went(tags, registry.pulled())) == (1, 1), done


def test_a_report_that_somebody_put_there_is_not_pruned_by(running: Operator, place: Space, tmp_path: Path) -> None:
    assert running.lives()
    with _keeping(place, tmp_path, filled=False) as registry:
        registry.push(APP, ["release"], "new")
        adopt(registry, _spec(registry, rules=_ONE))
        _refused(registry)
        policy, tags = registry.namespace.policy(), registry.pulled()
        head, *lines = registry.namespace.report(policy)
        goes = next(line for line in lines if line.get("verdict") == "Prune")
        goes |= {"tag": "release", "digest": tags[APP]["release"][0]}
        whole = f"{head['policy']}\n{head['registry']}\n{APP}\trelease\t{goes['digest']}\n"
        forged = "".join(
            json.dumps(line) + "\n" for line in [head | {"plan": hashlib.sha256(whole.encode()).hexdigest()}, goes]
        )
        reference = last_run(policy)["reportRef"]
        content = base64.b64encode(gzip.compress(forged.encode())).decode()
        patch = json.dumps({"binaryData": {reference["key"]: content}})
        place.kubectl("patch", "configmap", reference["name"], "--type=merge", f"--patch={patch}")

        done = collected(registry, "forged")

        assert done["phase"] == "Succeeded", done
        assert "not the one that the run wrote" in done["storage"]["message"]
        assert registry.pulled() == tags


def test_where_the_registry_deletes_the_storage_is_left_alone_and_status_says_so(
    running: Operator, place: Space, tmp_path: Path
) -> None:
    assert running.lives()
    with hosted(place, tmp_path, filled=False) as registry:
        registry.push(APP, ["build-1"], "old")
        adopt(registry, _spec(registry, rules=_ONE))
        registry.namespace.planned()
        assert last_run(registry.namespace.run("prune"))["phase"] == "Succeeded"

        done = collected(registry, "now")

        assert done["phase"] == "Succeeded", done
        assert "did not end with DeletionDisabled" in done["storage"]["message"]
        assert "build-1" not in registry.pulled()[APP]
