"""`registry-cleanup request` and `approve` with the real operator, as people with and without rights."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.command import run
from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.images import push_image
from tests.support.operator import REPOSITORY_ROOT
from tests.support.policies import APPROVE, NAME, REQUEST, Namespace, last_run, policy_spec
from tests.support.processes import free_port, wait_until
from tests.support.registries import RegistryServer
from tests.support.terminal import terminal

_ALL = [f"build-{build}" for build in range(1, 6)]
_KEPT = ["build-4", "build-5"]
_DONE, _USAGE, _HELD_BACK, _REGISTRY, _CLUSTER = 0, 2, 3, 4, 5
_APPROVAL = REPOSITORY_ROOT / "manifests" / "approval"


class Person:
    """Somebody with a kubeconfig."""

    def __init__(self, home: Path, namespace: Namespace, kubeconfig: Path) -> None:
        self.home = home
        self.variables = {"KUBECONFIG": str(kubeconfig), "NO_PROXY": "127.0.0.1"}
        self._namespace = namespace.name

    def __call__(self, command: str, *options: str) -> tuple[int, str]:
        """Run a command on the policy; return its exit code and what it told."""
        done = run(self.home, command, NAME, "-n", self._namespace, *options, limit=120, **self.variables)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr


def _person(namespace: Namespace, home: Path, role: str | None) -> Person:
    """Return somebody who has this ClusterRole in the namespace."""
    name = role or "nobody"
    namespace.create_service_account(name)
    if role is not None:
        namespace.plane.kubectl(
            "create",
            "rolebinding",
            name,
            f"--clusterrole={role}",
            f"--serviceaccount={namespace.name}:{name}",
            "-n",
            namespace.name,
        )
    return Person(home, namespace, namespace.plane.kubeconfig_for_service_account(namespace.name, name))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def editor(namespace: Namespace, home: Path) -> Person:
    return _person(namespace, home, "registry-cleanup-edit")


@pytest.fixture
def builds(registry3: RegistryServer) -> RegistryServer:
    """Return a registry with five builds, of which three go."""
    _push(registry3)
    return registry3


def _push(registry: RegistryServer) -> None:
    """Push the same images each time."""
    for day, tag in enumerate(_ALL, 1):
        push_image(registry.url, "team/app", [tag], created=datetime(2020, 1, day, tzinfo=UTC), seed=tag)


def test_a_request_shows_the_plan_and_waits_for_the_end_of_its_run(
    namespace: Namespace, builds: RegistryServer, crane: Crane, editor: Person
) -> None:
    namespace.apply(policy_spec(builds.url, dryRun=False))
    plan = namespace.planned()["status"]["plan"]["hash"]
    assert editor("request")[0] == _USAGE
    assert REQUEST not in namespace.policy()["metadata"].get("annotations", {})
    code, told = editor("request", "--yes", "--wait")
    assert code == _DONE, told
    assert plan in told
    assert "would prune 3 tags" in told
    assert "team/app:build-1  builds: OlderThan" in told
    assert "Succeeded: 3 of 3 planned tags are pruned" in told
    assert crane.ls(f"{builds.host}/team/app") == _KEPT
    first = namespace.policy()["metadata"]["annotations"][REQUEST]
    # What is pruned is not shown as still to do, and nobody is asked to approve it.
    code, told = editor("approve", "--hash", plan)
    assert (code, "nothing was approved" in told) == (_HELD_BACK, True)
    assert f"already pruned at {last_run(namespace.policy())['completionTime']}: 3 tags" in told
    assert "would prune" not in told
    assert f"registry-cleanup request {NAME} -n {namespace.name}" in told
    assert APPROVE not in namespace.policy()["metadata"]["annotations"]
    # Each request is a new one.
    code, told = editor("request", "--yes")
    assert (code, "already pruned at" in told) == (_DONE, True)
    assert namespace.policy()["metadata"]["annotations"][REQUEST] != first


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dryRun": True}, "dryRun: true"),
        ({"gracePeriod": "24h"}, "the first tag may go from"),
        ({"limits": {"maxDeletions": 2}}, "LimitExceeded: 3 tags would go"),
        ({"suspend": True}, "it is suspended"),
    ],
    ids=["dryRun", "gracePeriod", "limits", "suspend"],
)
def test_a_request_tells_what_holds_the_plan_back(
    namespace: Namespace, builds: RegistryServer, crane: Crane, editor: Person, changes: dict[str, object], words: str
) -> None:
    namespace.apply({**policy_spec(builds.url, dryRun=False), **changes})
    if "suspend" not in changes:
        namespace.planned()
    code, told = editor("request", "--yes", "--wait")
    assert code == _HELD_BACK, told
    assert words in told
    assert crane.ls(f"{builds.host}/team/app") == _ALL


def test_of_a_suspended_policy_a_run_is_requested_only_if_that_is_said(
    namespace: Namespace, builds: RegistryServer, editor: Person
) -> None:
    namespace.apply({**policy_spec(builds.url, dryRun=False), "suspend": True})
    code, told = editor("request")
    assert (code, "is suspended, so nothing was requested" in told) == (_HELD_BACK, True)
    assert REQUEST not in namespace.policy()["metadata"].get("annotations", {})
    assert editor("request", "--yes")[0] == _HELD_BACK
    assert REQUEST in namespace.policy()["metadata"]["annotations"]


def test_a_plan_that_nothing_holds_waits_for_no_approval(
    namespace: Namespace, builds: RegistryServer, editor: Person
) -> None:
    namespace.apply(policy_spec(builds.url, dryRun=False))
    plan = namespace.planned()["status"]["plan"]["hash"]
    code, told = editor("approve", "--hash", plan)
    assert (code, "waits for no approval" in told) == (_HELD_BACK, True)
    assert f"registry-cleanup request {NAME} -n {namespace.name}" in told
    assert APPROVE not in namespace.policy()["metadata"].get("annotations", {})


def test_a_request_of_a_registry_that_is_gone_ends_as_its_plan_would(namespace: Namespace, editor: Person) -> None:
    namespace.apply(policy_spec(f"http://127.0.0.1:{free_port()}", dryRun=False))
    code, told = editor("request", "--yes", "--wait")
    assert code == _REGISTRY, told


def test_waiting_has_an_end_if_one_is_given(own_namespace: Namespace, builds: RegistryServer, home: Path) -> None:
    own_namespace.apply(policy_spec(builds.url, dryRun=False))  # nobody watches
    person = Person(home, own_namespace, own_namespace.plane.admin_kubeconfig)
    code, told = person("request", "--yes", "--wait", "--timeout", "2s")
    assert (code, "has not ended after 2s" in told) == (_HELD_BACK, True)
    assert f"registry-cleanup report {NAME} -n {own_namespace.name}" in told
    for wrong in (("--timeout", "2s"), ("--wait", "--timeout", "soon")):
        assert person("request", "--yes", *wrong)[0] == _USAGE


def test_a_request_at_a_terminal_is_asked_for(namespace: Namespace, builds: RegistryServer, editor: Person) -> None:
    namespace.apply(policy_spec(builds.url))
    namespace.planned()
    arguments = ("request", f"rcp/{NAME}", "-n", namespace.name)
    for answer, code in (("no", _HELD_BACK), ("yes", _DONE)):
        with terminal(editor.home, *arguments, variables=editor.variables) as shown:
            shown.wait_for("Type yes")
            assert REQUEST not in namespace.policy()["metadata"].get("annotations", {})
            shown.type(answer)
            assert shown.end() == code
    assert REQUEST in namespace.policy()["metadata"]["annotations"]


def test_exactly_the_plan_that_was_shown_is_approved(
    namespace: Namespace, builds: RegistryServer, crane: Crane, editor: Person
) -> None:
    namespace.apply({**policy_spec(builds.url, dryRun=False), "approval": {"required": True}})
    plan = namespace.planned()["status"]["plan"]["hash"]
    code, told = editor("approve")
    assert (code, f"--hash {plan}" in told) == (_USAGE, True)
    code, told = editor("approve", "--hash", "0" * 64)
    assert (code, plan in told) == (_HELD_BACK, True)
    assert APPROVE not in namespace.policy()["metadata"].get("annotations", {})
    code, told = editor("approve", "--hash", plan, "--wait")
    assert code == _DONE, told
    assert "Succeeded: 3 of 3 planned tags are pruned" in told
    assert namespace.policy()["metadata"]["annotations"][APPROVE] == plan
    assert crane.ls(f"{builds.host}/team/app") == _KEPT
    # The same plan once more: the operator takes note of it anew.
    _push(builds)
    assert editor("request", "--yes", "--wait")[0] == _HELD_BACK
    assert namespace.policy()["status"]["plan"]["hash"] == plan
    code, told = editor("approve", "--hash", plan, "--wait")
    assert code == _DONE, told
    assert crane.ls(f"{builds.host}/team/app") == _KEPT


@pytest.mark.parametrize("annotations", [None, {"team": "a"}], ids=["first annotation", "others before"])
def test_a_plan_that_changed_since_it_was_shown_is_not_approved(
    namespace: Namespace, builds: RegistryServer, editor: Person, annotations: dict[str, str] | None
) -> None:
    spec = {**policy_spec(builds.url, dryRun=False), "approval": {"required": True}}
    namespace.apply(spec, annotations=annotations)
    plan = namespace.planned()["status"]["plan"]["hash"]
    with terminal(editor.home, "approve", NAME, "-n", namespace.name, variables=editor.variables) as shown:
        shown.wait_for(f"Approve plan {plan}")
        namespace.change({"keepTags": ["build-1"]})
        namespace.planned()
        shown.type("yes")
        assert shown.end() == _HELD_BACK
    assert "the plan changed meanwhile" in shown.text
    assert APPROVE not in namespace.policy()["metadata"].get("annotations", {})


def test_an_approval_that_would_do_nothing_is_not_written(
    namespace: Namespace, builds: RegistryServer, editor: Person
) -> None:
    namespace.apply(policy_spec(builds.url))
    plan = namespace.planned()["status"]["plan"]["hash"]
    code, told = editor("approve", "--hash", plan)
    assert (code, "dryRun: true" in told) == (_HELD_BACK, True)
    assert "annotations" not in namespace.policy()["metadata"]


def test_who_may_not_is_told_which_rule_is_missing(namespace: Namespace, builds: RegistryServer, home: Path) -> None:
    namespace.apply({**policy_spec(builds.url, dryRun=False), "approval": {"required": True}})
    plan = namespace.planned()["status"]["plan"]["hash"]
    code, told = _person(namespace, home, None)("request", "--yes")
    assert (code, "verbs: [get" in told) == (_CLUSTER, True)
    viewer = _person(namespace, home, "registry-cleanup-view")
    for command in (("request", "--yes"), ("approve", "--hash", plan)):
        code, told = viewer(*command)
        assert code == _CLUSTER
        assert "registry-cleanup-edit grants it with: {apiGroups: [registrycleanup.dev]" in told
    assert "annotations" not in namespace.policy()["metadata"]


@pytest.fixture
def approval_guarded(installed: ControlPlane) -> Iterator[None]:
    """Let approving take a right of its own, for one test: others approve as they like."""
    with contextlib.ExitStack() as stack:
        installed.kubectl("apply", "-k", str(_APPROVAL))
        stack.callback(installed.kubectl, "delete", "-k", str(_APPROVAL))
        yield


@pytest.mark.usefixtures("approval_guarded")
def test_what_the_admission_policy_says_is_told_whole(
    namespace: Namespace, builds: RegistryServer, editor: Person
) -> None:
    namespace.apply({**policy_spec(builds.url, dryRun=False), "approval": {"required": True}})
    plan = namespace.planned()["status"]["plan"]["hash"]

    def refused() -> bool:
        code, told = editor("approve", "--hash", plan)
        return code == _CLUSTER and f"-n {namespace.name}" in told and "--clusterrole=registry-cleanup-approve" in told

    # The API server takes a while to heed a new admission policy; until then nothing refuses it.
    def until_refused() -> bool:
        if refused():
            return True
        namespace.approve(None)
        return False

    wait_until(until_refused, 60, "the admission policy")
    assert last_run(namespace.policy())["phase"] != "Running"
