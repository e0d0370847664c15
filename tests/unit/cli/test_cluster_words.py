"""What a person is told of a cluster that does not answer, or not to them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from kubernetes.aio import client
from typing_extensions import override

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.plans.looking import order_to_plan
from registry_cleanup.cli.working import work
from registry_cleanup.domain.tenancy import PERSONAL
from registry_cleanup.kube.api import ForbiddenError, NoAnswerError, NotThereError, UnauthorizedError
from registry_cleanup.kube.in_use.doubt import together, unreadable
from registry_cleanup.kube.raw import Kind
from registry_cleanup.kube.spec import ParsedPolicy, parse_policy
from registry_cleanup.kubeconfig import naming_server
from registry_cleanup.logins.options import LoginOptions
from registry_cleanup.ports import InterruptedRunError, Registry
from registry_cleanup.session import Session
from registry_cleanup.settings import Settings
from tests.support.builders import minimal_spec

_NONE: tuple[Registry, ...] = ()
_SERVER = "https://api.example.com:6443"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            UnauthorizedError("the API server answers 401"),
            "does not accept the kubeconfig's credential (401): log in anew",
        ),
        (NoAnswerError("no answer from the API server (ClientConnectorError)"), "kubectl cluster-info"),
    ],
    ids=["bad token", "unreachable"],
)
def test_the_server_is_named_with_what_a_person_can_do(error: Exception, words: str) -> None:
    async def ask() -> None:
        with naming_server(client.ApiClient(client.Configuration(host=_SERVER))):
            raise error

    with pytest.raises(CommandError) as raised:
        work(ask())
    assert raised.value.code is Exit.CLUSTER
    assert _SERVER in str(raised.value)
    assert words in str(raised.value)


def test_what_the_api_server_answers_otherwise_is_told_as_it_is() -> None:
    with pytest.raises(NotThereError, match=r"^gone$"), naming_server(client.ApiClient(client.Configuration())):
        raise NotThereError("gone")


def test_a_person_who_may_not_look_is_told_once_what_an_administrator_grants() -> None:
    pods, jobs = Kind("v1", "Pod", "pods"), Kind("batch/v1", "Job", "jobs")
    both = together([unreadable(kind, "list", ForbiddenError("no"), reach=PERSONAL) for kind in (pods, jobs)])

    async def ask() -> None:
        raise both

    with pytest.raises(CommandError) as raised:
        work(ask())
    assert raised.value.code is Exit.CLUSTER
    assert str(raised.value) == (
        "InUseUnknown: you may not list pods (kind Pod): no; you may not list jobs of batch (kind Job): no; "
        "an administrator grants it with: kubectl create clusterrolebinding NAME-OF-YOURS "
        "--clusterrole=registry-cleanup-workloads --user=YOU"
    )


def test_the_operator_is_still_told_which_rule_is_missing() -> None:
    told = str(unreadable(Kind("v1", "Pod", "pods"), "list", ForbiddenError("no")))
    assert told.startswith("the operator cannot list pods")
    assert told.endswith("to ClusterRole registry-cleanup-workloads")


class _Cut(Session):
    """Whoever looks at a registry learns that other policies cannot be read."""

    @override
    @asynccontextmanager
    async def connect(self, policy: ParsedPolicy) -> AsyncIterator[Registry]:
        for registry in _NONE:
            yield registry
        raise InterruptedRunError("the other policies could not be read")


def test_to_explain_without_knowing_who_else_prunes_is_told_as_the_clusters_fault() -> None:
    metadata = {"namespace": "team", "name": "nightly", "uid": "u", "generation": 1}
    metadata["creationTimestamp"] = "2026-01-01T00:00:00Z"
    policy = parse_policy({"metadata": metadata, "spec": minimal_spec()})
    session = _Cut(Settings(), LoginOptions(), None)

    async def ask() -> None:
        await session.examine(policy, order_to_plan(session), "team/app", lambda _, read: read, in_use=False)

    with pytest.raises(CommandError, match="the other policies could not be read") as raised:
        work(ask())
    assert raised.value.code is Exit.CLUSTER
