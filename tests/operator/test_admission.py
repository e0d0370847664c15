"""What manifests/approval lets whom do, on the real API server: who writes policies, and who lets them prune."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from tests.support.controlplane import ControlPlane
from tests.support.operator import OWN_USER, REPOSITORY_ROOT
from tests.support.policies import (
    APPROVE,
    GROUP,
    LIMIT,
    NAME,
    POLICIES,
    REQUEST,
    Namespace,
    fresh_namespace,
    policy_spec,
)
from tests.support.processes import wait_until

_OVERLAY = str(REPOSITORY_ROOT / "manifests" / "approval")
_EDITOR, _APPROVER = "editor@example.com", "approver@example.com"
_MERGE = "application/merge-patch+json"
_LIVE = {"dryRun": False}
_HASH = "a" * 64


class Person:
    """Somebody who works on policies through the API server."""

    def __init__(self, place: Namespace, user: str) -> None:
        self._place = place
        self._headers = {"Impersonate-User": user}

    def create(self, spec: Mapping[str, Any], annotations: Mapping[str, str] | None = None) -> httpx.Response:
        return self._place.api.post(self._path(), json=_body(spec, annotations), headers=self._headers)

    def merge(self, patch: Mapping[str, Any], path: str = NAME) -> httpx.Response:
        headers = {**self._headers, "Content-Type": _MERGE}
        return self._place.api.patch(self._path(path), content=json.dumps(patch), headers=headers)

    def spec(self, **changes: Any) -> httpx.Response:  # noqa: ANN401 - values of any field
        return self.merge({"spec": changes})

    def annotate(self, **values: str | None) -> httpx.Response:
        names = {"approve": APPROVE, "request": REQUEST}
        return self.merge({"metadata": {"annotations": {names[key]: value for key, value in values.items()}}})

    def apply(self, spec: Mapping[str, Any]) -> httpx.Response:
        """Apply server-side, as GitOps does."""
        headers = {**self._headers, "Content-Type": "application/apply-patch+yaml"}
        query = {"fieldManager": "gitops", "force": "true"}
        content = json.dumps(_body(spec, None))
        return self._place.api.patch(self._path(NAME), content=content, headers=headers, params=query)

    def _path(self, name: str | None = None) -> str:
        path = f"{POLICIES}/namespaces/{self._place.name}/registrycleanuppolicies"
        return path if name is None else f"{path}/{name}"


def _body(spec: Mapping[str, Any], annotations: Mapping[str, str] | None) -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "RegistryCleanupPolicy",
        "metadata": {"name": NAME, "annotations": dict(annotations or {})},
        "spec": dict(spec),
    }


def _spec(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    return policy_spec("https://registry.example.com", **changes)


@pytest.fixture(scope="module")
def guarded(installed: ControlPlane) -> Iterator[ControlPlane]:
    """Install the overlay, and wait until the API server goes by it."""
    installed.kubectl("apply", "-k", _OVERLAY)
    with fresh_namespace(installed, "admission-begins", []) as place:
        editor = _bound(place, _EDITOR, "registry-cleanup-edit")
        dry = {"dryRun": "All"}

        def refuses() -> bool:
            path = f"{POLICIES}/namespaces/{place.name}/registrycleanuppolicies"
            headers = {"Impersonate-User": _EDITOR}
            answer = place.api.post(path, json=_body(_spec(**_LIVE), None), headers=headers, params=dry)
            return "takes the verb approve" in answer.text

        del editor
        wait_until(refuses, LIMIT, "the admission policy")
    yield installed
    installed.kubectl("delete", "-k", _OVERLAY)


@pytest.fixture
def place(guarded: ControlPlane, namespace_name: str) -> Iterator[Namespace]:
    with fresh_namespace(guarded, namespace_name, []) as fresh:
        yield fresh


@pytest.fixture
def editor(place: Namespace) -> Person:
    return _bound(place, _EDITOR, "registry-cleanup-edit")


@pytest.fixture
def approver(place: Namespace) -> Person:
    return _bound(place, _APPROVER, "registry-cleanup-edit", "registry-cleanup-approve")


def _bound(place: Namespace, user: str, *roles: str) -> Person:
    for role in roles:
        name = f"{role}-{user.partition('@')[0]}"
        place.plane.kubectl(
            "create", "rolebinding", name, f"--clusterrole={role}", f"--user={user}", f"-n={place.name}"
        )

    def may() -> bool:
        asked = ("auth", "can-i", "create", f"registrycleanuppolicies.{GROUP}", f"-n={place.name}", f"--as={user}")
        return place.plane.kubectl(*asked, check=False).strip() == "yes"

    wait_until(may, LIMIT, f"the rights of {user}")
    return Person(place, user)


def _refused(answer: httpx.Response, place: Namespace, what: str) -> None:
    assert answer.status_code == 403, answer.text
    message = answer.json()["message"]
    assert what in message
    assert message.endswith(
        "takes the verb approve on registrycleanuppolicies.registrycleanup.dev; ask an administrator of the namespace "
        "for: kubectl create rolebinding registry-cleanup-approve --clusterrole=registry-cleanup-approve "
        f"--user={_EDITOR} -n {place.name}"
        + ("; or set dryRun: true with the change" if "change the spec" in what else "")
    )


def test_an_editor_writes_policies_that_only_plan_and_an_approver_lets_them_prune(
    place: Namespace, editor: Person, approver: Person
) -> None:
    _refused(editor.create(_spec(**_LIVE)), place, "dryRun: false takes")
    assert editor.create(_spec()).is_success
    assert editor.spec(gracePeriod="48h").is_success
    _refused(editor.spec(dryRun=False), place, "dryRun: false takes")
    assert approver.spec(dryRun=False).is_success


def test_an_approver_creates_a_policy_that_prunes(approver: Person) -> None:
    assert approver.create(_spec(**_LIVE)).is_success


def test_only_an_approver_sets_or_changes_the_annotation_that_approves_a_plan(
    place: Namespace, editor: Person, approver: Person
) -> None:
    _refused(editor.create(_spec(), {APPROVE: _HASH}), place, "to set the annotation registrycleanup.dev/approve-plan")
    assert editor.create(_spec()).is_success
    _refused(editor.annotate(approve=_HASH), place, "to set the annotation registrycleanup.dev/approve-plan")
    assert approver.annotate(approve=_HASH).is_success
    _refused(editor.annotate(approve="b" * 64), place, "to set the annotation registrycleanup.dev/approve-plan")
    # What changes nothing of it passes, and so does taking it away.
    assert editor.annotate(request="now").is_success
    assert editor.spec(gracePeriod="48h").is_success
    assert editor.annotate(approve=None).is_success


def test_an_editor_does_not_widen_a_policy_that_prunes_and_may_always_hold_it_back(
    place: Namespace, editor: Person, approver: Person
) -> None:
    assert approver.create(_spec(**_LIVE)).is_success
    what = "to change the spec of a policy that prunes (dryRun: false)"
    _refused(editor.spec(repositories={"include": ["**"]}), place, what)
    _refused(editor.spec(suspend=True, repositories={"include": ["**"]}), place, what)
    _refused(editor.spec(suspend=True, limits={"maxDeletions": 100_000}), place, what)
    assert editor.annotate(request="now").is_success
    assert editor.spec(suspend=True).is_success
    _refused(editor.spec(suspend=False), place, what)
    assert approver.spec(suspend=False, gracePeriod="1h").is_success
    assert editor.spec(dryRun=True, repositories={"include": ["**"]}).is_success
    _refused(editor.spec(dryRun=False), place, "dryRun: false takes")


def test_a_server_side_apply_that_changes_nothing_passes_whoever_sends_it(
    place: Namespace, editor: Person, approver: Person
) -> None:
    assert approver.apply(_spec(**_LIVE)).is_success
    assert editor.apply(_spec(**_LIVE)).is_success
    assert place.policy()["metadata"]["generation"] == 1
    _refused(editor.apply(_spec(**_LIVE, gracePeriod="1h")), place, "to change the spec of a policy that prunes")


def test_the_operator_writes_the_status_of_a_policy_that_prunes_and_cannot_approve_anything(
    place: Namespace, approver: Person
) -> None:
    assert approver.create(_spec(**_LIVE), {APPROVE: _HASH}).is_success
    own = Person(place, OWN_USER)
    assert own.merge({"status": {"lastHandledApproval": _HASH}}, f"{NAME}/status").is_success
    assert own.annotate(approve="b" * 64).status_code == 403


def test_the_verb_can_be_granted_for_a_single_policy(place: Namespace, editor: Person) -> None:
    assert editor.create(_spec()).is_success
    grant = ("create", "role", "approve-one", "--verb=approve", f"--resource=registrycleanuppolicies.{GROUP}")
    place.plane.kubectl(*grant, f"--resource-name={NAME}", f"-n={place.name}")
    binding = ("create", "rolebinding", "approve-one", "--role=approve-one", f"--user={_EDITOR}", f"-n={place.name}")
    place.plane.kubectl(*binding)
    wait_until(lambda: editor.spec(dryRun=False).is_success, LIMIT, "the right to approve")
