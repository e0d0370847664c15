"""Where the policy of a command comes from: a file, with the UID that the cluster knows, or the cluster."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio import client
from typing_extensions import override

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.plans.policies import from_cluster, load
from registry_cleanup.cluster import default_namespace
from registry_cleanup.kube.api import ForbiddenError, KubernetesAPI, NotThereError, Read
from registry_cleanup.kube.raw import RawAPI
from registry_cleanup.logins.options import ClusterOptions, LoginOptions
from registry_cleanup.session import Cluster, Session
from registry_cleanup.settings import Settings
from tests.support.builders import minimal_spec

UID = "0b0e2b1c-0000-4000-8000-000000000001"
IN_TEAM = ClusterOptions(namespace="team")


def _resource(spec: Mapping[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    known = {"uid": UID, "generation": 7, "creationTimestamp": "2024-01-02T03:04:05Z"}
    return {
        "apiVersion": "registrycleanup.dev/v1alpha1",
        "kind": "RegistryCleanupPolicy",
        "metadata": {"name": "nightly", "namespace": "team", **known, **metadata},
        "spec": minimal_spec() if spec is None else dict(spec),
    }


class _Policies(KubernetesAPI):
    """Serves one policy, or answers with an error."""

    def __init__(
        self, resource: dict[str, Any] | None = None, *, error: Exception | None = None, served: bool = True
    ) -> None:
        self._resource = resource
        self._error = error
        self._served = served

    @override
    async def policy(self, namespace: str, name: str) -> Read:
        if self._error is not None:
            raise self._error
        body = self._resource
        if body is None or (body["metadata"]["namespace"], body["metadata"]["name"]) != (namespace, name):
            raise NotThereError("not found")
        return Read(body, None)

    @override
    async def lists_policies(self) -> bool:
        return self._served


async def _session(policies: _Policies | None, **settings: Any) -> Session:  # noqa: ANN401 - values of any setting
    async with client.ApiClient(client.Configuration()) as api_client:
        cluster = None if policies is None else Cluster(policies, RawAPI(api_client), api_client)
        return Session(Settings(**settings), LoginOptions(), cluster)


def _file(folder: Path, body: Mapping[str, Any], **without: None) -> Path:
    metadata = {key: value for key, value in body["metadata"].items() if key in ("name", "namespace")}
    file = folder / "policy.yaml"
    file.write_text(yaml.safe_dump({**body, "metadata": {k: v for k, v in metadata.items() if k not in without}}))
    return file


async def test_a_policy_of_a_file_is_the_one_of_its_name_in_the_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = await _session(_Policies(_resource()))
    loaded = await load(session, _file(tmp_path, _resource()), None, ClusterOptions())
    policy = loaded.policy
    assert (policy.namespace, policy.uid, policy.generation, policy.created.year) == ("team", UID, 7, 2024)
    assert loaded.resource is not None
    assert capsys.readouterr().err == ""


async def test_a_file_that_wants_something_else_than_the_cluster_holds_and_says_in_which_fields(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = await _session(_Policies(_resource()))
    spec = {**minimal_spec(), "gracePeriod": "48h", "minTagsPerRepository": 1}  # the second is the default
    loaded = await load(session, _file(tmp_path, _resource(spec)), None, ClusterOptions())
    assert loaded.policy.policy.grace_period.days == 2
    told = capsys.readouterr().err
    assert "differs from policy team/nightly of the cluster in spec.gracePeriod; the file holds here" in told


async def test_without_a_cluster_a_policy_has_the_same_uid_each_time_and_another_namespace_another(
    tmp_path: Path,
) -> None:
    session = await _session(None)
    file = _file(tmp_path, _resource(), namespace=None)
    first, again, other = [
        (await load(session, file, None, options)).policy for options in (ClusterOptions(), ClusterOptions(), IN_TEAM)
    ]
    assert (first.namespace, other.namespace) == ("default", "team")
    assert first.uid == again.uid != other.uid


async def test_without_a_cluster_the_same_name_at_another_registry_is_another_policy(tmp_path: Path) -> None:
    session = await _session(None)
    found = []
    for host in ("staging", "production"):
        spec = {**minimal_spec(), "registry": {"url": f"https://{host}.example.com"}}
        file = _file(tmp_path, _resource(spec), namespace=None)
        found.append((await load(session, file, None, ClusterOptions())).policy.uid)
    # Else what was published for one would start the grace period of the other.
    assert found[0] != found[1]


async def test_a_file_that_was_read_from_a_cluster_keeps_its_uid_where_there_is_none(tmp_path: Path) -> None:
    session = await _session(None)
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(_resource()))
    assert (await load(session, file, None, ClusterOptions())).policy.uid == UID


async def test_a_namespace_that_is_not_the_files_is_refused_as_kubectl_does(tmp_path: Path) -> None:
    session = await _session(None)
    file = _file(tmp_path, _resource())
    assert (await load(session, file, None, IN_TEAM)).policy.namespace == "team"
    with pytest.raises(CommandError, match=r"the namespace of .*policy\.yaml, team, does not match -n other") as raised:
        await load(session, file, None, ClusterOptions(namespace="other"))
    assert raised.value.code == Exit.USAGE


async def test_policies_that_may_not_be_read_are_noted_and_the_file_is_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = await _session(_Policies(error=ForbiddenError("no")))
    loaded = await load(session, _file(tmp_path, _resource()), None, ClusterOptions())
    assert (loaded.resource, loaded.unreadable) == (None, True)
    assert "verbs: [get]" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nightly", "rcp/nightly", "registrycleanuppolicies.registrycleanup.dev/nightly"])
async def test_a_policy_of_the_cluster_is_named_as_kubectl_names_it(name: str) -> None:
    session = await _session(_Policies(_resource()))
    loaded = await load(session, None, name, IN_TEAM)
    assert (loaded.policy.name, loaded.policy.uid, loaded.where) == ("nightly", UID, "policy team/nightly")


@pytest.mark.parametrize(
    ("policies", "name", "code", "told"),
    [
        (_Policies(), "nightly", Exit.CLUSTER, "there is no policy nightly in namespace team"),
        (_Policies(served=False), "nightly", Exit.CLUSTER, "the operator's CRD is not installed"),
        (_Policies(error=ForbiddenError("no")), "nightly", Exit.CLUSTER, "resources: [registrycleanuppolicies]"),
        (_Policies(_resource()), "deploy/nightly", Exit.USAGE, "is no name of a policy"),
        (_Policies(_resource({"rules": []})), "nightly", Exit.USAGE, "spec.registry"),
        (None, "nightly", Exit.CLUSTER, "--kubeconfig"),
        (_Policies(), None, Exit.USAGE, "-f"),
    ],
    ids=["absent", "not served", "forbidden", "another kind", "invalid", "no cluster", "no name"],
)
async def test_a_policy_that_is_not_to_be_had_is_told_with_its_exit_code(
    policies: _Policies | None, name: str | None, code: Exit, told: str
) -> None:
    session = await _session(policies)
    with pytest.raises(CommandError) as raised:
        await load(session, None, name, IN_TEAM)
    assert raised.value.code == code
    assert told in str(raised.value)


async def test_a_file_is_the_way_out_of_a_cluster_without_the_crd_only_for_a_command_that_takes_one() -> None:
    session = await _session(_Policies(served=False))
    with pytest.raises(CommandError, match=r"docs/install.md .* name a file with -f"):
        await load(session, None, "nightly", IN_TEAM)
    with pytest.raises(CommandError, match=r"docs/install.md says how to install it with the operator$"):
        await from_cluster(session.cluster, "nightly", IN_TEAM)


async def test_what_the_settings_do_not_allow_is_refused_with_all_errors(tmp_path: Path) -> None:
    session = await _session(None, allowed_registries="other.example")
    with pytest.raises(CommandError, match="NotAllowed") as raised:
        await load(session, _file(tmp_path, _resource()), None, ClusterOptions())
    assert raised.value.code == Exit.USAGE


def test_the_namespace_is_that_of_the_kubeconfigs_context(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    contexts = [
        {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "first"}},
        {"name": "two", "context": {"cluster": "c", "user": "u", "namespace": "second"}},
        {"name": "none", "context": {"cluster": "c", "user": "u"}},
    ]
    config = {
        "current-context": "one",
        "contexts": contexts,
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
    }
    kubeconfig.write_text(yaml.safe_dump(config))
    assert default_namespace(kubeconfig) == "first"
    assert default_namespace(kubeconfig, "two") == "second"
    assert default_namespace(kubeconfig, "none") == "default"
    assert default_namespace(tmp_path / "absent") == "default"
