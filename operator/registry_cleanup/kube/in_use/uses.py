"""Which images an object names: pure, from the API's documents to image strings, one reader for each kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

Document: TypeAlias = Mapping[str, Any]
"""An object of the API, as JSON has it."""

# A pod that has ended may be looked at, and its Job may be done again.
FINISHED_COUNTS_FOR = timedelta(hours=1)
_FINISHED = frozenset({"Succeeded", "Failed"})
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
_STATUSES = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
TRIGGERS_ANNOTATION = "image.openshift.io/triggers"
# Any host would do, since a tag protects by its repository's path; without one a namespace might be taken for a host.
STREAM_HOST = "image-registry.openshift-image-registry.svc:5000"


@dataclass(frozen=True, slots=True)
class Use:
    """An image that an object names.

    Attributes:
        text: as the object has it: a reference, or a bare image ID.
        beside: of what a container's status names, the images of the pod's spec: a bare image ID is in one of their
            repositories.
    """

    text: str
    beside: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Scope:
    """What counts.

    Attributes:
        now: aware.
        history: whether what only a rollback would use counts.
    """

    now: datetime
    history: bool = True


Reader: TypeAlias = Callable[[Document, Scope], Iterable[Use]]


def pod(document: Document, scope: Scope) -> Iterator[Use]:
    """Yield what a pod runs, unless it has finished more than an hour ago."""
    status = document.get("status") or {}
    if status.get("phase") in _FINISHED:
        finished = _finished(status)
        # Nobody can tell when: it counts.
        if finished is not None and scope.now - finished > FINISHED_COUNTS_FOR:
            return
    named = frozenset(_pod_spec(document.get("spec")))
    yield from map(Use, named)
    for container in _each(status, *_STATUSES):
        for text in (container.get("imageID"), container.get("image")):
            if text:
                yield Use(str(text), named)
        for mount in container.get("volumeMounts") or ():
            volume = (mount.get("volumeStatus") or {}).get("image") or {}
            if volume.get("imageRef"):
                yield Use(str(volume["imageRef"]), named)


def _finished(status: Document) -> datetime | None:
    """Return when the last of a pod's containers ended; of one that never had any, when its state last changed."""
    ends = [
        state["finishedAt"]
        for container in _each(status, *_STATUSES)
        if (state := (container.get("state") or {}).get("terminated") or {}).get("finishedAt")
    ]
    if not ends:
        ends = [each["lastTransitionTime"] for each in _each(status, "conditions") if each.get("lastTransitionTime")]
    moments = [moment for moment in map(_moment, ends) if moment is not None]
    return max(moments) if moments and len(moments) == len(ends) else None


def template(document: Document, _scope: Scope) -> Iterator[Use]:
    """Yield what the pods of a workload would run, and what a trigger would set there."""
    yield from map(Use, _pod_spec(_at(document, "spec", "template", "spec")))
    yield from _triggers(document)


def replica_set(document: Document, scope: Scope) -> Iterator[Use]:
    """Yield what a set of replicas runs; one that its Deployment has scaled down is history."""
    if scope.history or not _rolled(document, "Deployment"):
        yield from template(document, scope)


def replication_controller(document: Document, scope: Scope) -> Iterator[Use]:
    """Yield what a replication controller runs; one that its DeploymentConfig has scaled down is history."""
    if scope.history or not _rolled(document, "DeploymentConfig"):
        yield from template(document, scope)


def _rolled(document: Document, owner: str) -> bool:
    """Say whether an object is an earlier revision of its owner: that has one more with the present template."""
    owners = _at(document, "metadata", "ownerReferences") or ()
    replicas = _at(document, "spec", "replicas")
    return any(each.get("kind") == owner for each in owners) and replicas == 0


def cron_job(document: Document, _scope: Scope) -> Iterator[Use]:
    """Yield what a CronJob's jobs would run, suspended or not."""
    yield from map(Use, _pod_spec(_at(document, "spec", "jobTemplate", "spec", "template", "spec")))
    yield from _triggers(document)


def pod_template(document: Document, _scope: Scope) -> Iterator[Use]:
    """Yield what the pods of a PodTemplate would run."""
    yield from map(Use, _pod_spec(_at(document, "template", "spec")))


def controller_revision(document: Document, scope: Scope) -> Iterator[Use]:
    """Yield what a rollback of a StatefulSet or DaemonSet would run."""
    if scope.history:
        yield from map(Use, _pod_spec(_at(document, "data", "spec", "template", "spec")))


# OpenShift


