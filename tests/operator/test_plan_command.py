"""`plan` and `report` with a cluster: what people see is what the operator published, with their own rights."""

import base64
import gzip
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.command import run
from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.images import push_image
from tests.support.policies import NAME, Namespace, Resource, days_ago, last_run, policy_spec, push_builds
from tests.support.registries import RegistryServer
from tests.support.schemas import validate
from tests.support.workloads import Workloads, pod_spec

NO_CLUSTER = {"inUse": {"enabled": False}}


class Person:
    """Somebody with a kubeconfig, who calls our command.

    Attributes:
        kubeconfig: Whose rights they have.
    """

    def __init__(self, kubeconfig: Path, home: Path) -> None:
        self.kubeconfig = kubeconfig
        self._home = home

    def calls(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run(self._home, *arguments, limit=120, KUBECONFIG=str(self.kubeconfig), NO_PROXY="127.0.0.1")

    def json(self, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
        """Return what a command prints as JSON, which fits its schema."""
        done = self.calls(*arguments, "-o", "json")
        assert done.returncode == code, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        validate(document, str(arguments[0]))
        return document


@pytest.fixture
def administrator(namespace: Namespace, tmp_path: Path) -> Person:
    return Person(namespace.plane.admin_kubeconfig, tmp_path / "home")


@pytest.fixture
def somebody(namespace: Namespace, tmp_path: Path) -> Person:
    """A person who may do nothing."""
    namespace.create_service_account("somebody")
    kubeconfig = namespace.plane.kubeconfig_for_service_account(namespace.name, "somebody")
    return Person(kubeconfig, tmp_path / "nobody")


def _file(folder: Path, policy: Resource, **changes: Any) -> Path:  # noqa: ANN401 - values of any field
    """Write a policy as its author has it in Git."""
    metadata = {key: policy["metadata"][key] for key in ("name", "namespace")}
    spec = {**policy["spec"], **changes}
    body = {"apiVersion": policy["apiVersion"], "kind": policy["kind"], "metadata": metadata, "spec": spec}
    file = folder / "policy.yaml"
    file.write_text(yaml.safe_dump(body))
    return file


def _going(document: dict[str, Any]) -> list[str]:
    return [line["tag"] for line in document["lines"] if line.get("verdict") == "Prune"]


def test_a_plan_by_name_and_by_file_has_the_hash_that_the_operator_published(
    registry: RegistryServer, namespace: Namespace, administrator: Person, crane: Crane, tmp_path: Path
) -> None:
    # Of its own: what the pod names is in use for every test on this plane.
    repository = f"team/{namespace.name}"
    _, *planned = push_builds(registry.url, repository)
    Workloads(namespace).pod("uses", pod_spec(f"{registry.host}/{repository}:build-1"))
    namespace.apply(policy_spec(registry.url))
    namespace.planned()
    # A new policy may be planned by a look at the cluster that others took a moment before there was the pod.
    policy = namespace.run("look again")
    published = policy["status"]["plan"]

    by_name = administrator.json("plan", NAME, "-n", namespace.name)
    by_file = administrator.json("plan", "-f", _file(tmp_path, policy))
    page = tmp_path / "plan.html"

    assert by_name["plan"]["hash"] == published["hash"]
    assert by_file["plan"]["hash"] == published["hash"]
    assert by_name["policy"]["uid"] == by_file["policy"]["uid"] == policy["metadata"]["uid"]
    assert (by_name["plan"]["published"], by_name["plan"]["prunableFrom"]) == (True, published["prunableFrom"])
    assert _going(by_name) == _going(by_file) == planned
    tags = {line["tag"] for line in by_name["lines"] if line["type"] == "tag"}
    assert tags == set(crane.ls(f"{registry.host}/{repository}"))
    used = {line["tag"]: line["users"] for line in by_name["lines"] if line.get("reason") == "InUse"}
    assert f"Pod {namespace.name}/uses" in used["build-1"]
    done = administrator.calls("plan", NAME, "-n", namespace.name, "--output-file", page)
    assert done.returncode == 0, done.stderr
    assert published["hash"] in page.read_text()


def test_a_plan_writes_nothing_to_the_cluster_and_prunes_nothing(
    registry3: RegistryServer, namespace: Namespace, administrator: Person, crane: Crane
) -> None:
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url, dryRun=False, **NO_CLUSTER))
    before = namespace.planned()
    held = namespace.config_maps()

    administrator.json("plan", NAME, "-n", namespace.name)

    assert namespace.policy() == before
    assert namespace.config_maps() == held
    assert len(crane.ls(f"{registry3.host}/team/app")) == 5


