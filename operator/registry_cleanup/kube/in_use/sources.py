"""The kinds of object that name images: those that every cluster has, and OpenShift's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from registry_cleanup.domain.policy import ExtraReferences
from registry_cleanup.kube.in_use import uses
from registry_cleanup.kube.in_use.json_path import JSONPath
from registry_cleanup.kube.in_use.uses import Document, Reader, Scope, Use
from registry_cleanup.kube.raw import Kind


@dataclass(frozen=True, slots=True)
class Source:
    """A kind, and what its objects name.

    Attributes:
        kind: which.
        read: yields what one object names.
        only_history: whether it names nothing but what a rollback would use.
        extra: whether an administrator named it, so that the operator's own role does not cover it.
    """

    kind: Kind
    read: Reader
    only_history: bool = False
    extra: bool = False


PODS = Kind("v1", "Pod", "pods")
NAMESPACES = Kind("v1", "Namespace", "namespaces", namespaced=False)

BUILT_IN = (
    Source(PODS, uses.pod),
    Source(Kind("v1", "ReplicationController", "replicationcontrollers"), uses.replication_controller),
    Source(Kind("v1", "PodTemplate", "podtemplates"), uses.pod_template),
    Source(Kind("apps/v1", "Deployment", "deployments"), uses.template),
    Source(Kind("apps/v1", "StatefulSet", "statefulsets"), uses.template),
    Source(Kind("apps/v1", "DaemonSet", "daemonsets"), uses.template),
    Source(Kind("apps/v1", "ReplicaSet", "replicasets"), uses.replica_set),
    Source(Kind("apps/v1", "ControllerRevision", "controllerrevisions"), uses.controller_revision, only_history=True),
    Source(Kind("batch/v1", "Job", "jobs"), uses.template),
    Source(Kind("batch/v1", "CronJob", "cronjobs"), uses.cron_job),
)
"""Every cluster has these."""

IMAGE_STREAMS = Kind("image.openshift.io/v1", "ImageStream", "imagestreams")
OPENSHIFT = (
    Source(IMAGE_STREAMS, uses.image_stream),
    Source(Kind("apps.openshift.io/v1", "DeploymentConfig", "deploymentconfigs"), uses.deployment_config),
    Source(Kind("build.openshift.io/v1", "BuildConfig", "buildconfigs"), uses.build),
    Source(Kind("build.openshift.io/v1", "Build", "builds"), uses.build),
)
"""Clusters that discovery says to have them."""


@dataclass(slots=True)
class ExtraReader:
    """Reads what an administrator's path leads to, and remembers whether it ever led anywhere.

    Attributes:
        asked: what the administrator wrote.
        matched: whether the path led to a text in any object.
    """

    asked: ExtraReferences
    matched: bool = False
    _path: JSONPath = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Parse the path, which the policy's own parsing has accepted."""
        self._path = JSONPath.parse(self.asked.json_path)

    def __call__(self, document: Document, _scope: Scope) -> Iterator[Use]:
        """Yield what the path leads to in one object."""
        for text in self._path.texts(document):
            self.matched = True
            yield Use(text)


def idle_paths(readers: Iterable[ExtraReader]) -> list[str]:
    """Return what a person should know of paths that led nowhere."""
    return [
        f"inUse.extraReferencesFrom: {reader.asked.json_path} matches nothing in any {reader.asked.kind} of "
        f"{reader.asked.api_version}, mistyped?"
        for reader in readers
        if not reader.matched
    ]
