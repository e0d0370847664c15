"""The shipped operator undoes a run by annotation, and people undo one of its runs from the command line."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import run
from tests.support.crane import Crane
from tests.support.images import push_image
from tests.support.policies import GROUP, NAME, Namespace, Resource, last_run, policy_spec, push_builds
from tests.support.registries import RegistryServer
from tests.support.undo import pulled

_APP, _COPIES = "team/app", "ops/undo"
_UNDO = f"{GROUP}/undo-run"


def _spec(url: str, repository: str | None) -> dict[str, Any]:
    undo = {"window": "1d", **({"repository": repository} if repository is not None else {})}
    return policy_spec(url, dryRun=False, undo=undo)


def _pruned(namespace: Namespace) -> Resource:
    """Plan, and prune."""
    namespace.planned()
    done = namespace.run("prune")
    assert (last_run(done)["phase"], last_run(done)["counts"]["tagsPruned"]) == ("Succeeded", 3), last_run(done)
    return done


def _annotate(namespace: Namespace, value: str | None) -> None:
    namespace.plane.kubectl(
        "annotate", "rcp", NAME, "-n", namespace.name, "--overwrite", f"{_UNDO}{'-' if value is None else f'={value}'}"
    )


@pytest.mark.parametrize("repository", [_COPIES, None], ids=["artifacts", "config-maps"])
def test_the_annotation_brings_back_what_a_run_pruned_and_the_next_run_leaves_it_alone(
    registry: RegistryServer, namespace: Namespace, crane: Crane, repository: str | None
) -> None:
    push_builds(registry.url)
    before = pulled(crane, registry.host, _APP)
    namespace.apply(_spec(registry.url, repository))
    ended = last_run(_pruned(namespace))["id"]
    assert crane.ls(f"{registry.host}/{_APP}") == ["build-4", "build-5"]
    _annotate(namespace, ended)
    undone = namespace.wait(lambda policy: policy["status"].get("lastHandledUndo") == ended, "the undo")
    told = undone["status"]["lastUndo"]
    assert (told["run"], told["restored"], told["refused"], told["missing"]) == (ended, 3, 0, 0)
    assert pulled(crane, registry.host, _APP) == before
    # A run after it leaves alone what came back, and goes on with the rest.
    push_image(registry.url, _APP, ["build-0"], created="2020-01-01T00:00:00Z", seed="another")
    namespace.run("plan build-0")
    later = last_run(namespace.run("prune build-0"))
    assert later["keptByReason"]["Undone"] == 3
    assert pulled(crane, registry.host, _APP) == before
    # Taken away and set again, it is done again: there is nothing to do.
    _annotate(namespace, None)
    namespace.wait(lambda policy: "lastHandledUndo" not in policy["status"], "the annotation to be forgotten")
    _annotate(namespace, ended)
    again = namespace.wait(lambda policy: policy["status"].get("lastHandledUndo") == ended, "the second undo")
    assert (again["status"]["lastUndo"]["restored"], again["status"]["lastUndo"]["alreadyThere"]) == (0, 3)


def test_a_run_that_nobody_knows_is_told(registry3: RegistryServer, namespace: Namespace) -> None:
    push_builds(registry3.url)
    namespace.apply(_spec(registry3.url, None))
    namespace.planned()
    _annotate(namespace, "20200101-000000-abcdef")
    done = namespace.wait(lambda policy: "lastUndo" in policy["status"], "the undo")
    assert "there are no copies of run 20200101-000000-abcdef" in done["status"]["lastUndo"]["message"]


@pytest.mark.parametrize("repository", [_COPIES, None], ids=["artifacts", "config-maps"])
def test_a_person_undoes_what_the_operator_pruned(
    registry3: RegistryServer, namespace: Namespace, crane: Crane, tmp_path: Path, repository: str | None
) -> None:
    push_builds(registry3.url)
    before = pulled(crane, registry3.host, _APP)
    namespace.apply(_spec(registry3.url, repository))
    ended = last_run(_pruned(namespace))["id"]
    namespace.create_service_account("person")
    where = ("-n", namespace.name)
    account = f"--serviceaccount={namespace.name}:person"
    kubectl = namespace.plane.kubectl
    kubectl("create", "rolebinding", "view", "--clusterrole=registry-cleanup-view", account, *where)
    # As everybody has it who may edit in a namespace.
    kubectl("create", "role", "edits", "--verb=get,create,update", "--resource=configmaps", *where)
    kubectl("create", "rolebinding", "edits", "--role=edits", account, *where)
    kubeconfig = namespace.plane.kubeconfig_for_service_account(namespace.name, "person")
    variables = {"KUBECONFIG": str(kubeconfig), "NO_PROXY": "127.0.0.1"}
    done = run(tmp_path / "home", "undo", NAME, *where, "--run", ended, limit=120, **variables)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert pulled(crane, registry3.host, _APP) == before
    # Its next run leaves alone what a person brought back.
    later = last_run(namespace.run("prune again"))
    assert (later["counts"]["tagsPruned"], later["keptByReason"]["Undone"]) == (0, 3)


def test_what_came_back_under_suspend_stays_when_the_policy_goes_on(
    registry3: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    """As the command itself advises: suspend, which ends a run; undo; go on."""
    push_builds(registry3.url)
    before = pulled(crane, registry3.host, _APP)
    namespace.apply(_spec(registry3.url, _COPIES))
    ended = last_run(_pruned(namespace))["id"]
    patch = ("patch", "rcp", NAME, "-n", namespace.name, "--type=merge", "-p")
    namespace.plane.kubectl(*patch, '{"spec":{"suspend":true}}')
    _annotate(namespace, ended)
    undone = namespace.wait(lambda policy: policy["status"].get("lastHandledUndo") == ended, "the undo")
    assert undone["status"]["lastUndo"]["restored"] == 3
    namespace.plane.kubectl(*patch, '{"spec":{"suspend":false}}')
    namespace.planned()
    later = last_run(namespace.run("prune again"))
    assert pulled(crane, registry3.host, _APP) == before, later
    assert later["keptByReason"]["Undone"] == 3


def test_what_a_run_pruned_is_found_where_it_pruned_though_the_policy_names_another_place_by_now(
    registry2: RegistryServer, registry3: RegistryServer, namespace: Namespace, crane: Crane, tmp_path: Path
) -> None:
    push_builds(registry2.url)
    push_builds(registry3.url)
    before = pulled(crane, registry2.host, _APP)
    namespace.apply(_spec(registry2.url, _COPIES))
    pruned = _pruned(namespace)
    ended, told = last_run(pruned)["id"], pruned["status"]["undo"]
    assert (told["run"], told["registry"]) == (ended, registry2.url)
    where = ("-n", namespace.name)
    variables = {"KUBECONFIG": str(namespace.plane.admin_kubeconfig), "NO_PROXY": "127.0.0.1"}

    def undone(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run(tmp_path / "home", "undo", NAME, *where, *arguments, limit=120, **variables)

    # Another repository for copies, and none.
    for repository in ("ops/other", None):
        namespace.change({"undo": {"window": "1d", "repository": repository}})
        namespace.planned()
        looked = undone("--dry-run")
        assert looked.returncode == 0, looked.stderr
        assert (
            f"undo of run {ended}: nothing was done, since it is a dry run: 3 would be put back"
            in looked.stderr.lower()
        )
    # Another registry, where a run prunes, too: both windows are told.
    namespace.change(_spec(registry3.url, "ops/other"))
    planned = namespace.planned()
    assert planned["status"]["undo"]["registry"] == registry2.url
    told = undone("--dry-run")
    assert told.returncode == 3, told.stderr
    assert f"run {ended} pruned from {registry2.url}, and the policy is about {registry3.host} now" in told.stderr
    _annotate(namespace, ended)
    done = namespace.wait(lambda policy: policy["status"].get("lastHandledUndo") == ended, "the undo")
    assert f"pruned from {registry2.url}" in done["status"]["lastUndo"]["message"]
    later = namespace.run("prune there")
    both = later["status"]["undo"]
    assert (both["run"], both["registry"]) == (last_run(later)["id"], registry3.url)
    assert [(each["run"], each["registry"]) for each in both["former"]] == [(ended, registry2.url)]
    # Back again.
    namespace.change(_spec(registry2.url, _COPIES))
    namespace.planned()
    refused = undone()
    assert refused.returncode == 3
    assert f"run {last_run(later)['id']} pruned from {registry3.url}" in refused.stderr
    assert f"with --run {ended}" in refused.stderr
    back = undone("--run", ended)
    assert back.returncode == 0, back.stderr
    assert pulled(crane, registry2.host, _APP) == before