def test_the_difference_to_the_published_plan_names_what_is_new_and_what_dropped_out(
    registry3: RegistryServer, namespace: Namespace, administrator: Person, tmp_path: Path
) -> None:
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url, **NO_CLUSTER))
    policy = namespace.planned()
    by_name = ("plan", NAME, "-n", namespace.name, "--diff")

    same = administrator.json(*by_name)
    assert (same["diff"]["same"], same["diff"]["unchanged"]) == (True, 3)
    assert same["diff"]["new"] == same["diff"]["dropped"] == []

    # A change of the policy, before anybody applies it.
    rules = [{**policy["spec"]["rules"][0], "keep": {"mostRecent": 1}}]
    other = administrator.json(
        "plan", "-f", _file(tmp_path, policy, rules=rules, keepTags=["build-1"]), "--diff", code=7
    )
    assert [item["tag"] for item in other["diff"]["new"]] == ["build-4"]
    assert [item["tag"] for item in other["diff"]["dropped"]] == ["build-1"]
    assert other["diff"]["unchanged"] == 2
    told = administrator.calls("plan", "-f", tmp_path / "policy.yaml", "--diff")
    assert f"differs from policy {namespace.name}/{NAME}" in told.stderr
    assert "spec.keepTags, spec.rules" in told.stderr or "spec.rules, spec.keepTags" in told.stderr

    # Without its report, the fingerprints still tell what is new.
    namespace.plane.kubectl("delete", "configmap", last_run(policy)["reportRef"]["name"], "-n", namespace.name)
    nameless = administrator.json("plan", "-f", tmp_path / "policy.yaml", "--diff", code=7)
    assert [item["tag"] for item in nameless["diff"]["new"]] == ["build-4"]
    assert (nameless["diff"]["dropped"], nameless["diff"]["droppedNameless"]) == ([], 1)


def test_the_difference_after_a_run_says_what_it_pruned(
    registry3: RegistryServer, namespace: Namespace, administrator: Person
) -> None:
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url, dryRun=False, **NO_CLUSTER))
    namespace.planned()
    namespace.run("now")

    document = administrator.json("plan", NAME, "-n", namespace.name, "--diff", code=7)

    assert [item["tag"] for item in document["diff"]["pruned"]] == ["build-1", "build-2", "build-3"]
    assert (document["diff"]["new"], document["diff"]["dropped"], document["diff"]["droppedNameless"]) == ([], [], 0)


def test_the_report_of_the_last_run_is_the_one_in_the_cluster_filtered_as_asked(
    registry3: RegistryServer, namespace: Namespace, administrator: Person
) -> None:
    pruned = push_builds(registry3.url)
    push_builds(registry3.url, "team/web", 2)
    push_image(registry3.url, "team/app", ["latest"], created=days_ago(99), seed="latest")
    namespace.apply(policy_spec(registry3.url, dryRun=False, **NO_CLUSTER))
    namespace.planned()
    done = namespace.run("now")
    asked = ("report", f"rcp/{NAME}", "-n", namespace.name)

    whole = administrator.json(*asked)
    assert whole["lines"] == namespace.report(done)[1:]
    assert (whole["run"]["id"], whole["run"]["phase"]) == (last_run(done)["id"], "Succeeded")
    assert whole["plan"]["hash"] == done["status"]["plan"]["hash"]

    def tags(*filters: str) -> list[tuple[str, str]]:
        lines = administrator.json(*asked, *filters)["lines"]
        return [(line["repository"], line["tag"]) for line in lines if line["type"] == "tag"]

    app = [("team/app", tag) for tag in pruned]
    assert tags("--verdict", "prune") == tags("--outcome", "Pruned") == tags("--reason", "OlderThan") == app
    assert tags("--reason", "KeepTags") == [("team/app", "latest")]
    assert tags("--verdict", "keep", "--repository", "team/w*") == [("team/web", "build-1"), ("team/web", "build-2")]
    assert tags("--outcome", "Moved") == []
    table = administrator.calls(*asked, "--verdict", "prune").stdout
    assert "    Pruned\n" in table
    assert "3 of 3 planned tags are pruned" in table


def test_what_is_missing_or_forbidden_is_told_with_what_helps(
    registry3: RegistryServer, namespace: Namespace, administrator: Person, somebody: Person, tmp_path: Path
) -> None:
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url, **NO_CLUSTER))
    policy = namespace.planned()
    there = ("-n", namespace.name)
    cases = [
        (administrator, ("plan", "other", *there), 5, f"there is no policy other in namespace {namespace.name}"),
        (administrator, ("report", "other", *there), 5, f"there is no policy other in namespace {namespace.name}"),
        (administrator, ("plan", "pod/other", *there), 2, "is no name of a policy"),
        (somebody, ("plan", NAME, *there), 5, "verbs: [get]"),
        (somebody, ("report", NAME, *there), 5, "verbs: [get]"),
    ]
    for person, arguments, code, told in cases:
        done = person.calls(*arguments)
        assert (done.returncode, done.stdout) == (code, ""), (arguments, done.stderr)
        assert told in done.stderr, arguments

    # The name of a policy that nobody planned yet.
    file = _file(tmp_path, {**policy, "metadata": {"name": "unborn", "namespace": namespace.name}})
    unborn = administrator.calls("plan", "-f", file, "--diff")
    assert (unborn.returncode, "is not in the cluster" in unborn.stderr) == (3, True)
    # Who may not read it does not know whether it is there.
    unread = somebody.calls("plan", "-f", file, "--diff")
    assert (unread.returncode, "may not be read" in unread.stderr) == (5, True)


