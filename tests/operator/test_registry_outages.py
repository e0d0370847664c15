"""A registry that does not answer, and one whose password changes in mid-run."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crane import Crane
from tests.support.faulty import FaultyRegistry, faulty_registry, stalls
from tests.support.midway import BUILDS, GOING, left, pruning
from tests.support.operator import operator
from tests.support.policies import (
    LIMIT,
    NAME,
    Namespace,
    condition,
    conditions,
    last_run,
    policy_spec,
    push_builds,
)
from tests.support.processes import wait_until
from tests.support.registries import RegistryServer, distribution, write_passwords

USER, OLD, NEW = "pruner", "correct-horse-battery", "another-horse-battery"
_LOGIN = {"secretRef": {"name": "login"}}


# A Secret that is rotated


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[RegistryServer]:
    """Run a registry that wants a password, in `tmp_path`."""
    with distribution("3", tmp_path, htpasswd={USER: OLD}) as server:
        push_builds(server.url, number=BUILDS, auth=(USER, OLD))
        yield server


@pytest.fixture
def proxy(locked: RegistryServer) -> Iterator[FaultyRegistry]:
    with faulty_registry(locked.url) as running:
        yield running


def _host(proxy: FaultyRegistry) -> str:
    return proxy.url.partition("//")[2]


def _rotate(namespace: Namespace) -> None:
    """Put the new password into the Secret."""
    namespace.forbid(NEW)
    patch = json.dumps({"stringData": {"password": NEW}})
    headers = {"Content-Type": "application/merge-patch+json"}
    path = f"/api/v1/namespaces/{namespace.name}/secrets/login"
    namespace.api.patch(path, content=patch, headers=headers).raise_for_status()


def _crane(tmp_path: Path, server: RegistryServer) -> Crane:
    return Crane(tmp_path / "crane", credentials={server.host: (USER, NEW)})


def test_a_run_goes_on_with_what_replaced_its_secret(
    locked: RegistryServer, proxy: FaultyRegistry, namespace: Namespace, tmp_path: Path
) -> None:
    namespace.grant_credentials()
    namespace.create_basic_auth(_host(proxy), USER, OLD)
    with pruning(namespace, proxy, registry=_LOGIN):
        write_passwords(tmp_path, {USER: NEW})
        _rotate(namespace)
    done = namespace.handled("now")
    assert (last_run(done)["phase"], last_run(done)["counts"]["tagsPruned"]) == ("Succeeded", GOING)
    assert left(_crane(tmp_path, locked), locked) == BUILDS - GOING


def test_a_password_that_ends_before_its_secret_is_replaced_stops_the_run_and_the_next_one_works(
    locked: RegistryServer, proxy: FaultyRegistry, namespace: Namespace, tmp_path: Path
) -> None:
    namespace.grant_credentials()
    namespace.create_basic_auth(_host(proxy), USER, OLD)
    with pruning(namespace, proxy, registry=_LOGIN):
        write_passwords(tmp_path, {USER: NEW})
    failed = namespace.handled("now")
    assert last_run(failed)["phase"] == "Failed"
    assert last_run(failed)["counts"]["tagsPruned"] == 0
    assert condition(failed, "Stalled")["status"] == "True"
    assert condition(failed, "Stalled")["reason"] == "LoginFailed"
    assert left(_crane(tmp_path, locked), locked) == BUILDS
    _rotate(namespace)
    done = namespace.run("again")
    assert (last_run(done)["phase"], last_run(done)["counts"]["tagsPruned"]) == ("Succeeded", GOING)
    assert conditions(done)["Stalled"] == "False"
    assert left(_crane(tmp_path, locked), locked) == BUILDS - GOING


# A registry that never answers


@pytest.fixture
def silent(registry3: RegistryServer) -> Iterator[FaultyRegistry]:
    """Run a proxy that takes every request and says nothing."""
    with faulty_registry(registry3.url) as running:
        running.inject(stalls(3600))
        yield running


def test_a_registry_that_never_answers_holds_up_nobody_else(
    silent: FaultyRegistry, registry3: RegistryServer, namespace: Namespace
) -> None:
    namespace.apply(policy_spec(silent.url), "silent")
    wait_until(lambda: silent.requests != [], LIMIT, "its first request")
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url))
    assert condition(namespace.planned(), "Ready")["status"] == "True"
    assert last_run(namespace.run("now"))["phase"] == "Succeeded"
    assert last_run(namespace.policy("silent"))["phase"] == "Running"


def test_a_registry_that_never_answers_does_not_hold_up_the_operators_end(
    silent: FaultyRegistry, own_namespace: Namespace, tmp_path: Path
) -> None:
    with operator(own_namespace.plane, tmp_path / "operator", {"STOP_SECONDS": "2"}) as running:
        own_namespace.apply(policy_spec(silent.url))
        wait_until(lambda: silent.requests != [], LIMIT, "its first request", running.process)
        running.process.signal(signal.SIGTERM)
        started = time.monotonic()
        assert running.process.wait(LIMIT) == 0
        assert time.monotonic() - started < 10
    with operator(own_namespace.plane, tmp_path / "second"):
        said = own_namespace.wait(lambda policy: len(_ids(policy)) > 0, "a word")
    assert last_run(said)["phase"] in ("Interrupted", "Running")


def _ids(policy: dict[str, object]) -> str:
    run = last_run(policy)
    return str(run["id"]) if run else ""


@pytest.mark.thorough
def test_a_registry_that_never_answers_is_unreachable_once_the_time_limits_are_over(
    silent: FaultyRegistry, own_namespace: Namespace, tmp_path: Path
) -> None:
    with operator(own_namespace.plane, tmp_path / "operator") as running:
        own_namespace.apply(policy_spec(silent.url))
        started = time.monotonic()
        failed = own_namespace.wait(
            lambda policy: last_run(policy).get("phase") == "Failed", "the end", NAME, running.process, limit=600
        )
    # Four attempts of a minute each.
    assert time.monotonic() - started < 300
    unreachable = condition(failed, "RegistryReachable")
    assert (unreachable["status"], unreachable["reason"]) == ("False", "Unreachable")
    assert conditions(failed)["Stalled"] == "False"
