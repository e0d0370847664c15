"""`registry-cleanup explain` with a cluster: who uses a tag, since when it is published, and who else prunes there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.command import run
from tests.support.images import push_image
from tests.support.policies import NAME, Namespace, days_ago, policy_spec
from tests.support.registries import RegistryServer
from tests.support.workloads import Workloads, pod_spec

_RULES = [{"name": "all", "tags": {"include": [".*"]}, "olderThan": "30d"}]


def _spec(registry: RegistryServer, repository: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    return policy_spec(
        registry.url,
        **{
            "repositories": {"include": [repository]},
            "rules": _RULES,
            "minTagsPerRepository": 0,
            "gracePeriod": "1d",
            **changes,
        },
    )


def _file(folder: Path, namespace: Namespace, spec: Mapping[str, Any], name: str = NAME) -> Path:
    file = folder / f"{name}.yaml"
    body = {"apiVersion": "registrycleanup.dev/v1alpha1", "kind": "RegistryCleanupPolicy", "spec": dict(spec)}
    file.write_text(yaml.safe_dump({**body, "metadata": {"name": name, "namespace": namespace.name}}))
    return file


def _explained(namespace: Namespace, folder: Path, file: Path, reference: str) -> dict[str, Any]:
    kubeconfig = str(namespace.plane.admin_kubeconfig)
    done = run(folder, "explain", "-f", file, reference, "-o", "json", KUBECONFIG=kubeconfig, NO_PROXY="127.0.0.1")
    assert done.returncode == 0, done.stderr
    [told] = json.loads(done.stdout)["tags"]
    return dict(told)


def _text(namespace: Namespace, folder: Path, file: Path, reference: str) -> str:
    kubeconfig = str(namespace.plane.admin_kubeconfig)
    done = run(folder, "explain", "-f", file, reference, KUBECONFIG=kubeconfig, NO_PROXY="127.0.0.1")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_of_who_names_a_digest_it_is_not_told_that_they_use_the_tag(
    namespace: Namespace, registry3: RegistryServer, tmp_path: Path
) -> None:
    repository = f"team/{namespace.name}"
    digest = push_image(registry3.url, repository, ["used"], created=days_ago(60), seed="used")
    push_image(registry3.url, repository, ["free"], created=days_ago(60), seed="free")
    file = _file(tmp_path, namespace, _spec(registry3, repository))
    Workloads(namespace).pod("app", pod_spec(f"mirror.example.com/elsewhere@{digest}"))

    told = _text(namespace, tmp_path, file, f"{repository}:used")
    assert f"  Pod {namespace.name}/app, by its digest {digest}\n" in told
    assert f"It goes if Pod {namespace.name}/app no longer uses the image of used." in told


def test_who_uses_a_tag_is_named_and_it_goes_once_nobody_does(
    namespace: Namespace, registry3: RegistryServer, tmp_path: Path
) -> None:
    repository = f"team/{namespace.name}"
    for tag in ("used", "free"):
        push_image(registry3.url, repository, [tag], created=days_ago(60), seed=tag)
    spec = _spec(registry3, repository)
    namespace.apply(spec)
    published = namespace.planned()["status"]["plan"]["generatedAt"]
    file = _file(tmp_path, namespace, spec)
    Workloads(namespace).pod("app", pod_spec(f"{registry3.host}/{repository}:used"))

    used = _explained(namespace, tmp_path, file, f"{repository}:used")
    assert (used["verdict"], used["reason"]) == ("Keep", "InUse")
    assert used["users"] == [f"Pod {namespace.name}/app"]
    assert used["whatIfs"][0]["text"] == f"It goes if Pod {namespace.name}/app no longer uses used."

    told = _text(namespace, tmp_path, file, f"{repository}:used")
    assert f"  Pod {namespace.name}/app, by the name {repository}:used\n" in told

    free = _explained(namespace, tmp_path, file, f"{repository}:free")
    assert free["verdict"] == "Prune"
    assert free["held"]["published"][:19] == published[:19]
    assert free["held"]["reason"] == "GracePeriod"
    assert "It stays if a workload of the cluster uses it." in [each["text"] for each in free["whatIfs"]]

    namespace.plane.kubectl("delete", "pod", "app", "-n", namespace.name, "--grace-period=0", "--force")
    assert _explained(namespace, tmp_path, file, f"{repository}:used")["verdict"] == "Prune"


def test_an_older_policy_that_prunes_there_is_named(
    namespace: Namespace, registry3: RegistryServer, tmp_path: Path
) -> None:
    repository = f"team/{namespace.name}"
    push_image(registry3.url, repository, ["old"], created=days_ago(60))
    namespace.apply(_spec(registry3, repository, dryRun=False, keepTags=["k.*"]), name="older")
    namespace.planned("older")
    younger = _spec(registry3, repository, inUse={"enabled": False})
    file = _file(tmp_path, namespace, younger, name="younger")

    told = _explained(namespace, tmp_path, file, f"{repository}:old")

    assert (told["verdict"], told["reason"]) == ("Keep", "PolicyConflict")
    assert told["rivals"] == [
        {"namespace": namespace.name, "name": "older", "older": True, "keepTags": ["k.*", "latest"]}
    ]
    [change] = told["whatIfs"][0]["changes"]
    assert change["kind"] == "Rival"
    assert change["text"] == f"policy {namespace.name}/older selects {repository} no longer, or is suspended"


def test_a_policy_of_the_cluster_is_named_instead_of_a_file(
    namespace: Namespace, registry3: RegistryServer, tmp_path: Path
) -> None:
    repository = f"team/{namespace.name}"
    push_image(registry3.url, repository, ["old"], created=days_ago(60))
    namespace.apply(_spec(registry3, repository))
    arguments = ("--policy", NAME, "-n", namespace.name, f"{registry3.host}/{repository}:old", "-o", "json")
    done = run(tmp_path, "explain", *arguments, KUBECONFIG=str(namespace.plane.admin_kubeconfig), NO_PROXY="127.0.0.1")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tags"][0]["verdict"] == "Prune"