def deployment_config(document: Document, scope: Scope) -> Iterator[Use]:
    """Yield what a DeploymentConfig runs, and what its triggers follow and last set."""
    yield from template(document, scope)
    for trigger in _each(document.get("spec") or {}, "triggers"):
        parameters = trigger.get("imageChangeParams") or {}
        yield from _streamed(parameters.get("from"), _namespace(document))
        if parameters.get("lastTriggeredImage"):
            yield Use(str(parameters["lastTriggeredImage"]))


def build(document: Document, _scope: Scope) -> Iterator[Use]:
    """Yield what a BuildConfig or Build is built from, and what it makes."""
    spec, status, namespace = document.get("spec") or {}, document.get("status") or {}, _namespace(document)
    for strategy in (spec.get("strategy") or {}).values():
        if isinstance(strategy, dict):
            yield from _streamed(strategy.get("from"), namespace)
    for source in _each(spec.get("source") or {}, "images"):
        yield from _streamed(source.get("from"), namespace)
    yield from _streamed((spec.get("output") or {}).get("to"), namespace)
    for trigger in _each(spec, "triggers"):
        change = trigger.get("imageChange") or {}
        yield from _streamed(change.get("from"), namespace)
        if change.get("lastTriggeredImageID"):
            yield Use(str(change["lastTriggeredImageID"]))
    for trigger in _each(status, "imageChangeTriggers"):
        if trigger.get("lastTriggeredImageID"):
            yield Use(str(trigger["lastTriggeredImageID"]))
    if output := status.get("outputDockerImageReference"):
        yield Use(str(output))
    if pushed := ((status.get("output") or {}).get("to") or {}).get("imageDigest"):
        yield Use(str(pushed))


def image_stream(document: Document, _scope: Scope) -> Iterator[Use]:
    """Yield what the tags of an image stream's spec refer to."""
    name = str(_at(document, "metadata", "name") or "")
    for tag in _each(document.get("spec") or {}, "tags"):
        yield from _streamed(tag.get("from"), _namespace(document), name)


def local_name(use: Use, namespace: str) -> Use | None:
    """Return what a name of one part may mean in a namespace that has image streams: the stream of this name.

    Streams with `lookupPolicy.local`, and workloads that ask for it by annotation, resolve names so.
    """
    if not namespace or "/" in use.text or use.text.startswith("sha256:"):
        return None
    return Use(f"{STREAM_HOST}/{namespace}/{use.text}")


def _triggers(document: Document) -> Iterator[Use]:
    """Yield what the annotation of image triggers follows; what cannot be read triggers nothing either."""
    text = (_at(document, "metadata", "annotations") or {}).get(TRIGGERS_ANNOTATION)
    if text is None:
        return
    try:
        triggers = json.loads(text)
    except ValueError:
        return
    for trigger in triggers if isinstance(triggers, list) else ():
        if isinstance(trigger, dict):
            yield from _streamed(trigger.get("from"), _namespace(document))


def _streamed(source: object, namespace: str, stream: str = "") -> Iterator[Use]:
    """Yield the image that an object reference of OpenShift means.

    Args:
        source: the reference.
        namespace: of the object that has it.
        stream: which a tag without a stream belongs to.
    """
    if not isinstance(source, dict) or not source.get("name"):
        return
    target, name = str(source.get("namespace") or namespace), str(source["name"])
    match source.get("kind"):
        case "ImageStreamTag":
            where, _, tag = name.rpartition(":")
            if where or stream:
                yield Use(f"{STREAM_HOST}/{target}/{where or stream}:{tag}")
            else:
                yield Use(f"{STREAM_HOST}/{target}/{tag}:latest")
        case "ImageStreamImage" | "ImageStream":
            yield Use(f"{STREAM_HOST}/{target}/{name}")
        case "DockerImage":
            yield Use(name)
        case _:
            return


def _pod_spec(spec: object) -> Iterator[str]:
    if not isinstance(spec, dict):
        return
    for container in _each(spec, *_CONTAINERS):
        if container.get("image"):
            yield str(container["image"])
    for volume in _each(spec, "volumes"):
        if reference := (volume.get("image") or {}).get("reference"):
            yield str(reference)


def _each(document: Document, *names: str) -> Iterator[Document]:
    for name in names:
        yield from document.get(name) or ()


def _at(document: Document, *way: str) -> Any:  # noqa: ANN401 - whatever the document has there
    found: Any = document
    for part in way:
        if not isinstance(found, dict):
            return None
        found = found.get(part)
    return found


def _namespace(document: Document) -> str:
    return str(_at(document, "metadata", "namespace") or "")


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
