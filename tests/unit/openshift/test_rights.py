"""What a ServiceAccount may do is asked, never tried, and what it lacks is told with the command that grants it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from typing_extensions import override

from registry_cleanup.openshift.api import ImageAPI, Right
from registry_cleanup.openshift.rights import NamespaceRights, Subject, explain, namespace_rights

_GET_TAGS = Right("get", "imagestreamtags", "team")
_DELETE_TAGS = Right("delete", "imagestreamtags", "team")
_GET_STREAMS = Right("get", "imagestreams", "team")
_UPDATE_STATUS = Right("update", "imagestreams/status", "team")
_LEAST = {_GET_TAGS, _DELETE_TAGS, _GET_STREAMS}


@dataclass
class _Asked(ImageAPI):
    """Says yes to `granted` and remembers all questions."""

    granted: set[Right]
    questions: list[Right] = field(default_factory=list)

    @override
    async def may(self, right: Right) -> bool:
        self.questions.append(right)
        return right in self.granted


@pytest.mark.parametrize(
    ("granted", "expected"),
    [
        (_LEAST | {_UPDATE_STATUS}, NamespaceRights(status=True, tags=True)),
        (_LEAST, NamespaceRights(status=False, tags=True)),
        (_LEAST - {_DELETE_TAGS}, NamespaceRights(status=False, tags=False, missing=(_DELETE_TAGS,))),
        (_LEAST - {_GET_TAGS}, NamespaceRights(status=False, tags=False, missing=(_GET_TAGS,))),
        (_LEAST - {_GET_STREAMS}, NamespaceRights(status=False, tags=False, missing=(_GET_STREAMS,))),
        ({_UPDATE_STATUS}, NamespaceRights(status=True, tags=False, missing=(_GET_TAGS, _DELETE_TAGS, _GET_STREAMS))),
    ],
)
async def test_removing_one_by_one_needs_three_rights_and_all_at_once_another(
    granted: set[Right], expected: NamespaceRights
) -> None:
    api = _Asked(granted)
    assert await namespace_rights(api, "team") == expected
    assert {(right.namespace, right.group) for right in api.questions} == {("team", "image.openshift.io")}


def test_what_is_missing_is_named_with_verb_resource_namespace_and_the_command() -> None:
    assert explain([_DELETE_TAGS, _GET_STREAMS], Subject.service_account("ops:pruner")) == (
        "ServiceAccount ops:pruner lacks: delete imagestreamtags in namespace team, get imagestreams in namespace "
        "team; grant it with: kubectl create rolebinding registry-cleanup-ops-pruner "
        "--clusterrole=registry-cleanup-image-tags --serviceaccount=ops:pruner -n team"
    )


def test_a_long_list_of_what_is_missing_is_cut_and_counted() -> None:
    rights = [Right("delete", "imagestreamtags", f"team-{number}") for number in range(7)]
    told = explain(rights, Subject.service_account("ops:pruner"))
    assert "delete imagestreamtags in namespace team-3 and 3 more; " in told
    assert told.count("kubectl create rolebinding") == 2
    assert told.endswith("-n team-1; likewise in 5 more namespaces")


@pytest.mark.parametrize(
    ("user", "told", "flag"),
    [
        ("system:serviceaccount:ops:pruner", "ServiceAccount ops:pruner lacks", "-ops-pruner --clusterrole"),
        ("Alice O'Hara@example.com", "user Alice O'Hara@example.com lacks", "--user='Alice O'\"'\"'Hara@example.com'"),
        ("kube:admin", "user kube:admin lacks", "registry-cleanup-kube-admin "),
        (None, "your user lacks", "--user=YOUR-USER-NAME"),
    ],
)
def test_what_a_person_lacks_is_granted_to_that_person(user: str | None, told: str, flag: str) -> None:
    message = explain([_DELETE_TAGS], Subject.user(user))
    assert message.startswith(told)
    assert flag in message
