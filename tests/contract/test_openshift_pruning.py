"""Image streams are listed, planned and pruned as one ServiceAccount, through the real API server; the faults of both.

Facts: `facts/openshift.md`; its sections are named where a test rests on one.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client
from typing_extensions import override

from registry_cleanup.application import _as_policy
from registry_cleanup.copying import RunCopies
from registry_cleanup.domain.closer_look import closer_look
from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.deletion import Deletion, ItemOutcome, Outcome, UsedSince
from registry_cleanup.domain.explanation import explain
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.ownership import needs
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.policy import Limits, Policy, TagDate
from registry_cleanup.domain.reference import Digest, parse_digest
from registry_cleanup.domain.run import Aftermath, Collector, Phase, RunOrder, RunReport, Trigger
from registry_cleanup.domain.situation import as_read
from registry_cleanup.domain.trust import RegistryHosts
from registry_cleanup.domain.undoing import Undone
from registry_cleanup.examination import examine
from registry_cleanup.kube.api import KubernetesAPI
from registry_cleanup.kube.credentials import PolicyCredentials
from registry_cleanup.kube.spec import parse_policy
from registry_cleanup.openshift.api import ImageAPI, Right
from registry_cleanup.openshift.errors import BusyError, ImageAPIError, MissingRightError, OddAnswerError
from registry_cleanup.openshift.registry import OpenShiftRegistry
from registry_cleanup.openshift.rights import Subject
from registry_cleanup.ports import Audit, InterruptedRunError, World
from registry_cleanup.runner import Runner
from registry_cleanup.undoing import UndoOrder, undo
from tests.support import builders, clients
from tests.support.certificates import certificate_authority
from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.image_api import ApiRequest, ImageApi, image_api
from tests.support.openshift import OpenShiftRegistry as Standin
from tests.support.openshift import openshift_registry
from tests.support.openshift_config import set_image_pruner
from tests.support.openshift_rights import LEAST, LIST_EVERYWHERE, PULL, STATUS, Level, grant
from tests.support.processes import wait_until
from tests.support.undo import RUN, MemoryCopies, results
from tests.support.world import FixedClaims, FixedGuard, FixedRivals, FixedUse, RecordingAudit, long_published

APPS, MORE = "streams-apps", "streams-more"
APP = f"{APPS}/app"
_API = "/apis/image.openshift.io/v1/"
_HERE = f"{_API}namespaces/{APPS}/"
PRUNED, GONE, MOVED = (Outcome.PRUNED, None), (Outcome.ALREADY_GONE, None), (Outcome.MOVED, None)
NOW_SHARED, NOT_DELETED = (Outcome.NOW_SHARED, None), (Outcome.NOT_DELETED, None)

_LOOKS = Level("looks", {"imagestreams": ["get", "list"]})
_ODD = Level("odd", {"imagestreams": ["get", "list"], "imagestreams/status": ["update"]})
_IMAGES = Level("images", {"images": ["get", "delete"]}, cluster=True)
_ONLY_DELETE = Level("only-delete-images", {"images": ["delete"]}, cluster=True)
_BUILT = Level("built", {"imagestreamimages": ["get"]})
# ServiceAccounts of the namespace APPS, by what they may.
_ACCOUNTS: dict[str, Sequence[Level]] = {
    "least": (LEAST, _BUILT),
    "status": (LEAST, STATUS),
    "links": (LEAST, STATUS, _IMAGES, _BUILT),
    "half": (LEAST, STATUS, _ONLY_DELETE),
    "everywhere": (LEAST, LIST_EVERYWHERE),
    "looks": (_LOOKS,),
    "odd": (_ODD,),
    "nobody": (),
}
_ALL = builders.policy(builders.rule("v.*", most_recent=0))
_ALL_MANAGED = builders.policy(builders.rule("v.*", most_recent=0, include_managed=True))


@dataclass(frozen=True)
class Setting:
    """Image streams, the registry before them, and ServiceAccounts with some rights.

    Attributes:
        images: The image streams.
        registry: The integrated registry.
        plane: In front of the image streams.
        ca: Of the registry's certificate.
        tokens: By ServiceAccount.
    """

    images: ImageApi
    registry: Standin
    plane: ControlPlane
    ca: str
    tokens: dict[str, str]

    def configuration(self, token: str = "") -> client.Configuration:
        configuration = client.Configuration(host=self.plane.url)
        configuration.ssl_ca_cert = str(self.plane.ca_file)
        configuration.api_key_prefix = {"BearerToken": "Bearer"}
        configuration.api_key = {"BearerToken": token}
        return configuration

    @asynccontextmanager
    async def opened(
        self,
        account: str,
        *include: str,
        tag_date: TagDate = TagDate.AUTO,
        as_client: client.Configuration | None = None,
    ) -> AsyncIterator[OpenShiftRegistry]:
        """Open the streams as the composition root does."""
        login = clients.service_account(self.tokens[account], self.registry.host)
        configuration = as_client or self.configuration(self.tokens[account])
        async with (
            clients.opened(self.registry.url, login, ca_bundle=self.ca) as front,
            client.ApiClient(configuration) as api_client,
        ):
            selector = builders.selector(*(include or (f"{APPS}/*",)))
            api = ImageAPI(api_client, clients.free(4))
            yield OpenShiftRegistry(api, front, selector, tag_date, Subject.service_account(f"{APPS}:{account}"), 4)

    def push(self, *tags: str, stream: str = "app", **how: Any) -> list[str]:  # noqa: ANN401 - those of ImageApi.push
        return [self.images.push(APPS, stream, tag, **how) for tag in tags]

    @property
    def tags(self) -> dict[str, str]:
        return self.images.tags(APPS, "app")

    def asked(self, *methods: str, stream: str = "app") -> list[str]:
        """Return the requests about one stream, in order."""
        return [
            f"{request.method} {request.path.removeprefix(_HERE)}"
            for request in self.images.requests
            if (not methods or request.method in methods)
            and request.path.startswith(_HERE)
            and request.path.removeprefix(_HERE).replace(":", "/").replace("@", "/").split("/")[1:2] == [stream]
        ]

    @property
    def changes(self) -> list[str]:
        """Return all that was asked to be changed, anywhere."""
        return [f"{r.method} {r.path.removeprefix(_API)}" for r in self.images.requests if r.method != "GET"]

    def forget(self) -> None:
        self.images.requests.clear()
        self.registry.requests.clear()


@pytest.fixture(scope="module")
def _setting(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("openshift")
    authority = certificate_authority(folder / "ca")
    for namespace in (APPS, MORE):
        plane.kubectl("create", "namespace", namespace)
    with (
        image_api(plane, folder / "api") as images,
        openshift_registry(images, plane, authority.issue("127.0.0.1", "localhost")) as registry,
    ):
        tokens = {}
        for account, levels in _ACCOUNTS.items():
            grant(plane, Level("none", {}), (APPS, account))
            for level in levels:
                grant(plane, level, (APPS, account), *([] if level.cluster else [APPS]))
            tokens[account] = plane.token_for_service_account(APPS, account, 3600)
        yield Setting(images, registry, plane, authority.ca_file.read_text(), tokens)


@pytest.fixture
def setting(_setting: Setting) -> Iterator[Setting]:
    yield _setting
    _setting.images.calm()
    _setting.registry.requests.clear()
    store = _setting.images.store
    with store.locked():
        for key in list(store.streams):
            _setting.images.delete_stream(*key)
        for known in (store.images, store.contents, store.links, store.pulled_through):
            known.clear()


async def _planned(
    registry: OpenShiftRegistry, repository: str = APP, what: Policy = _ALL, in_use: InUse = NOTHING_IN_USE
) -> tuple[RepositoryPlan, Deletion]:
    """List and plan as the runner does."""
    assert repository in await registry.repositories()
    return await clients.planned(registry, repository, what, in_use)


async def _pruned(
    setting: Setting,
    account: str,
    what: Policy = _ALL,
    meanwhile: Callable[[], object] | None = None,
    in_use: InUse = NOTHING_IN_USE,
    since: InUse = NOTHING_IN_USE,
) -> dict[str, tuple[Outcome, str | None]]:
    """Plan the stream `app`, let something happen, prune, and return the outcomes."""
    async with setting.opened(account) as registry:
        plan, deletion = await _planned(registry, what=what, in_use=in_use)
        setting.forget()
        if meanwhile is not None:
            meanwhile()
        return await clients.applied(registry, plan, deletion, since=since)


def _fails(times: int, error: Exception) -> Callable[[], Awaitable[None]]:
    """Return a `proceed` that lets so many tags pass."""
    left = [times]

    async def proceed() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise error

    return proceed


def _once(setting: Setting, what: Callable[[], object], method: str, path: str, *, nth: int = 1) -> Callable[[], int]:
    """Let `what` happen right before the `nth` request that matches; return how many matched so far."""
    seen = 0

    def hook(_request: ApiRequest) -> None:
        nonlocal seen
        seen += 1
        if seen == nth:
            what()

    setting.images.on_request(hook, method=method, path=path)
    return lambda: seen


_NO_LIMITS = Limits(1000, 100)
_PUT = f"{_HERE}imagestreams/app/status"
_STREAM = f"{_HERE}imagestreams/app"
_TAGS = f"{_HERE}imagestreamtags/.*"


# Signatures


def _signature(digest: str) -> str:
    return digest.replace(":", "-") + ".sig"


@pytest.mark.parametrize("account", ["least", "status"])
async def test_a_signature_goes_after_the_image_that_it_signs_and_only_with_it(setting: Setting, account: str) -> None:
    gone, kept = setting.push("v1", "main")
    setting.push(_signature(gone), _signature(kept))
    outcomes = await _pruned(setting, account)
    assert outcomes == {"v1": PRUNED, _signature(gone): PRUNED}
    assert list(outcomes) == ["v1", _signature(gone)]
    assert set(setting.tags) == {"main", _signature(kept)}


@pytest.mark.parametrize("account", ["least", "status"])
async def test_a_signature_stays_while_the_history_of_another_tag_holds_its_image(
    setting: Setting, account: str
) -> None:
    (signed,) = setting.push("v1", seed="same")
    setting.push("main", seed="same")
    setting.push("main", seed="newer")
    setting.push(_signature(signed))
    assert await _pruned(setting, account) == {"v1": PRUNED}
    assert set(setting.tags) == {"main", _signature(signed)}


@pytest.mark.parametrize("account", ["least", "status"])
async def test_a_signature_stays_when_its_image_was_moved_into_another_tag_meanwhile(
    setting: Setting, account: str
) -> None:
    (signed,) = setting.push("v1", seed="same")
    setting.push(_signature(signed))

    def promote() -> None:
        setting.push("release", seed="same")

    assert await _pruned(setting, account, meanwhile=promote) == {"v1": PRUNED}
    assert set(setting.tags) == {"release", _signature(signed)}


# With `update imagestreams/status`


async def test_all_tags_of_a_stream_go_in_one_update_after_one_look(setting: Setting) -> None:
    tags = [f"v{number}" for number in range(30)]
    setting.push(*tags, "latest")
    assert await _pruned(setting, "status") == dict.fromkeys(tags, PRUNED)
    # The answer to the update is the stream as it was stored, which is the proof.
    assert setting.asked() == ["GET imagestreams/app", "PUT imagestreams/app/status"]
    assert set(setting.tags) == {"latest"}


async def test_an_update_leaves_all_else_of_the_stream_as_it_was(setting: Setting) -> None:
    setting.images.create_stream(APPS, "app", labels={"a": "b"}, annotations={"c": "d"})
    setting.images.import_tag(APPS, "app", "imported")
    setting.images.fail_import(APPS, "app", "failed")
    for seed in ("one", "two", "three"):
        setting.push("kept", seed=seed)
    setting.push("v1", "v2")
    before = setting.images.stream(APPS, "app")
    assert await _pruned(setting, "status") == dict.fromkeys(["v1", "v2"], PRUNED)
    after = setting.images.stream(APPS, "app")
    left = [tag for tag in before["status"]["tags"] if tag["tag"] not in {"v1", "v2"}]
    assert after["status"]["tags"] == left
    assert len(left) == 3
    for part in ("labels", "annotations", "uid", "generation"):
        assert after["metadata"][part] == before["metadata"][part]
    assert after["spec"] == before["spec"]


async def test_a_push_between_look_and_update_is_decided_again_and_the_pushed_tag_lives(setting: Setting) -> None:
    setting.push("v1", "v2", "v3")
    new: list[str] = []
    _once(setting, lambda: new.extend(setting.push("v2", "other", seed="new")), "PUT", _PUT)
    assert await _pruned(setting, "status") == {"v1": PRUNED, "v2": MOVED, "v3": PRUNED}
    assert setting.tags == {"v2": new[0], "other": new[1]}
    assert Counter(setting.asked()) == {"GET imagestreams/app": 2, "PUT imagestreams/app/status": 2}


async def test_a_tag_that_was_moved_since_the_plan_is_left_alone(setting: Setting) -> None:
    setting.push("v1", "v2")
    outcomes = await _pruned(setting, "status", meanwhile=lambda: setting.push("v1", seed="new"))
    assert outcomes == {"v1": MOVED, "v2": PRUNED}
    assert set(setting.tags) == {"v1"}


async def test_a_tag_that_somebody_else_deleted_is_already_gone(setting: Setting) -> None:
    setting.push("v1", "v2")
    gone = lambda: setting.images.delete_tag(APPS, "app", "v1")  # noqa: E731 - a name says what happens
    assert await _pruned(setting, "status", meanwhile=gone) == {"v1": GONE, "v2": PRUNED}


async def test_a_tag_that_its_stream_protects_meanwhile_stays(setting: Setting) -> None:
    setting.push("v1", "v2")
    keep = {"registrycleanup.dev/keep": "v1"}
    _once(setting, lambda: setting.images.create_stream(APPS, "app", annotations=keep), "PUT", _PUT)
    assert await _pruned(setting, "status") == {"v1": NOW_SHARED, "v2": PRUNED}
    assert set(setting.tags) == {"v1"}


async def test_a_stream_that_never_holds_still_is_pruned_the_slow_way_and_no_push_is_lost(setting: Setting) -> None:
    setting.push("v1", "v2", "v3")
    pushed: dict[str, str] = {}

    def push(_request: ApiRequest) -> None:
        tag = f"new-{len(pushed)}"
        (pushed[tag],) = setting.push(tag)

    setting.images.on_request(push, method="PUT|DELETE", path=".*")
    assert await _pruned(setting, "status") == dict.fromkeys(["v1", "v2", "v3"], PRUNED)
    assert setting.tags == pushed
    changes = [request.partition(" ")[0] for request in setting.asked("PUT", "DELETE")]
    assert changes == ["PUT"] * 4 + ["DELETE"] * 3
    assert setting.images.most_deletions_at_once(APPS, "app") == 1


async def test_a_stream_that_is_gone_at_the_look_has_no_tags_left(setting: Setting) -> None:
    setting.push("v1", "v2")
    gone = lambda: setting.images.delete_stream(APPS, "app")  # noqa: E731 - a name says what happens
    assert await _pruned(setting, "status", meanwhile=gone) == {"v1": GONE, "v2": GONE}
    assert setting.asked() == ["GET imagestreams/app"]


async def test_a_stream_that_goes_between_look_and_update_has_no_tags_left(setting: Setting) -> None:
    setting.push("v1", "v2")
    _once(setting, lambda: setting.images.delete_stream(APPS, "app"), "PUT", _PUT)
    assert await _pruned(setting, "status") == {"v1": GONE, "v2": GONE}


async def test_a_stream_that_was_made_anew_with_other_images_is_left_alone(setting: Setting) -> None:
    setting.push("v1", "v2")

    def anew() -> None:
        setting.images.delete_stream(APPS, "app")
        setting.push("v1", "v2", seed="new")

    _once(setting, anew, "PUT", _PUT)
    assert await _pruned(setting, "status") == {"v1": MOVED, "v2": MOVED}
    assert set(setting.tags) == {"v1", "v2"}


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_update_that_cannot_be_made_now_is_made_after_another_look(setting: Setting, status: int) -> None:
    setting.push("v1", "v2")
    setting.images.inject(status, method="PUT", path=_PUT)
    assert await _pruned(setting, "status") == dict.fromkeys(["v1", "v2"], PRUNED)
    assert setting.asked() == ["GET imagestreams/app", "PUT imagestreams/app/status"] * 2


async def test_an_update_is_not_repeated_before_the_time_that_the_server_asks_for(setting: Setting) -> None:
    setting.push("v1")
    times: list[float] = []
    loop = asyncio.get_running_loop()
    setting.images.on_request(lambda _: times.append(loop.time()), method="GET", path=_STREAM)
    setting.images.inject(500, method="PUT", path=_PUT)  # retryAfterSeconds is 2
    assert await _pruned(setting, "status") == {"v1": PRUNED}
    assert times[-1] - times[-2] >= 2


async def test_an_update_whose_answer_was_lost_is_seen_to_have_been_made(setting: Setting) -> None:
    setting.push("v1", "v2", "latest")
    setting.images.inject(503, method="PUT", path=_PUT, carried_out=True)
    assert await _pruned(setting, "status") == {"v1": PRUNED, "v2": PRUNED}
    assert set(setting.tags) == {"latest"}
    assert len(setting.asked("PUT")) == 1


async def test_a_right_that_was_taken_back_changes_nothing_and_is_told(setting: Setting) -> None:
    setting.push("v1")
    setting.images.inject(403, method="PUT", path=_PUT)
    with pytest.raises(MissingRightError, match="manifests/openshift"):
        await _pruned(setting, "status")
    assert set(setting.tags) == {"v1"}


async def test_an_update_that_had_no_effect_is_reported_and_not_believed(setting: Setting) -> None:
    setting.push("v1", "v2")
    setting.images.inject(200, {"kind": "ImageStream"}, method="PUT", path=_PUT)
    assert await _pruned(setting, "status") == dict.fromkeys(["v1", "v2"], NOT_DELETED)


@pytest.mark.parametrize(
    "answer", ["the old version", "no version", "another stream", "the tags", "no stream", "no JSON"]
)
async def test_an_answer_that_does_not_show_what_was_stored_proves_nothing(setting: Setting, answer: str) -> None:
    setting.push("v1", "v2", "latest")
    there = setting.images.stream(APPS, "app")
    left = [tag for tag in there["status"]["tags"] if tag["tag"] == "latest"]
    without = {**there, "status": {"tags": left}}
    newer = {**there["metadata"], "resourceVersion": "1000000"}
    bodies: dict[str, dict[str, Any] | str] = {
        "the old version": without,
        "no version": {**without, "metadata": {**newer, "resourceVersion": ""}},
        "another stream": {**without, "metadata": {**newer, "uid": "another"}},
        "the tags": {**there, "metadata": newer},
        "no stream": {"kind": "Status", "status": "Success"},
        "no JSON": "ok",
    }
    setting.images.inject(200, bodies[answer], {}, method="PUT", path=_PUT)
    assert await _pruned(setting, "status") == dict.fromkeys(["v1", "v2"], NOT_DELETED)
    assert setting.asked() == ["GET imagestreams/app", "PUT imagestreams/app/status", "GET imagestreams/app"]


async def test_a_stream_that_holds_still_after_a_while_is_updated_for_the_rest(setting: Setting) -> None:
    """Thousands of tags one by one would take two requests for each."""
    tags = [f"v{number:02}" for number in range(70)]
    setting.push(*tags)
    pushed: dict[str, str] = {}

    def push(_request: ApiRequest) -> None:
        if len(pushed) < 4:
            tag = f"new-{len(pushed)}"
            (pushed[tag],) = setting.push(tag)

    setting.images.on_request(push, method="PUT", path=_PUT)
    assert await _pruned(setting, "status") == dict.fromkeys(tags, PRUNED)
    assert setting.tags == pushed
    changes = [request.partition(" ")[0] for request in setting.asked("PUT", "DELETE")]
    assert changes == ["PUT"] * 4 + ["DELETE"] * 50 + ["PUT"]


async def test_a_managed_tag_goes_from_the_spec_too_where_the_rule_includes_it(setting: Setting) -> None:
    setting.images.import_tag(APPS, "app", "v-imported")
    setting.push("v1", "v2")
    setting.images.alias(APPS, "app", "v-alias", "v2")
    outcomes = await _pruned(setting, "status", _ALL_MANAGED)
    # An alias refers to v2, which is in use thereby.
    assert outcomes == {"v1": PRUNED, "v-imported": PRUNED, "v-alias": PRUNED}
    assert set(setting.tags) == {"v2"}
    assert sorted(setting.asked("DELETE")) == [
        "DELETE imagestreamtags/app:v-alias",
        "DELETE imagestreamtags/app:v-imported",
    ]
    assert setting.asked("PUT") == ["PUT imagestreams/app/status"]
    assert "tags" not in setting.images.stream(APPS, "app")["spec"]


@pytest.mark.parametrize("account", ["least", "status"])
async def test_a_managed_tag_stays_where_no_rule_includes_it(setting: Setting, account: str) -> None:
    setting.images.import_tag(APPS, "app", "v-imported")
    setting.push("v1")
    assert await _pruned(setting, account) == {"v1": PRUNED}
    assert set(setting.tags) == {"v-imported"}


async def test_nothing_is_updated_once_the_policy_no_longer_wants_it(setting: Setting) -> None:
    setting.push("v1", "v2")
    async with setting.opened("status") as registry:
        plan, deletion = await _planned(registry)
        setting.forget()
        with pytest.raises(InterruptedRunError):
            await clients.applied(registry, plan, deletion, _fails(0, InterruptedRunError("suspended")))
    assert setting.changes == []


# Without it


async def test_tags_are_looked_at_and_deleted_one_after_the_other_with_the_uid_of_their_stream(
    setting: Setting,
) -> None:
    setting.push("v1", "v2", "v3", "latest")
    setting.images.contention(seconds=0.02, at_once=1)
    uid = setting.images.stream(APPS, "app")["metadata"]["uid"]
    assert await _pruned(setting, "least") == dict.fromkeys(["v1", "v2", "v3"], PRUNED)
    asked = setting.asked()
    assert asked[-1] == "GET imagestreams/app"
    looks, deletions = asked[:-1:2], asked[1:-1:2]
    assert [look.removeprefix("GET ") for look in looks] == [each.removeprefix("DELETE ") for each in deletions]
    assert sorted(deletions) == [f"DELETE imagestreamtags/app:v{number}" for number in (1, 2, 3)]
    bodies = [request.document for request in setting.images.requests if request.method == "DELETE"]
    assert [body["preconditions"] for body in bodies] == [{"uid": uid}] * 3
    assert setting.images.most_deletions_at_once(APPS, "app") == 1
    assert set(setting.tags) == {"latest"}


async def test_a_tag_that_was_moved_is_not_deleted(setting: Setting) -> None:
    setting.push("v1", "v2")
    outcomes = await _pruned(setting, "least", meanwhile=lambda: setting.push("v1", seed="new"))
    assert outcomes == {"v1": MOVED, "v2": PRUNED}
    assert setting.asked("DELETE") == ["DELETE imagestreamtags/app:v2"]


async def test_a_tag_that_the_streams_spec_claims_meanwhile_is_not_deleted_with_its_claim(setting: Setting) -> None:
    setting.push("v1", "v2")
    digest = setting.tags["v1"]

    def claim() -> None:
        setting.images.alias(APPS, "app", "v1", "v1", source_stream="copy", source_namespace=APPS)

    setting.images.push_again(APPS, "copy", "v1", digest)
    assert await _pruned(setting, "least", meanwhile=claim) == {"v1": NOW_SHARED, "v2": PRUNED}
    assert setting.tags == {"v1": digest}


async def test_a_tag_is_proven_gone_though_a_push_brings_its_name_back(setting: Setting) -> None:
    setting.push("v1")
    _once(setting, lambda: setting.push("v1", seed="new"), "GET", _STREAM)
    assert await _pruned(setting, "least") == {"v1": PRUNED}
    assert set(setting.tags) == {"v1"}


async def test_a_stream_that_is_deleted_on_the_way_has_no_tags_left(setting: Setting) -> None:
    setting.push("v1", "v2", "v3")
    _once(setting, lambda: setting.images.delete_stream(APPS, "app"), "DELETE", _TAGS, nth=2)
    outcomes = await _pruned(setting, "least")
    assert Counter(outcomes.values()) == {PRUNED: 1, GONE: 2}


async def test_a_stream_that_is_made_anew_before_the_deletion_keeps_its_tag(setting: Setting) -> None:
    (same,) = setting.push("v1")

    def anew() -> None:
        setting.images.delete_stream(APPS, "app")
        assert setting.push("v1") == [same]

    _once(setting, anew, "DELETE", _TAGS)
    assert await _pruned(setting, "least") == {"v1": MOVED}
    assert setting.tags == {"v1": same}


async def test_a_tag_whose_image_object_is_gone_is_compared_with_the_stream_and_deleted(setting: Setting) -> None:
    lost, _ = setting.push("v1", "v2")
    setting.images.remove_image_object(lost)
    assert await _pruned(setting, "least") == {"v1": PRUNED, "v2": PRUNED}


async def test_a_tag_whose_image_object_is_gone_and_that_was_moved_stays(setting: Setting) -> None:
    setting.push("v1")

    def move() -> None:
        (new,) = setting.push("v1", seed="new")
        setting.images.remove_image_object(new)

    assert await _pruned(setting, "least", meanwhile=move) == {"v1": MOVED}
    assert set(setting.tags) == {"v1"}


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_deletion_that_cannot_be_made_now_is_made_after_another_look(setting: Setting, status: int) -> None:
    setting.push("v1")
    times: list[float] = []
    loop = asyncio.get_running_loop()
    setting.images.on_request(lambda _: times.append(loop.time()), method="GET", path=_TAGS)
    setting.images.inject(status, method="DELETE", path=_TAGS)
    assert await _pruned(setting, "least") == {"v1": PRUNED}
    tag = "imagestreamtags/app:v1"
    assert setting.asked() == [f"GET {tag}", f"DELETE {tag}"] * 2 + ["GET imagestreams/app"]
    # 429 says 1 s here and ServerTimeout 2 s, in retryAfterSeconds; 503 is text and says nothing.
    assert times[1] - times[0] >= {429: 1, 500: 2, 503: 0.4}[status]


async def test_a_tag_that_is_moved_while_its_deletion_waits_stays(setting: Setting) -> None:
    setting.push("v1")
    _once(setting, lambda: setting.push("v1", seed="new"), "GET", _TAGS, nth=2)
    setting.images.inject(500, method="DELETE", path=_TAGS)
    assert await _pruned(setting, "least") == {"v1": MOVED}
    assert set(setting.tags) == {"v1"}


async def test_a_deletion_that_never_gets_through_failed_with_the_servers_reason(setting: Setting) -> None:
    setting.push("v1", "v2")
    setting.images.inject(500, _server_timeout(0), {}, None, method="DELETE", path=".*:v1")
    assert await _pruned(setting, "least") == {"v1": (Outcome.FAILED, "ServerTimeout"), "v2": PRUNED}
    assert set(setting.tags) == {"v1"}


async def test_a_deletion_whose_answer_was_lost_is_seen_to_have_been_made(setting: Setting) -> None:
    setting.push("v1")
    setting.images.inject(503, method="DELETE", path=_TAGS, carried_out=True)
    assert await _pruned(setting, "least") == {"v1": PRUNED}
    assert len(setting.asked("DELETE")) == 1


async def test_a_deletion_that_had_no_effect_is_reported_and_not_believed(setting: Setting) -> None:
    setting.push("v1", "v2")
    success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    setting.images.inject(200, success, method="DELETE", path=".*:v1")
    assert await _pruned(setting, "least") == {"v1": NOT_DELETED, "v2": PRUNED}


async def test_what_cannot_be_proven_is_no_success_and_counts_as_nothing_lost(setting: Setting) -> None:
    setting.push("v1", "v2", "latest")
    async with setting.opened("links") as registry:
        plan, deletion = await _planned(registry)
        # One by one, as where the stream never holds still.
        setting.images.inject(409, times=4, method="PUT", path=_PUT)
        _once(setting, lambda: setting.images.inject(503, times=None, path=_STREAM), "DELETE", _TAGS, nth=2)
        outcomes = await clients.applied(registry, plan, deletion)
        assert {outcome for outcome, _ in outcomes.values()} == {Outcome.FAILED}
        assert all(code for _, code in outcomes.values())
        left = await registry.aftermath()
    assert left is not None
    assert left.unreferenced == 0
    assert _links_deleted(setting) == []


async def test_an_interruption_leaves_the_rest_and_tells_what_is_gone(setting: Setting) -> None:
    setting.push("v1", "v2", "v3", "v4")
    async with setting.opened("least") as registry:
        plan, deletion = await _planned(registry)
        setting.forget()
        told: list[ItemOutcome] = []

        async def prune() -> None:
            proceed = clients.asked(plan, _fails(2, InterruptedRunError("suspended")))
            async with aclosing(registry.prune(plan, deletion, proceed)) as outcomes:
                async for outcome in outcomes:
                    told.append(outcome)  # noqa: PERF401 - what came before the error counts

        with pytest.raises(InterruptedRunError):
            await prune()
    assert [item.outcome for item in told] == [Outcome.PRUNED] * 2
    assert set(setting.tags) == {"v1", "v2", "v3", "v4"} - {item.tag for item in told}
    assert len(setting.asked("DELETE")) == 2


async def test_a_tag_of_another_shape_ends_the_stream_with_an_error_that_a_run_can_tell(setting: Setting) -> None:
    setting.push("v1")
    setting.images.inject(200, {"kind": "ImageStreamTag", "image": None}, method="GET", path=_TAGS)
    with pytest.raises(OddAnswerError):
        await _pruned(setting, "least")
    assert set(setting.tags) == {"v1"}


def _server_timeout(seconds: int) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": "ServerTimeout",
        "details": {"name": "delete", "kind": "imagestreamtags", "retryAfterSeconds": seconds},
        "code": 500,
    }


# Whole runs


async def _run(
    setting: Setting,
    account: str,
    *include: str,
    plan_only: bool = False,
    audit: Audit | None = None,
    workloads: FixedUse | None = None,
    limits: Limits | None = None,
) -> RunReport:
    rule, repositories = builders.rule("v.*", most_recent=0), builders.selector(*(include or ("**",)))
    what = builders.policy(rule, repositories=repositories, limits=limits)
    connect = lambda: setting.opened(account, *include)  # noqa: E731 - a name says what it is
    world = World(
        FixedGuard(None),
        audit or RecordingAudit(),
        clients.SystemClock(),
        long_published(),
        workloads or FixedUse(),
        FixedRivals(),
        FixedClaims(),
    )
    return await Runner(what, connect, world).run(RunOrder("run", Trigger.REQUEST, plan_only, datetime.now(UTC)))


async def test_a_plan_by_push_time_asks_for_one_list_and_for_nothing_of_a_stream_or_tag(setting: Setting) -> None:
    names = _large(setting, streams=3)
    report = await _run(setting, "status", f"{APPS}/*", plan_only=True)
    assert (report.counts.repositories_scanned, report.counts.tags_planned) == (3, 570)
    assert [request.path for request in setting.images.requests] == [f"{_HERE}imagestreams"]
    assert all(len(setting.images.tags(APPS, name)) == 200 for name in names)


async def test_nearly_all_tags_of_large_streams_go_with_one_look_and_one_update_of_each(setting: Setting) -> None:
    names = _large(setting, streams=3)
    report = await _run(setting, "status", f"{APPS}/*", limits=_NO_LIMITS)
    assert (report.phase, report.counts.tags_pruned) == (Phase.SUCCEEDED, 570)
    for name in names:
        assert setting.asked(stream=name) == [f"GET imagestreams/{name}", f"PUT imagestreams/{name}/status"]
        assert setting.images.tags(APPS, name).keys() == _KEPT
    assert len(setting.images.requests) == 1 + 2 * 3


async def test_pushes_into_a_large_stream_cost_a_look_and_an_update_each_and_none_is_lost(setting: Setting) -> None:
    (name,) = _large(setting, streams=1)
    pushed: dict[str, str] = {}

    def push(_request: ApiRequest) -> None:
        if len(pushed) < 2:
            tag = f"new-{len(pushed)}"
            (pushed[tag],) = setting.push(tag, stream=name)

    setting.images.on_request(push, method="PUT", path=f".*/{name}/status")
    report = await _run(setting, "status", f"{APPS}/*", limits=_NO_LIMITS)
    assert (report.phase, report.counts.tags_pruned) == (Phase.SUCCEEDED, 190)
    assert setting.asked(stream=name) == [f"GET imagestreams/{name}", f"PUT imagestreams/{name}/status"] * 3
    there = setting.images.tags(APPS, name)
    assert there.keys() == _KEPT | pushed.keys()
    assert pushed.items() <= there.items()


def _large(setting: Setting, *, streams: int) -> list[str]:
    """Make streams of 190 tags that go and 10 that stay."""
    names = [f"large-{number}" for number in range(streams)]
    for name in names:
        setting.images.fill(APPS, name, 190)
        setting.images.fill(APPS, name, 10, name="kept-{}")
    setting.forget()
    return names


_KEPT = {f"kept-{number}" for number in range(10)}


@pytest.mark.parametrize("account", ["least", "status"])
async def test_a_run_prunes_several_streams_at_once_and_each_one_tag_at_a_time(setting: Setting, account: str) -> None:
    names = [f"app-{number}" for number in range(6)]
    for name in names:
        setting.push("v1", "v2", "v3", "latest", stream=name)
    meeting = threading.Barrier(3, timeout=10)
    first: set[str] = set()

    def meet(request: ApiRequest) -> None:
        # Only when three streams are being changed at the same time do they go on.
        stream = request.path.removeprefix(_HERE).split("/")[1].partition(":")[0]
        if len(first) < 3 and stream not in first:
            first.add(stream)
            meeting.wait()

    setting.images.on_request(meet, method="PUT|DELETE")
    setting.images.contention(seconds=0.01, at_once=1)
    audit = RecordingAudit()
    report = await _run(setting, account, f"{APPS}/*", audit=audit)
    assert (report.phase, report.counts.tags_pruned, report.counts.tags_kept) == (Phase.SUCCEEDED, 18, 6)
    ends = Counter((repository, outcome) for repository, _, outcome in audit.ends)
    assert ends == {(f"{APPS}/{name}", Outcome.PRUNED): 3 for name in names}
    assert not meeting.broken
    assert all(set(setting.images.tags(APPS, name)) == {"latest"} for name in names)
    if account == "least":
        assert {setting.images.most_deletions_at_once(APPS, name) for name in names} == {1}


async def test_everything_is_asked_as_the_policys_own_service_account(setting: Setting) -> None:
    setting.push("v1", "latest")
    setting.forget()
    assert (await _run(setting, "status", f"{APPS}/*")).phase is Phase.SUCCEEDED
    assert {request.user for request in setting.images.requests} == {f"system:serviceaccount:{APPS}:status"}


async def test_a_mark_that_nobody_can_read_keeps_its_stream_and_leaves_the_others_alone(setting: Setting) -> None:
    setting.push("v1", stream="bad")
    setting.push("v1", stream="good")
    setting.images.create_stream(APPS, "bad", annotations={"registrycleanup.dev/keep": "v1,["})
    report = await _run(setting, "status", f"{APPS}/*")
    assert report.phase is Phase.PARTIAL
    (failure,) = report.failures
    assert failure.repository == f"{APPS}/bad"
    assert "registrycleanup.dev/keep" in failure.message
    assert (list(setting.images.tags(APPS, "bad")), setting.images.tags(APPS, "good")) == (["v1"], {})


async def test_a_tag_that_another_stream_refers_to_is_in_use(setting: Setting) -> None:
    setting.push("v1", "v2", "v3")
    setting.images.alias(MORE, "copy", "mine", "v1", source_stream="app", source_namespace=APPS)
    report = await _run(setting, "everywhere", f"{APPS}/*")
    assert report.kept_by_reason == {"InUse": 1}
    assert set(setting.tags) == {"v1"}


# In use


def _runs(*digests: str, tags: Sequence[str] = ()) -> InUse:
    """Return what pods use that name the stream, and run these digests."""
    return InUse(
        frozenset(map(parse_digest, digests)),
        frozenset((APP, tag) for tag in tags),
        repositories={parse_digest(digest): frozenset({APP}) for digest in digests},
    )


def _runs_by_id(image_id: str) -> InUse:
    """Return what a pod uses that names the stream and runs a bare image ID, as CRI-O tells."""
    return InUse(frozenset({parse_digest(image_id)}), image_ids={parse_digest(image_id): frozenset({APP})})


async def test_a_tag_that_moved_stays_while_what_it_named_runs(setting: Setting) -> None:
    (before,) = setting.push("v1", seed="before")
    setting.push("v1", seed="after")
    setting.push("v2")
    assert await _pruned(setting, "least", in_use=_runs(before)) == {"v2": PRUNED}
    # All that has to be known of it is in the stream.
    assert not any("imagestreamimages" in request.path for request in setting.images.requests)


async def test_a_tag_whose_index_lists_what_runs_stays_though_it_moved_since(setting: Setting) -> None:
    child = setting.images.push(APPS, "app", None, seed="child")
    setting.images.push(APPS, "app", "v1", children=[child])
    setting.push("v1", seed="after")
    setting.push("v2")
    assert await _pruned(setting, "least", in_use=_runs(child)) == {"v2": PRUNED}
    assert set(setting.tags) == {"v1"}


async def test_an_image_that_runs_by_its_id_keeps_its_tag(setting: Setting) -> None:
    (image,) = setting.push("v1")
    child = setting.images.push(APPS, "app", None, seed="child")
    setting.images.push(APPS, "app", "v2", children=[child])
    setting.push("v3", "v4")
    for used, outcomes in ((child, {"v1", "v3", "v4"}), (image, {"v2", "v3", "v4"})):
        config = setting.images.store.contents[used].config_digest
        assert config is not None
        async with setting.opened("least") as registry:
            plan, _ = await _planned(registry, in_use=_runs_by_id(config))
        assert builders.pruned(plan) == outcomes
    assert await _pruned(setting, "least", in_use=_runs_by_id("sha256:" + "0" * 64)) == {}


async def test_without_the_right_to_read_images_a_stream_that_may_list_what_runs_is_kept(setting: Setting) -> None:
    setting.push("v1")
    report = await _run(setting, "status", f"{APPS}/*", workloads=FixedUse(_runs("sha256:" + "0" * 64)))
    assert (report.phase, report.counts.repositories_failed) == (Phase.FAILED, 1)
    assert set(setting.tags) == {"v1"}


@pytest.mark.parametrize("account", ["least", "status"])
async def test_what_a_pod_uses_since_the_plan_stays(setting: Setting, account: str) -> None:
    (before,) = setting.push("v1", seed="before")
    setting.push("v1", seed="after")
    (digest,) = setting.push("v2")
    setting.push("v3", "v4", "v5")
    since = _runs(before, digest, tags=["v3"])
    used = dict.fromkeys(["v1", "v2", "v3"], (Outcome.NOW_IN_USE, None))
    assert await _pruned(setting, account, since=since) == used | dict.fromkeys(["v4", "v5"], PRUNED)
    assert set(setting.tags) == {"v1", "v2", "v3"}


async def test_no_link_of_what_a_pod_runs_since_is_deleted(setting: Setting) -> None:
    used, gone = setting.push("v1", "v2")
    async with setting.opened("links") as registry:
        plan, deletion = await _planned(registry)
        running = UsedSince(plan, _runs(used))

        async def may_go(digest: Digest, tags: Collection[str]) -> bool:
            return bool(tags) or not running.saves(digest, tags)  # it starts once the tag is gone

        async with aclosing(registry.prune(plan, deletion, may_go)) as outcomes:
            assert [item.outcome async for item in outcomes] == [Outcome.PRUNED] * 2
    assert _links_deleted(setting) == [f"{APP}/manifests/{gone}"]


# The list


async def test_a_list_of_several_pages_is_whole(setting: Setting) -> None:
    _many(setting)
    async with setting.opened("least") as registry:
        assert len(await registry.repositories()) == 501
    lists = [request for request in setting.images.requests if request.path.endswith("/imagestreams")]
    assert [request.query.get("limit") for request in lists] == ["500", "500"]


@pytest.mark.parametrize("passes", [True, False])
async def test_a_list_that_breaks_off_is_asked_for_again_or_an_error_and_never_shorter(
    setting: Setting, *, passes: bool
) -> None:
    # Section 8: 503 is text/plain when the aggregated server is down.
    _many(setting)
    path = f"{_HERE}imagestreams"
    _once(setting, lambda: setting.images.inject(503, times=1 if passes else None, path=path), "GET", path)
    async with setting.opened("least") as registry:
        if passes:
            assert len(await registry.repositories()) == 501
        else:
            with pytest.raises(BusyError, match="503"):
                await registry.repositories()


async def test_a_list_that_became_too_old_is_an_error_at_once(setting: Setting) -> None:
    _many(setting)
    path = f"{_HERE}imagestreams"
    asked = _once(setting, lambda: setting.images.compact(), "GET", path, nth=2)
    async with setting.opened("least") as registry:
        with pytest.raises(ImageAPIError, match="start again") as caught:
            await registry.repositories()
    assert (caught.value.code, asked()) == ("Expired", 2)


async def test_a_run_whose_list_breaks_off_prunes_nothing(setting: Setting) -> None:
    _many(setting)
    path = f"{_HERE}imagestreams"
    _once(setting, lambda: setting.images.inject(503, times=None, path=path), "GET", path)
    report = await _run(setting, "status", f"{APPS}/*")
    assert (report.phase, report.plan) == (Phase.FAILED, None)
    assert setting.changes == []


def _many(setting: Setting) -> None:
    """Make one more stream than a page holds."""
    for number in range(500):
        setting.images.create_stream(APPS, f"stream-{number:03}")
    setting.push("v1")
    setting.forget()


async def test_a_wildcard_in_a_namespace_needs_the_whole_cluster_or_names(setting: Setting) -> None:
    setting.push("v1")
    for include in ("**", "*/app", "streams-*/app", "streams-app?/app"):
        async with setting.opened("status", include) as registry:
            with pytest.raises(MissingRightError) as caught:
                await registry.repositories()
        for words in ("list imagestreams in all namespaces", "write the namespaces out", f"{APPS}:status"):
            assert words in str(caught.value)
        assert caught.value.failure.mendable
    assert not any(request.path.endswith("/imagestreams") for request in setting.images.requests)


@pytest.mark.parametrize("account", ["least", "status"])
async def test_who_looks_sees_how_many_requests_for_image_streams_were_sent(setting: Setting, account: str) -> None:
    setting.push("v1", "v2")
    async with setting.opened(account) as registry:
        plan, deletion = await _planned(registry)
        setting.forget()
        sent = registry.requests
        await clients.applied(registry, plan, deletion)
        # Those of no access review, which the API server answers itself.
        assert 0 < len(setting.images.requests) <= registry.requests - sent
        assert setting.changes
        assert registry.requests - sent <= len(setting.images.requests) + 2


async def test_who_may_list_everywhere_sees_all_namespaces_in_one_list(setting: Setting) -> None:
    setting.push("v1")
    setting.images.push(MORE, "other", "v1")
    setting.forget()
    async with setting.opened("everywhere", "**") as registry:
        assert await registry.repositories() == [APP, f"{MORE}/other"]
    assert [request.path for request in setting.images.requests] == [f"{_API}imagestreams"]


async def test_who_may_not_see_a_namespace_is_told_which_right_it_lacks_and_how_to_grant_it(setting: Setting) -> None:
    setting.push("v1")
    setting.forget()
    async with setting.opened("least", APP, f"{MORE}/*") as registry:
        with pytest.raises(MissingRightError) as caught:
            await registry.repositories()
    message = str(caught.value)
    assert f"ServiceAccount {APPS}:least lacks: list imagestreams in namespace {MORE}; " in message
    command = f"kubectl create rolebinding registry-cleanup-{APPS}-least --clusterrole=registry-cleanup-image-tags"
    assert f"{command} --serviceaccount={APPS}:least -n {MORE}" in message
    assert setting.images.requests == []


# Rights


@pytest.mark.parametrize(
    ("account", "lacks"),
    [
        ("looks", ["get imagestreamtags", "delete imagestreamtags"]),
        # To update is not enough: what is managed, or never holds still, goes one by one.
        ("odd", ["get imagestreamtags", "delete imagestreamtags"]),
    ],
)
async def test_missing_rights_are_found_before_any_change(setting: Setting, account: str, lacks: list[str]) -> None:
    setting.push("v1", "latest")
    setting.forget()
    report = await _run(setting, account, f"{APPS}/*")
    assert report.phase is Phase.FAILED
    (failure,) = report.failures
    assert (failure.reason, failure.mendable) == ("DeletionForbidden", True)
    for right in lacks:
        assert f"{right} in namespace {APPS}" in failure.message
    assert f"--serviceaccount={APPS}:{account} -n {APPS}" in failure.message
    assert report.deletion is not None
    assert (report.deletion.deletion, report.deletion.detail) == (Deletion.FORBIDDEN, failure.message)
    assert report.plan is not None
    assert report.plan.deletions == 1
    assert setting.changes == []
    assert _links_deleted(setting) == []


async def test_the_dates_of_builds_need_a_right_that_is_asked_for_before_any_is_read(setting: Setting) -> None:
    setting.push("v1")
    setting.forget()
    async with setting.opened("status", tag_date=TagDate.CREATED) as registry:
        with pytest.raises(MissingRightError) as caught:
            await registry.deletion([APP])
    assert f"lacks: get imagestreamimages in namespace {APPS}; " in str(caught.value)
    assert f"--serviceaccount={APPS}:status -n {APPS}" in str(caught.value)
    assert setting.images.requests == []


@pytest.mark.parametrize(
    ("account", "words", "not_words"),
    [
        ("least", "image stream tags one by one", "links"),
        ("status", "all tags of an image stream in one update", "links"),
        ("links", "in one update, and manifest links at the registry", "one by one"),
        # Without seeing whether the Image object exists nothing may be deleted there (section 4).
        ("half", "all tags of an image stream in one update", "links"),
    ],
)
async def test_what_the_rights_allow_is_told(setting: Setting, account: str, words: str, not_words: str) -> None:
    async with setting.opened(account) as registry:
        support = await registry.deletion([APP])
    assert support.deletion is Deletion.BY_TAG
    assert words in (support.detail or "")
    assert not_words not in (support.detail or "")
    assert setting.images.requests == []


async def test_a_bad_token_is_an_error_that_a_person_has_to_mend(setting: Setting) -> None:
    async with setting.opened("least", as_client=setting.configuration("bad")) as registry:
        with pytest.raises(MissingRightError, match="does not accept") as caught:
            await registry.repositories()
    assert caught.value.failure.mendable


async def test_a_cluster_without_image_streams_is_recognised(setting: Setting) -> None:
    async with client.ApiClient(setting.configuration(setting.tokens["nobody"])) as api_client:
        api = ImageAPI(api_client, clients.free(4))
        assert await api.available()
        assert not await api.may(Right("get", "imagestreams", APPS))


# Manifest links


def _links_deleted(setting: Setting) -> list[str]:
    """Return what was deleted at the registry; only manifests, by digest, may be."""
    deleted = [request.path for request in setting.registry.requests if request.method == "DELETE"]
    assert all(path.startswith("/v2/") and "/manifests/sha256:" in path for path in deleted)
    return sorted(path.removeprefix("/v2/") for path in deleted)


def _only_ever_deleted_links(setting: Setting) -> bool:
    """Say whether the registry saw nothing but logins and deletions of manifests."""
    return all(
        request.path in {"/v2/", "/openshift/token"} or (request.method == "DELETE" and "/manifests/" in request.path)
        for request in setting.registry.requests
    )


async def test_links_go_once_no_history_of_the_stream_holds_the_digest(setting: Setting) -> None:
    going, shared = setting.push("v1", "v2")
    setting.images.push_again(APPS, "app", "latest", shared)
    (past,) = setting.push("v3")
    setting.images.push_again(APPS, "app", "kept", past)
    setting.push("kept", seed="newer")
    assert await _pruned(setting, "links") == dict.fromkeys(["v1", "v2", "v3"], PRUNED)
    assert _links_deleted(setting) == [f"{APP}/manifests/{going}"]
    links = {digest for repository, digest in setting.images.store.links if repository == APP}
    assert (going in links, shared in links, past in links) == (False, True, True)
    assert _only_ever_deleted_links(setting)


async def test_the_whole_history_of_a_tag_that_went_loses_its_links(setting: Setting) -> None:
    digests = [*setting.push("v1", seed="one"), *setting.push("v1", seed="two")]
    assert await _pruned(setting, "links") == {"v1": PRUNED}
    assert _links_deleted(setting) == sorted(f"{APP}/manifests/{digest}" for digest in digests)


async def test_no_link_goes_whose_image_object_is_gone(setting: Setting) -> None:
    # Section 4: the registry would not refuse a digest that is still referred to.
    lost, there = setting.push("v1", "v2")
    setting.images.remove_image_object(lost)
    assert await _pruned(setting, "links") == {"v1": PRUNED, "v2": PRUNED}
    assert _links_deleted(setting) == [f"{APP}/manifests/{there}"]


@pytest.mark.parametrize("account", ["least", "status", "half"])
async def test_without_the_rights_no_link_is_deleted(setting: Setting, account: str) -> None:
    setting.push("v1")
    assert await _pruned(setting, account) == {"v1": PRUNED}
    assert _links_deleted(setting) == []
    assert not any(request.path.startswith(f"{_API}images/") for request in setting.images.requests)


async def test_where_no_tag_went_no_link_goes_and_nothing_counts_as_unreferenced(setting: Setting) -> None:
    setting.push("v1", "latest", "other")
    async with setting.opened("links") as registry:
        plan, deletion = await _planned(registry)
        setting.push("v1", seed="new")
        setting.forget()
        assert await clients.applied(registry, plan, deletion) == {"v1": MOVED}
        left = await registry.aftermath()
    # The history still holds what the tag named before.
    assert left == Aftermath(0, Collector.UNKNOWN)
    assert setting.registry.requests == []


async def test_a_tag_that_was_only_moved_costs_no_other_tag_its_link_on_the_slow_way(setting: Setting) -> None:
    """Nothing is read again where nothing was deleted: that must not look like a stream without tags."""
    setting.images.import_tag(APPS, "app", "v-managed")
    setting.push("latest", "other")
    async with setting.opened("links") as registry:
        plan, deletion = await _planned(registry, what=_ALL_MANAGED)
        setting.images.import_tag(APPS, "app", "v-managed", seed="new")
        setting.forget()
        assert await clients.applied(registry, plan, deletion) == {"v-managed": MOVED}
        left = await registry.aftermath()
    assert left == Aftermath(0, Collector.UNKNOWN)
    assert setting.registry.requests == []


async def test_a_link_that_the_registry_keeps_is_no_failure_of_the_tag(setting: Setting) -> None:
    index_child = setting.images.push(APPS, "app", None, seed="child")
    setting.images.push(APPS, "app", "index", children=[index_child])
    setting.images.push_again(APPS, "app", "v1", index_child)
    assert await _pruned(setting, "links") == {"v1": PRUNED}
    # The registry refuses, since the index lists it.
    assert _links_deleted(setting) == [f"{APP}/manifests/{index_child}"]
    assert (APP, index_child) in setting.images.store.links


async def test_no_link_is_deleted_once_the_policy_no_longer_wants_it(setting: Setting) -> None:
    setting.push("v1", "v2")
    async with setting.opened("links") as registry:
        plan, deletion = await _planned(registry)
        with pytest.raises(InterruptedRunError):
            await clients.applied(registry, plan, deletion, _fails(2, InterruptedRunError("suspended")))
    assert setting.tags == {}
    assert _links_deleted(setting) == []


async def test_of_a_stream_that_is_gone_no_link_is_asked_for(setting: Setting) -> None:
    setting.push("v1", "v2")
    gone = lambda: setting.images.delete_stream(APPS, "app")  # noqa: E731 - a name says what happens
    assert await _pruned(setting, "links", meanwhile=gone) == {"v1": GONE, "v2": GONE}
    assert setting.registry.requests == []


async def test_an_imported_image_is_never_read_at_the_registry(setting: Setting) -> None:
    # Section 3: a HEAD already pulls it into local storage.
    setting.images.import_tag(APPS, "app", "v-imported")
    setting.push("v1")
    async with setting.opened("links", tag_date=TagDate.CREATED) as registry:
        plan, deletion = await _planned(registry, what=_ALL_MANAGED)
        assert len(await clients.applied(registry, plan, deletion)) >= 1
    assert setting.images.store.pulled_through == []
    assert _only_ever_deleted_links(setting)


# What is left to the cluster


async def test_images_that_lost_their_last_tag_are_counted_over_all_streams(setting: Setting) -> None:
    (both,) = setting.push("v1")
    setting.images.push_again(APPS, "other", "v1", both)
    (one,) = setting.push("v2")
    setting.images.push_again(APPS, "other", "latest", one)
    setting.push("v3")
    report = await _run(setting, "status", f"{APPS}/*")
    assert report.counts.tags_pruned == 4
    # `both` and that of v3; `one` is still the other stream's latest.
    assert report.aftermath == Aftermath(2, Collector.UNKNOWN)


async def test_an_image_that_another_repository_holds_is_not_counted(setting: Setting) -> None:
    (both,) = setting.push("v1")
    setting.images.push_again(APPS, "other", "latest", both)
    report = await _run(setting, "status", f"{APPS}/*")
    assert report.aftermath == Aftermath(0, Collector.UNKNOWN)


async def test_an_image_that_a_stream_beyond_the_policy_holds_is_not_counted(setting: Setting) -> None:
    (both,) = setting.push("v1")
    setting.images.push_again(APPS, "other", "latest", both)
    setting.push("v2")
    report = await _run(setting, "status", APP)
    assert (report.counts.tags_pruned, report.aftermath) == (2, Aftermath(1, Collector.UNKNOWN))


async def test_a_stream_beyond_the_policy_is_read_when_somebody_asks_for_it(setting: Setting) -> None:
    setting.push("v1")
    (other,) = setting.push("v1", stream="other")
    async with setting.opened("status", APP) as registry:
        assert await registry.repositories() == [APP, f"{APPS}/other"]
        setting.forget()
        inventory = await clients.resolved(registry, f"{APPS}/other")
    assert inventory.tags == {"v1": other}
    assert setting.asked(stream="other") == ["GET imagestreams/other"]


@pytest.fixture
def sees_pruners(setting: Setting) -> Iterator[Setting]:
    """Let the account `status` see ImagePruners, and leave none for other tests."""
    rule = ["--verb=get", "--resource=imagepruners.imageregistry.operator.openshift.io"]
    set_image_pruner(setting.plane)
    setting.plane.kubectl("create", "clusterrole", "see-image-pruners", *rule)
    to = ["--clusterrole=see-image-pruners", f"--serviceaccount={APPS}:status"]
    setting.plane.kubectl("create", "clusterrolebinding", "see-image-pruners", *to)
    question = ["auth", "can-i", "get", "imagepruners.imageregistry.operator.openshift.io"]
    user = f"--as=system:serviceaccount:{APPS}:status"
    wait_until(
        lambda: "yes" in setting.plane.kubectl(*question, user, check=False), 10, "the right to see ImagePruners"
    )
    yield setting
    for what in ("clusterrolebinding/see-image-pruners", "clusterrole/see-image-pruners"):
        setting.plane.kubectl("delete", what)
    setting.plane.kubectl("delete", "customresourcedefinition", "imagepruners.imageregistry.operator.openshift.io")


async def test_whether_the_cluster_collects_images_is_read_from_its_image_pruner(sees_pruners: Setting) -> None:
    found = {}
    name = "imagepruners.imageregistry.operator.openshift.io"
    async with sees_pruners.opened("status") as registry:
        for case in ("active", "unset", "suspended", "missing"):
            if case == "missing":
                sees_pruners.plane.kubectl("delete", name, "cluster")
            else:
                set_image_pruner(sees_pruners.plane, suspend={"active": False, "suspended": True, "unset": None}[case])
            left = await registry.aftermath()
            assert left is not None
            found[case] = left.collector
    async with sees_pruners.opened("least") as registry:
        left = await registry.aftermath()
        assert left is not None
        found["no right"] = left.collector
    assert found == {
        "active": Collector.ACTIVE,
        "unset": Collector.ACTIVE,
        "suspended": Collector.SUSPENDED,
        "missing": Collector.MISSING,
        "no right": Collector.UNKNOWN,
    }


# Dates


async def test_a_date_is_that_of_the_push_and_costs_no_request(setting: Setting) -> None:
    pushed = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    setting.push("v1", created=pushed)
    async with setting.opened("least") as registry:
        await registry.repositories()
        setting.forget()
        inventory = await clients.dated(registry, APP)
    assert inventory.pushed == {"v1": pushed}
    assert setting.images.requests == []


async def test_the_date_of_the_build_is_read_through_the_api_and_of_an_index_from_its_children(
    setting: Setting,
) -> None:
    old, new = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 6, 1, tzinfo=UTC)
    push = setting.images.push
    plain = push(APPS, "app", "v1", built=old)
    imported = setting.images.import_tag(APPS, "app", "v2", built=new)
    undated = push(APPS, "app", "v3", built=None)
    children = [push(APPS, "app", None, built=built, seed=f"child-{built}") for built in (old, new, None)]
    index = push(APPS, "app", "v4", children=children[:2])
    doubtful = push(APPS, "app", "v5", children=children)
    lost = push(APPS, "app", "v6", built=old)
    setting.images.remove_image_object(lost)
    (unasked,) = setting.push("unasked")
    async with setting.opened("least", tag_date=TagDate.CREATED) as registry:
        await registry.repositories()
        setting.forget()
        what = builders.policy(builders.rule("v.*", most_recent=0))
        inventory = await registry.inventory(APP, lambda tags: needs(what, APP, tags, DeletionUnit.TAG), {})
    assert inventory.pushed == {}
    assert {
        digest: manifest.created
        for digest, manifest in inventory.manifests.items()
        if digest in {plain, imported, undated, index, doubtful, lost}
    } == {plain: old, imported: new, undated: None, index: new, doubtful: None, lost: None}
    verdicts = builders.told(builders.planned(what, inventory, DeletionUnit.TAG, datetime.now(UTC)).verdicts)
    assert [verdicts[f"v{number}"] for number in (3, 5, 6)] == ["UnknownDate"] * 3
    assert verdicts["v2"] == "ManagedBySpec"
    # Which tag is whose business is known before any image is asked for.
    assert not any(unasked in request for request in setting.asked())
    assert {request.partition("/")[0] for request in setting.asked()} == {"GET imagestreamimages"}
    assert setting.images.store.pulled_through == []
    assert setting.registry.requests == []


async def test_no_image_is_asked_for_its_date_where_the_rule_keeps_as_many_as_it_owns(setting: Setting) -> None:
    setting.push("v1", "v2")
    what = builders.policy(builders.rule("v.*", most_recent=2))
    async with setting.opened("least", tag_date=TagDate.CREATED) as registry:
        await registry.repositories()
        setting.forget()
        inventory = await registry.inventory(APP, lambda tags: needs(what, APP, tags, DeletionUnit.TAG), {})
    assert setting.asked() == []
    verdicts = builders.planned(what, inventory, DeletionUnit.TAG, datetime.now(UTC)).verdicts
    assert builders.told(verdicts) == {"v1": "MostRecent", "v2": "MostRecent"}


async def test_an_image_that_cannot_be_read_fails_its_stream_and_is_not_taken_for_undated(setting: Setting) -> None:
    setting.push("v1")
    setting.images.inject(503, times=None, path=f"{_HERE}imagestreamimages/.*")
    async with setting.opened("least", tag_date=TagDate.CREATED) as registry:
        await registry.repositories()
        with pytest.raises(BusyError):
            await clients.dated(registry, APP)


# Explaining


@pytest.mark.parametrize("tag_date", [TagDate.AUTO, TagDate.CREATED])
async def test_a_tag_is_explained_from_its_stream_and_its_what_ifs_hold_there(
    setting: Setting, tag_date: TagDate
) -> None:
    now = datetime.now(UTC)
    long_ago, later = now - timedelta(days=41), now - timedelta(days=40)
    [oldest] = setting.push("v1", created=long_ago, built=long_ago)
    setting.push("v2", "v3", created=later, built=later)
    setting.images.push_again(APPS, "app", "same-as-v1", oldest, created=now - timedelta(days=39))
    policy = builders.policy(
        builders.rule("v.*", days=30, most_recent=2),
        repositories=builders.selector(f"{APPS}/*"),
        tag_date=tag_date,
    )
    order = RunOrder("a-run", Trigger.REQUEST, plan_only=True, start=now)
    closer = partial(closer_look, tags=["v1", "v3"])
    async with setting.opened("least", tag_date=tag_date) as streams:
        found = await examine(streams, clients.SystemClock(), policy, FixedUse(), FixedRivals(), order, APP, closer)
    assert found.planned is not None
    assert found.known is not None
    assert as_read(found.known).plan().verdicts == found.planned.plan().verdicts

    goes, stays = explain(found.planned, found.known, found.read, ["v1", "v3"])

    assert (goes.line["verdict"], stays.line["verdict"]) == ("Prune", "Keep")
    assert goes.age is not None
    assert goes.age.source == ("Pushed" if tag_date is TagDate.AUTO else "Created")
    assert goes.digest == oldest
    assert [other.tag for other in goes.siblings] == ["same-as-v1"]
    assert "It stays if 'v1' is added to spec.keepTags." in map(str, goes.what_ifs)
    assert any("newer image" in str(what_if) for what_if in stays.what_ifs)


# The token


class _Tokens(KubernetesAPI):
    """Gives one token after the other, and remembers how many were asked for."""

    def __init__(self, api_client: client.ApiClient, clock: clients.HandClock, host: str, *tokens: str) -> None:
        super().__init__(api_client)
        self._clock = clock
        self._host = host
        self._tokens = list(tokens)
        self.given = 0

    @override
    async def service_account_token(self, namespace: str, name: str, seconds: int) -> tuple[str, datetime]:
        self.given += 1
        return self._tokens.pop(0), self._clock.now() + timedelta(seconds=seconds)

    @override
    async def openshift_registry(self) -> RegistryHosts:
        return RegistryHosts(self._host)


@pytest.fixture
def as_default(setting: Setting) -> Iterator[None]:
    """Let the client's default be what the operator's own is: an address, a CA, and a credential not to be used."""
    before = client.Configuration.get_default_copy()
    client.Configuration.set_default(setting.configuration(setting.plane.admin_token))
    yield
    client.Configuration.set_default(before)


@pytest.mark.usefixtures("as_default")
async def test_a_token_is_renewed_in_a_long_run_and_the_operators_own_is_never_shown(setting: Setting) -> None:
    setting.push("v1", "v2", "v3")
    clock = clients.HandClock(datetime.now(UTC))
    spec = builders.minimal_spec() | {"registry": {"type": "OpenShift", "serviceAccountName": "least"}}
    async with client.ApiClient(setting.configuration()) as unused:
        # Two accounts stand for two tokens of one: who asks shows which token it was.
        source = _Tokens(unused, clock, setting.registry.host, setting.tokens["least"], setting.tokens["status"])
        credentials = PolicyCredentials(source, parse_policy(builders.resource(spec)), clock, [], "ops:operator")
        async with setting.opened("least", as_client=_as_policy(credentials)) as registry:
            plan, deletion = await _planned(registry)
            assert source.given == 1
            setting.forget()

            async def proceed() -> None:
                if len(setting.asked("DELETE")) == 1:
                    clock.move(timedelta(minutes=9))

            outcomes = await clients.applied(registry, plan, deletion, proceed)
    assert outcomes == dict.fromkeys(["v1", "v2", "v3"], PRUNED)
    users = [request.user.rpartition(":")[2] for request in setting.images.requests if request.method == "DELETE"]
    assert users == ["least", "status", "status"]
    assert source.given == 2


# Undo

_UNDO = Level("undo", {"imagestreammappings": ["create"]})
_SEE_IMAGES = Level("see-images", {"images": ["get"]}, cluster=True)


async def _undone(setting: Setting, account: str, copies: MemoryCopies, **how: Any) -> Undone:  # noqa: ANN401 - as UndoOrder
    async with setting.opened(account) as registry:
        return await undo(UndoOrder("uid", RUN, **how), registry, copies)


async def _pruned_with_copies(setting: Setting, account: str) -> MemoryCopies:
    copies = MemoryCopies()
    async with setting.opened(account) as registry:
        plan, deletion = await _planned(registry)
        keeping = RunCopies(copies, "uid", RUN)
        async with aclosing(registry.prune(plan, deletion, clients.asked(plan), keeping.keep)) as outcomes:
            async for outcome in outcomes:
                assert outcome.outcome is Outcome.PRUNED
                assert isinstance(outcome, ItemOutcome)
                keeping.note(plan.repository, outcome)
        await keeping.close()
    return copies


@pytest.fixture
def undoer(setting: Setting) -> str:
    """Return an account that may undo."""
    for level, *namespaces in ((LEAST, APPS), (STATUS, APPS), (_UNDO, APPS), (_SEE_IMAGES,)):
        grant(setting.plane, level, (APPS, "undoer"), *namespaces)
    setting.tokens["undoer"] = setting.plane.token_for_service_account(APPS, "undoer", 3600)
    return "undoer"


async def test_every_tag_names_again_what_it_named_and_its_history_is_told_to_be_lost(
    setting: Setting, undoer: str, tmp_path: Path
) -> None:
    setting.push("v1", "v2", "main")
    setting.push("v1", seed="newer")
    setting.images.push_again(APPS, "app", "v3", setting.tags["v2"])
    before = setting.tags
    copies = await _pruned_with_copies(setting, undoer)
    assert set(setting.tags) == {"main"}
    done = await _undone(setting, undoer, copies)
    assert done.whole, done.message
    assert "named before is lost" in done.message
    assert setting.tags == before
    (tmp_path / "ca.crt").write_text(setting.ca)
    grant(setting.plane, PULL, (APPS, undoer), APPS)
    crane = Crane(tmp_path / "crane", tmp_path / "ca.crt", {setting.registry.host: ("any", setting.tokens[undoer])})
    for tag, digest in before.items():
        assert crane.digest(f"{setting.registry.host}/{APP}:{tag}") == digest
    assert set(results(await _undone(setting, undoer, copies)).values()) == {"AlreadyThere"}


async def test_a_tag_whose_image_is_gone_does_not_come_back_and_makes_none(setting: Setting, undoer: str) -> None:
    first, _, _ = setting.push("v1", "v2", "main")
    copies = await _pruned_with_copies(setting, undoer)
    with setting.images.store.locked():
        del setting.images.store.images[first]
    done = await _undone(setting, undoer, copies)
    assert results(done) == {"v1": "Missing", "v2": "Restored"}
    assert first not in setting.images.store.images


async def test_a_tag_that_was_pushed_again_is_left_alone_unless_forced(setting: Setting, undoer: str) -> None:
    setting.push("v1", "main")
    before = setting.tags
    copies = await _pruned_with_copies(setting, undoer)
    setting.push("v1", seed="new")
    now = setting.tags
    assert results(await _undone(setting, undoer, copies)) == {"v1": "Refused"}
    assert results(await _undone(setting, undoer, copies, force=True, dry_run=True)) == {"v1": "Restored"}
    assert setting.tags == now
    assert results(await _undone(setting, undoer, copies, force=True)) == {"v1": "Restored"}
    assert setting.tags == before


async def test_who_may_not_undo_is_told_and_so_is_a_stream_that_is_gone(setting: Setting, undoer: str) -> None:
    setting.push("v1", "main")
    copies = await _pruned_with_copies(setting, undoer)
    refused = await _undone(setting, "status", copies)
    assert [(end.result.value, end.code) for end in refused.outcomes] == [("Failed", "Forbidden")]
    setting.images.delete_stream(APPS, "app")
    gone = await _undone(setting, undoer, copies)
    assert results(gone) == {"v1": "Failed"}


async def test_a_stream_of_which_no_copy_can_be_written_stays_as_it_is(setting: Setting, undoer: str) -> None:
    setting.push("v1", "main")
    before = setting.tags

    async def fails(_tags: object, _manifests: object) -> None:
        raise BusyError("no answer", "Busy")

    async with setting.opened(undoer) as registry:
        plan, deletion = await _planned(registry)
        async with aclosing(registry.prune(plan, deletion, clients.asked(plan), fails)) as outcomes:
            assert [(end.tag, end.outcome, end.code) async for end in outcomes] == [("v1", Outcome.NO_COPY, "Busy")]
    assert setting.tags == before


async def test_a_tag_that_is_pushed_while_an_undo_puts_others_back_is_left_alone(setting: Setting, undoer: str) -> None:
    setting.push("v1", "v2", "main")
    copies = await _pruned_with_copies(setting, undoer)
    new: list[str] = []
    first, second = results(await _undone(setting, undoer, copies, dry_run=True))
    _once(setting, lambda: new.extend(setting.push(second, seed="new")), "POST", f"{_HERE}imagestreammappings")
    done = await _undone(setting, undoer, copies)
    assert setting.tags[second] == new[0], done.message
    assert results(done) == {first: "Restored", second: "Refused"}


async def test_a_push_that_an_undo_overtakes_stands_behind_the_tag_and_is_told(setting: Setting, undoer: str) -> None:
    setting.push("v1", "main")
    copies = await _pruned_with_copies(setting, undoer)
    # Between the look and the mapping.
    _once(setting, lambda: setting.push("v1", seed="new"), "POST", f"{_HERE}imagestreammappings")
    done = await _undone(setting, undoer, copies)
    assert [(end.result.value, end.code) for end in done.outcomes] == [("Restored", "Overwrote")]
    assert "stands behind it" in done.outcomes[0].detail


async def test_an_imported_tag_names_again_where_it_was_imported_from(setting: Setting, undoer: str) -> None:
    setting.push("main")
    setting.images.import_tag(APPS, "app", "v1")

    def references() -> list[str]:
        tags = setting.images.stream(APPS, "app")["status"]["tags"]
        return [item["dockerImageReference"] for tag in tags if tag["tag"] == "v1" for item in tag["items"]]

    before = references()
    copies = MemoryCopies()
    async with setting.opened(undoer) as registry:
        plan, deletion = await _planned(registry, what=_ALL_MANAGED)
        keep = RunCopies(copies, "uid", RUN).keep
        async with aclosing(registry.prune(plan, deletion, clients.asked(plan), keep)) as outcomes:
            assert [outcome.outcome async for outcome in outcomes] == [Outcome.PRUNED]
    assert references() == []
    done = await _undone(setting, undoer, copies)
    assert references() == before
    # No right that a policy has brings back what the spec said: that is told, and how.
    assert [(end.result.value, end.code) for end in done.outcomes] == [("Restored", "ImportLost")]
    assert "oc import-image" in done.outcomes[0].detail