def test_a_person_who_may_read_policies_but_no_config_maps_gets_the_plan_and_a_note(
    registry3: RegistryServer, namespace: Namespace, somebody: Person
) -> None:
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url, **NO_CLUSTER))
    published = namespace.planned()["status"]["plan"]
    _may_read_policies(namespace.plane, namespace.name)

    done = somebody.calls("plan", NAME, "-n", namespace.name, "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["plan"]["hash"] == published["hash"]
    assert "resources: [configmaps]" in done.stderr
    report = somebody.calls("report", NAME, "-n", namespace.name)
    assert (report.returncode, report.stdout) == (5, "")
    assert "resources: [configmaps]" in report.stderr


def test_a_person_who_may_not_see_what_is_in_use_or_who_else_prunes_is_told_what_it_takes(
    registry3: RegistryServer, namespace: Namespace, somebody: Person
) -> None:
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url))
    namespace.planned()
    rule = "registrycleanuppolicies.registrycleanup.dev"
    account = f"--serviceaccount={namespace.name}:somebody"
    kubectl = namespace.plane.kubectl
    kubectl(
        "create", "role", "reader", "--verb=get", f"--resource={rule}", "--resource=configmaps", "-n", namespace.name
    )
    kubectl("create", "rolebinding", "reader", "--role=reader", account, "-n", namespace.name)
    report = f"registry-cleanup report {NAME} -n {namespace.name}"
    asked = ("plan", NAME, "-n", namespace.name)

    in_use = somebody.calls(*asked)
    assert (in_use.returncode, in_use.stdout) == (5, "")
    assert "InUseUnknown: you may not list" in in_use.stderr
    assert in_use.stderr.count("--clusterrole=registry-cleanup-workloads --user=YOU") == 1
    assert "nothing was pruned" not in in_use.stderr
    assert "--no-in-use" in in_use.stderr
    assert report in in_use.stderr

    rivals = somebody.calls(*asked, "--no-in-use")
    assert rivals.returncode == 0, rivals.stderr
    assert "you may not list the policies of all namespaces" in rivals.stderr
    assert "--clusterrole=registry-cleanup-view --user=YOU" in rivals.stderr
    assert somebody.calls(*report.split()[1:]).returncode == 0


def test_a_report_that_is_damaged_or_somebody_elses_is_refused(
    registry3: RegistryServer, namespace: Namespace, administrator: Person
) -> None:
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url, **NO_CLUSTER))
    reference = last_run(namespace.planned())["reportRef"]
    whole = base64.b64decode(namespace.config_maps()[reference["name"]]["binaryData"][reference["key"]])
    asked = ("report", NAME, "-n", namespace.name)

    def put(content: bytes) -> None:
        patch = {"binaryData": {reference["key"]: base64.b64encode(content).decode()}}
        _patch(namespace, reference["name"], patch)

    for content in (whole[:-20], b"", b"no gzip at all", gzip.compress(b"no json\n"), gzip.compress(b"[]\n")):
        put(content)
        done = administrator.calls(*asked)
        assert (done.returncode, done.stdout) == (5, ""), done.stderr
        assert "is damaged" in done.stderr
    put(whole)
    assert administrator.calls(*asked).returncode == 0
    _patch(namespace, reference["name"], {"metadata": {"ownerReferences": None}})
    done = administrator.calls(*asked)
    assert (done.returncode, "is not that of policy" in done.stderr) == (5, True)


def _patch(namespace: Namespace, name: str, patch: dict[str, Any]) -> None:
    text = json.dumps(patch)
    namespace.plane.kubectl("patch", "configmap", name, "-n", namespace.name, "--type=merge", "-p", text)


def _may_read_policies(plane: ControlPlane, namespace: str) -> None:
    """Let `somebody` read all policies, and nothing else."""
    name = f"reads-policies-{namespace}"
    rule = "registrycleanuppolicies.registrycleanup.dev"
    plane.kubectl("create", "clusterrole", name, "--verb=get,list", f"--resource={rule}")
    plane.kubectl(
        "create", "clusterrolebinding", name, f"--clusterrole={name}", f"--serviceaccount={namespace}:somebody"
    )
