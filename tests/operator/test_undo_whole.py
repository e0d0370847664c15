"""Prune, undo, and every tag pulls again: repositories with all that hangs together, through the shipped operator."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import run
from tests.support.crane import Crane
from tests.support.policies import GROUP, NAME, Namespace, last_run, policy_spec
from tests.support.registries import RegistryServer
from tests.support.schemas import validate
from tests.support.undo import WHOLE_RULES, pulled, push_whole

_APP, _COPIES = "team/app", "ops/undo"
# Of whom may view policies and edit ConfigMaps.
_PERSON = "person"


def undo_by_annotation(namespace: Namespace, run_id: str) -> dict[str, Any]:
    """Let the operator undo a run, and return what status tells of it."""
    annotation = f"{GROUP}/undo-run={run_id}"
    namespace.plane.kubectl("annotate", "rcp", NAME, "-n", namespace.name, "--overwrite", annotation)
    done = namespace.wait(lambda policy: policy["status"].get("lastHandledUndo") == run_id, "the undo")
    told: dict[str, Any] = done["status"]["lastUndo"]
    return told


def person(namespace: Namespace) -> dict[str, str]:
    """Return the environment of a person who may view policies, and keep notes in ConfigMaps."""
    namespace.create_service_account(_PERSON)
    where, account = ("-n", namespace.name), f"--serviceaccount={namespace.name}:{_PERSON}"
    kubectl = namespace.plane.kubectl
    kubectl("create", "rolebinding", "view", "--clusterrole=registry-cleanup-view", account, *where)
    kubectl("create", "role", "edits", "--verb=get,create,update", "--resource=configmaps", *where)
    kubectl("create", "rolebinding", "edits", "--role=edits", account, *where)
    kubeconfig = namespace.plane.kubeconfig_for_service_account(namespace.name, _PERSON)
    return {"KUBECONFIG": str(kubeconfig), "NO_PROXY": "127.0.0.1"}


@pytest.mark.parametrize("untagged", ["Keep", "Delete"])
@pytest.mark.parametrize("repository", [_COPIES, None], ids=["artifacts", "config-maps"])
def test_the_operator_brings_back_every_tag_with_all_below_it(
    registry: RegistryServer, namespace: Namespace, crane: Crane, untagged: str, repository: str | None
) -> None:
    whole = push_whole(registry.url, _APP)
    before = pulled(crane, registry.host, _APP)
    undo = {"window": "1d", **({} if repository is None else {"repository": repository})}
    namespace.apply(policy_spec(registry.url, **WHOLE_RULES, undo=undo, untagged=untagged))
    namespace.planned()
    pruned = namespace.run("prune")
    ended = last_run(pruned)
    assert ended["phase"] == "Succeeded", ended
    left = set(crane.ls(f"{registry.host}/{_APP}"))
    assert left - whole.referrers == {"kept"}
    told = undo_by_annotation(namespace, ended["id"])
    assert pulled(crane, registry.host, _APP) == before, told
    assert (told["failed"], told["missing"], told["refused"]) == (0, 0, 0)
    assert told["restored"] >= len(whole.gone - left)
    assert all(crane.exists(f"{registry.host}/{_APP}@{digest}") for digest in whole.unnamed)
    # The status says until when that could be done, and where its copies are.
    undoable = pruned["status"]["undo"]
    assert (undoable["run"], undoable["runs"], undoable.get("repository")) == (ended["id"], 1, repository)
    wide = namespace.plane.kubectl("get", "rcp", NAME, "-n", namespace.name, "-o", "wide")
    assert ended["id"] in wide
    assert undoable["until"] in wide


@pytest.mark.parametrize("untagged", ["Keep", "Delete"])
def test_a_person_brings_back_every_tag_with_all_below_it_and_sees_why_it_stays(
    registry: RegistryServer, namespace: Namespace, crane: Crane, tmp_path: Path, untagged: str
) -> None:
    whole = push_whole(registry.url, _APP)
    before = pulled(crane, registry.host, _APP)
    undo = {"window": "1d", "repository": _COPIES}
    spec = policy_spec(registry.url, **WHOLE_RULES, undo=undo, untagged=untagged, inUse={"enabled": False})
    namespace.apply(spec)
    namespace.planned()
    ended = last_run(namespace.run("prune"))
    assert ended["phase"] == "Succeeded", ended
    variables, where = person(namespace), ("-n", namespace.name)
    done = run(tmp_path / "home", "undo", NAME, *where, "-o", "json", limit=120, **variables)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    validate(document, "undo")
    assert (document["run"], document["whole"]) == (ended["id"], True)
    assert whole.gone - {"kept"} <= {item.get("tag") for item in document["items"]} | set(before)
    assert pulled(crane, registry.host, _APP) == before
    asked = ("explain", f"{_APP}:old-1", "--policy", NAME, *where, "-o", "json")
    explained = run(tmp_path / "home", *asked, limit=120, **variables)
    assert explained.returncode == 0, explained.stderr
    [tag] = json.loads(explained.stdout)["tags"]
    assert (tag["verdict"], tag["held"]["reason"]) == ("Prune", "Undone")
