"""What goes wrong, each ending in a condition that names the cause and the next step, and pruning nothing wrongly."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import run
from tests.support.crane import Crane
from tests.support.faulty import (
    Fault,
    FaultyRegistry,
    answers,
    chops_the_body,
    faulty_registry,
    is_not_json,
    truncates_the_body,
)
from tests.support.policies import (
    NAME,
    REGISTRY,
    Namespace,
    Resource,
    condition,
    conditions,
    last_run,
    policy_spec,
    push_builds,
)
from tests.support.processes import free_port
from tests.support.registries import RegistryServer, Version, certificate_authority, distribution

USER, PASSWORD = "pruner", "correct-horse-battery"
WRONG = "wrong-horse-battery"
_LOGIN = {"secretRef": {"name": "login"}}
_ALL = [f"build-{build}" for build in range(1, 6)]
_KEPT = ["build-4", "build-5"]


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[RegistryServer]:
    """Run a registry that wants a password."""
    with distribution("3", tmp_path / "locked", htpasswd={USER: PASSWORD}) as server:
        push_builds(server.url, auth=(USER, PASSWORD))
        yield server


@pytest.fixture
def proxy(registry3: RegistryServer) -> Iterator[FaultyRegistry]:
    """Run a proxy before a registry with three repositories of builds."""
    for repository in ("team/a", "team/b", "team/c"):
        push_builds(registry3.url, repository)
    with faulty_registry(registry3.url) as running:
        yield running


def _failed(namespace: Namespace) -> Resource:
    """Wait until the last run has failed."""
    return namespace.phase("Failed")


# Logins


def test_a_missing_secret_is_named_and_its_creation_heals(locked: RegistryServer, namespace: Namespace) -> None:
    namespace.grant_credentials()
    namespace.apply(policy_spec(locked.url, registry=_LOGIN))
    message = namespace.stalled("SecretNotFound")
    assert message == "spec.registry.secretRef: there is no Secret 'login' in this namespace"
    assert conditions(namespace.policy()) == {"Ready": "False", "Reconciling": "False", "Stalled": "True"}
    namespace.create_basic_auth(locked.host, USER, PASSWORD)
    namespace.request_run("there it is")
    healed = namespace.planned()
    assert conditions(healed) == {
        "DeleteSupported": "True",
        "InUseKnown": "True",
        "LimitExceeded": "False",
        "Ready": "True",
        "Reconciling": "False",
        "RegistryReachable": "True",
        "Stalled": "False",
    }


def test_a_fault_that_was_mended_heals_without_a_word(locked: RegistryServer, namespace: Namespace) -> None:
    namespace.grant_credentials()
    namespace.apply(policy_spec(locked.url, registry=_LOGIN))
    namespace.stalled("SecretNotFound")
    namespace.create_basic_auth(locked.host, USER, PASSWORD)
    assert condition(namespace.planned(), "Ready")["status"] == "True"


@pytest.mark.parametrize("named", [None, "registry.example.com"])
def test_a_secret_that_does_not_name_the_registry_is_never_sent_there(
    locked: RegistryServer, namespace: Namespace, *, named: str | None
) -> None:
    namespace.grant_credentials()
    namespace.create_basic_auth(named, USER, PASSWORD)
    with faulty_registry(locked.url) as watched:
        namespace.apply(policy_spec(watched.url, registry=_LOGIN))
        message = namespace.stalled("SecretNotForThisRegistry")
        assert [request.authorization for request in watched.requests if request.authorization] == []
        # The command that the message names is all that is missing.
        host = watched.url.partition("//")[2]
        command = message[message.index("kubectl annotate") :]
        assert command == f"kubectl annotate secret login -n {namespace.name} {REGISTRY}={host}"
        namespace.plane.kubectl(*command.split()[1:], "--overwrite")
        namespace.request_run("annotated")
        assert condition(namespace.planned(), "Ready")["status"] == "True"


def test_a_docker_configuration_without_the_registry_is_never_sent_there(
    locked: RegistryServer, namespace: Namespace
) -> None:
    namespace.grant_credentials()
    namespace.create_docker_config({"127.0.0.1": (USER, PASSWORD), "127.0.0.1:1": (USER, PASSWORD)})
    with faulty_registry(locked.url) as watched:
        namespace.apply(policy_spec(watched.url, registry=_LOGIN))
        message = namespace.stalled("SecretNotForThisRegistry")
        assert [request.authorization for request in watched.requests if request.authorization] == []
    assert f"no entry for {watched.url.partition('//')[2]}" in message


def test_a_secret_without_a_login_is_named(locked: RegistryServer, namespace: Namespace) -> None:
    namespace.grant_credentials()
    namespace.create_secret({"passwort": PASSWORD}, annotations={REGISTRY: locked.host})
    namespace.apply(policy_spec(locked.url, registry=_LOGIN))
    assert "no username and password" in namespace.stalled("SecretInvalid")


def test_a_wrong_password_is_a_failed_login(locked: RegistryServer, namespace: Namespace) -> None:
    namespace.grant_credentials()
    namespace.create_basic_auth(locked.host, USER, WRONG)
    namespace.apply(policy_spec(locked.url, registry=_LOGIN))
    message = namespace.stalled("LoginFailed")
    assert message.startswith("the registry does not accept the user name and password; check the Secret")
    policy = namespace.policy()
    assert conditions(policy)["RegistryReachable"] == "True"
    assert conditions(policy)["Ready"] == "False"


def test_a_registry_that_wants_a_login_asks_for_a_secret(locked: RegistryServer, namespace: Namespace) -> None:
    namespace.apply(policy_spec(locked.url))
    assert "name a Secret in spec.registry.secretRef" in namespace.stalled("LoginFailed")


# Connections


def test_an_unknown_ca_is_named(namespace: Namespace, tmp_path: Path) -> None:
    tls = certificate_authority(tmp_path / "ca").issue("127.0.0.1")
    with distribution("3", tmp_path / "registry", tls=tls) as registry:
        namespace.apply(policy_spec(registry.url))
        message = namespace.stalled("TLSNotTrusted")
    assert "certificate is not trusted" in message
    assert "spec.registry.caConfigMapRef" in message
    assert condition(namespace.policy(), "RegistryReachable")["reason"] == "TLSNotTrusted"


@pytest.mark.parametrize(
    ("data", "reason", "words"),
    [
        (None, "CAConfigMapNotFound", "there is no ConfigMap 'ca'"),
        ({"other.crt": "x"}, "CAConfigMapInvalid", "has no key 'ca.crt'"),
        ({"ca.crt": "no certificate"}, "InvalidCABundle", "holds no PEM certificate"),
    ],
    ids=["missing", "without the key", "damaged"],
)
def test_a_useless_ca_config_map_is_named(
    namespace: Namespace, data: Mapping[str, str] | None, reason: str, words: str
) -> None:
    namespace.grant_credentials()
    if data is not None:
        namespace.create_config_map(data)
    ca = {"caConfigMapRef": {"name": "ca"}}
    namespace.apply(policy_spec(f"https://127.0.0.1:{free_port()}", registry=ca))
    message = namespace.stalled(reason)
    assert words in message
    assert "spec.registry.caConfigMapRef" in message


def test_a_ca_config_map_is_read_without_a_grant(namespace: Namespace) -> None:
    namespace.create_config_map({"ca.crt": "x"})
    ca = {"caConfigMapRef": {"name": "ca"}}
    namespace.apply(policy_spec(f"https://127.0.0.1:{free_port()}", registry=ca))
    assert "holds no PEM certificate" in namespace.stalled("InvalidCABundle")


def test_an_unreachable_host_is_named_and_no_reason_to_be_stalled(
    registry3: RegistryServer, namespace: Namespace
) -> None:
    namespace.apply(policy_spec(f"http://127.0.0.1:{free_port()}"))
    failed = _failed(namespace)
    unreachable = condition(failed, "RegistryReachable")
    assert (unreachable["status"], unreachable["reason"]) == ("False", "Unreachable")
    assert "check spec.registry.url" in unreachable["message"]
    # Waiting may help, so it is not Stalled; one failure is no proof of a broken policy.
    assert conditions(failed)["Stalled"] == "False"
    assert conditions(failed)["Reconciling"] == "True"
    assert conditions(failed)["Ready"] == "Unknown"
    namespace.request_run("once more")
    again = namespace.handled("once more")
    assert condition(again, "Ready")["status"] == "False"
    assert condition(again, "Ready")["reason"] == "Unreachable"
    assert any(event["reason"] == "PlanFailed" and event["type"] == "Warning" for event in namespace.events())
    registry = {"url": registry3.url}
    namespace.change({"registry": registry})
    healed = namespace.planned()
    assert conditions(healed)["RegistryReachable"] == "True"


# Registries that refuse or break


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_registry_that_deletes_nothing_says_so_already_in_the_plan(
    version: Version, namespace: Namespace, tmp_path: Path, crane: Crane
) -> None:
    with distribution(version, tmp_path / "registry", delete=False) as registry:
        push_builds(registry.url)
        namespace.apply(policy_spec(registry.url, dryRun=False))
        planned = namespace.planned()
        supported = condition(planned, "DeleteSupported")
        assert (supported["status"], supported["reason"]) == ("False", "DeletionDisabled")
        assert "REGISTRY_STORAGE_DELETE_ENABLED=true" in supported["message"]
        assert conditions(planned)["Ready"] == "True"
        assert planned["status"]["plan"]["deletions"] == 3
        asked = namespace.run("now")
        assert last_run(asked)["phase"] == "Failed"
        assert "REGISTRY_STORAGE_DELETE_ENABLED=true" in last_run(asked)["message"]
        assert condition(asked, "DeleteSupported")["status"] == "False"
        assert last_run(asked)["counts"]["tagsPruned"] == 0
        assert crane.ls(f"{registry.host}/team/app") == _ALL
    # What that run may not do is done on the volume, by its report.
    report = tmp_path / "report.json"
    report.write_text("".join(json.dumps(line) + "\n" for line in namespace.report(asked)))
    done = run(tmp_path / "home", "storage", "prune", "--root", registry.storage, "--plan", report, "--offline")
    assert done.returncode == 0, done.stderr
    with distribution(version, tmp_path / "registry", delete=False) as registry:
        assert crane.ls(f"{registry.host}/team/app") == ["build-4", "build-5"]


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_registry_that_is_read_only_says_so_and_is_pruned_once_it_is_not(
    version: Version, namespace: Namespace, tmp_path: Path, crane: Crane
) -> None:
    with distribution(version, tmp_path / "registry") as registry:
        push_builds(registry.url)
        storage = registry.storage
    with distribution(version, tmp_path / "read-only", storage=storage, readonly=True) as registry:
        namespace.apply(policy_spec(registry.url, dryRun=False))
        planned = namespace.planned()
        supported = condition(planned, "DeleteSupported")
        assert (supported["status"], supported["reason"]) == ("False", "ReadOnly")
        assert "REGISTRY_STORAGE_MAINTENANCE_READONLY" in supported["message"]
        assert planned["status"]["plan"]["deletions"] == 3
        asked = namespace.run("now")
        assert last_run(asked)["phase"] == "Failed"
        assert condition(asked, "Stalled")["reason"] == "ReadOnly"
        assert condition(asked, "DeleteSupported")["reason"] == "ReadOnly"
        assert last_run(asked)["counts"]["tagsPruned"] == 0
        assert crane.ls(f"{registry.host}/team/app") == _ALL
    with distribution(version, tmp_path / "writable", storage=storage) as registry:
        namespace.change({"registry": {"url": registry.url}})
        mended = namespace.planned()
        reason = "ByDigest" if version == "2" else "ByTag"
        assert condition(mended, "DeleteSupported")["reason"] == reason
        assert last_run(namespace.run("once more"))["counts"]["tagsPruned"] == 3
        assert crane.ls(f"{registry.host}/team/app") == _KEPT


_BROKEN: list[tuple[str, Fault, str]] = [
    ("500 on the tags", answers(500, "a secret of the registry's"), ".*/team/b/tags/list"),
    ("500 on a manifest", answers(500), ".*/team/b/manifests/build-3"),
    ("truncated tags", truncates_the_body(), ".*/team/b/tags/list"),
    ("half of the tags", chops_the_body(), ".*/team/b/tags/list"),
    ("tags that are a page for people", is_not_json(), ".*/team/b/tags/list"),
    ("a config that is no JSON", is_not_json(), ".*/team/b/blobs/.*"),
]


@pytest.mark.parametrize(("fault", "path"), [case[1:] for case in _BROKEN], ids=[case[0] for case in _BROKEN])
def test_a_repository_that_cannot_be_read_is_not_pruned_and_the_others_are(
    proxy: FaultyRegistry, registry3: RegistryServer, namespace: Namespace, crane: Crane, fault: Fault, path: str
) -> None:
    namespace.apply(policy_spec(proxy.url, dryRun=False))
    assert namespace.planned()["status"]["plan"]["deletions"] == 9
    proxy.inject(fault, path=path)
    done = namespace.run("now")
    tags = {name: crane.ls(f"{registry3.host}/team/{name}") for name in "abc"}
    assert tags == {"a": _KEPT, "b": _ALL, "c": _KEPT}
    run = last_run(done)
    assert run["phase"] == "Partial"
    assert (run["counts"]["repositoriesScanned"], run["counts"]["repositoriesFailed"]) == (2, 1)
    assert run["message"].startswith("team/b: ")
    assert "a secret of the registry's" not in str(done["status"])
    partial = [event for event in namespace.events() if event["reason"] == "RunPartial"]
    assert [event["type"] for event in partial] == ["Warning"]
    proxy.heal()
    assert last_run(namespace.run("mended"))["phase"] == "Succeeded"
    assert crane.ls(f"{registry3.host}/team/b") == _KEPT


def test_a_catalog_that_is_cut_short_prunes_nothing_at_all(
    proxy: FaultyRegistry, registry3: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    namespace.apply(policy_spec(proxy.url, dryRun=False))
    before = namespace.planned()["status"]["plan"]
    proxy.inject(chops_the_body(), path="/v2/_catalog")
    done = namespace.run("now")
    assert last_run(done)["phase"] == "Failed"
    assert last_run(done)["message"] == "the registry's answer is not JSON"
    assert done["status"]["plan"] == before
    assert all(crane.ls(f"{registry3.host}/team/{name}") == _ALL for name in "abc")


def test_a_url_where_no_registry_answers_says_so(proxy: FaultyRegistry, namespace: Namespace) -> None:
    proxy.inject(answers(404, "404 page not found"), path="/v2/")
    namespace.apply(policy_spec(proxy.url))
    assert "check spec.registry.url" in last_run(_failed(namespace))["message"]


def test_a_deletion_without_effect_is_reported_and_not_believed(
    proxy: FaultyRegistry, registry3: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    namespace.apply(policy_spec(proxy.url, dryRun=False))
    namespace.planned()
    proxy.inject(answers(202), method="DELETE", path=".*/manifests/build-.*")
    done = namespace.run("now")
    assert last_run(done)["phase"] == "Failed"
    assert last_run(done)["counts"]["tagsPruned"] == 0
    assert condition(done, "DeleteSupported")["status"] == "False"
    assert condition(done, "DeleteSupported")["reason"] == "DeletionWithoutEffect"
    assert all(crane.ls(f"{registry3.host}/team/{name}") == _ALL for name in "abc")


# Specs that only the operator can judge


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"schedule": "61 * * * *"}, "spec.schedule", "write for example '0 3 * * *'"),
        ({"schedule": "0 3 * * *", "timeZone": "Mars/Olympus"}, "spec.timeZone", "write for example 'Europe/Berlin'"),
    ],
    ids=["cron range", "time zone"],
)
def test_a_spec_that_only_the_operator_can_judge_is_stalled_with_the_fields_path(
    registry3: RegistryServer, namespace: Namespace, changes: dict[str, Any], path: str, words: str
) -> None:
    namespace.apply(policy_spec(registry3.url, **changes))
    message = namespace.stalled("InvalidSpec")
    assert message.startswith(f"{path}: ")
    assert words in message
    policy = namespace.policy()
    assert conditions(policy) == {"Ready": "False", "Reconciling": "False", "Stalled": "True"}
    assert "lastRun" not in policy["status"]
    assert "nextScheduleTime" not in policy["status"]
    namespace.change({"schedule": "0 3 * * *", "timeZone": "Europe/Berlin"})
    mended = namespace.planned()
    assert conditions(mended)["Stalled"] == "False"
    assert "nextScheduleTime" in mended["status"]


def test_a_policy_that_becomes_invalid_is_not_carried_out_as_it_was(
    registry3: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url, dryRun=False))
    namespace.planned()
    namespace.change({"schedule": "61 * * * *"})
    namespace.stalled("InvalidSpec")
    namespace.request_run("though it is invalid")
    namespace.change({"schedule": None})
    policy = namespace.handled("though it is invalid")
    assert last_run(policy)["dryRun"] is True
    assert crane.ls(f"{registry3.host}/team/app") == _ALL
    assert policy["metadata"]["name"] == NAME
