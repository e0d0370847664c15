"""Which policy a command is about: one of a file, or one of the cluster."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from pydantic import ValidationError

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.files.policy_file import read_one
from registry_cleanup.cli.telling import tell
from registry_cleanup.cluster import default_namespace
from registry_cleanup.kube.api import APIError, ForbiddenError, KubernetesAPI, NotThereError
from registry_cleanup.kube.model import PolicySpec
from registry_cleanup.kube.spec import GROUP, KIND, PLURAL, InvalidSpecError, ParsedPolicy, parse_policy
from registry_cleanup.logins.options import ClusterOptions
from registry_cleanup.session import Cluster, Session

_RULE = f"{{apiGroups: [{GROUP}], resources: [{PLURAL}], verbs: [get]}}"
_WITH_A_FILE = "; name a file with -f to do without"
# As kubectl takes a name: bare, or after the kind in any of its spellings.
_KIND_AND_NAME = re.compile(
    rf"(?:(?:rcp|{KIND}|{PLURAL})(?:\.[a-z0-9.]+)?/)?([a-z0-9]([-a-z0-9.]*[a-z0-9])?)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy, and where it is from.

    Attributes:
        policy: parsed; with the UID of the resource of its name in the cluster, where there is one.
        where: it is from, for messages.
        resource: of its name in the cluster; None where there is none, or no cluster.
        spec: as it is written there.
        unreadable: whether the person may not read what has its name in the cluster, so that nobody knows.
    """

    policy: ParsedPolicy
    where: str
    resource: Mapping[str, Any] | None
    spec: Mapping[str, Any] = field(default_factory=dict)
    unreadable: bool = False


async def load(session: Session, filename: Path | None, name: str | None, cluster: ClusterOptions) -> Loaded:
    """Return the policy of a file, or without one the policy `name` of the cluster.

    Raises:
        CommandError: there is none, it is not meant, or it cannot be obeyed.
    """
    if filename is not None:
        return await _from_file(session, filename, name, cluster)
    if name is None:
        raise CommandError("name a policy of the cluster, or a file with -f", Exit.USAGE)
    namespace, name, resource = await from_cluster(session.cluster, name, cluster, otherwise=_WITH_A_FILE)
    where = f"policy {namespace}/{name}"
    return Loaded(_parsed(session, where, resource), where, resource, resource.get("spec") or {})


async def from_cluster(
    found: Cluster | None, name: str, options: ClusterOptions, *, otherwise: str = ""
) -> tuple[str, str, Mapping[str, Any]]:
    """Return namespace and name of the policy that a person calls `name`, and its resource.

    Raises:
        CommandError: there is none; where the cluster has no policies at all, `otherwise` goes without.
    """
    if found is None:
        raise CommandError(
            f"policy {name} is in a cluster, and there is none: name one with --kubeconfig", Exit.CLUSTER
        )
    if (match := _KIND_AND_NAME.fullmatch(name)) is None:
        raise CommandError(f"{name!r} is no name of a policy; write NAME or rcp/NAME", Exit.USAGE)
    name = match[1]
    namespace = options.namespace or default_namespace(options.kubeconfig, options.context)
    try:
        return namespace, name, (await found.api.policy(namespace, name)).body
    except NotThereError as error:
        raise CommandError(await _missing(found.api, namespace, name, otherwise), Exit.CLUSTER) from error
    except ForbiddenError as error:
        message = f"you may not read policies in namespace {namespace} ({error}); a role grants it with: {_RULE}"
        raise CommandError(message, Exit.CLUSTER) from error


async def _missing(api: KubernetesAPI, namespace: str, name: str, otherwise: str) -> str:
    """Return why the API server knows no such policy."""
    try:
        served = await api.lists_policies()
    except APIError:
        served = True  # nobody knows
    if not served:
        return (
            f"the cluster does not serve {PLURAL}.{GROUP}: the operator's CRD is not installed; docs/install.md says "
            f"how to install it with the operator{otherwise}"
        )
    return f"there is no policy {name} in namespace {namespace}; kubectl get rcp -A lists all of them"


async def _from_file(session: Session, filename: Path, name: str | None, cluster: ClusterOptions) -> Loaded:
    session.own_policy = True
    document = await asyncio.to_thread(read_one, filename, name, insecure=session.insecure)
    written = dict(document.body["metadata"])
    if cluster.namespace is not None and (own := written.get("namespace") or cluster.namespace) != cluster.namespace:
        message = f"the namespace of {document.file}, {own}, does not match -n {cluster.namespace}"
        raise CommandError(f"{message}: leave out one of them", Exit.USAGE)
    namespace = cluster.namespace or written.get("namespace") or "default"
    resource, unreadable = await _namesake(session, namespace, written["name"])
    # Of a policy that was read from a cluster, the file knows the UID, too.
    known = resource["metadata"] if resource is not None else written if written.get("namespace") == namespace else {}
    local = _own_uid(session, document.body, namespace, written["name"])
    metadata = {
        **written,
        "namespace": namespace,
        "uid": known.get("uid") or local,
        "generation": known.get("generation") or 1,
        # One that is not applied yet would be the youngest: an older one prunes where both select.
        "creationTimestamp": known.get("creationTimestamp") or session.clock.now().isoformat(),
    }
    policy = _parsed(session, document.file, {**document.body, "metadata": metadata})
    if resource is not None and (fields := _differing(document.body, resource)):
        told = f"{document.file} differs from policy {namespace}/{policy.name} of the cluster in {', '.join(fields)}"
        tell(f"Note: {told}; the file holds here")
    return Loaded(policy, document.file, resource, document.body.get("spec") or {}, unreadable)


def _own_uid(session: Session, body: Mapping[str, Any], namespace: str, name: str) -> str:
    """Return the UID of a policy that no cluster knows: the same each time, and so its plan has the same hash.

    Another one at another registry: what was published for that starts no grace period here.
    """
    cluster = "" if session.cluster is None else session.cluster.server
    registry = (body.get("spec") or {}).get("registry") or {}
    return str(uuid5(NAMESPACE_URL, f"{GROUP}/{namespace}/{name}@{registry.get('url') or cluster}"))


async def _namesake(session: Session, namespace: str, name: str) -> tuple[Mapping[str, Any] | None, bool]:
    """Return the resource that has the name of a policy of a file, and whether the person may not read it."""
    if session.cluster is None:
        return None, False
    try:
        return (await session.cluster.api.policy(namespace, name)).body, False
    except NotThereError:
        return None, False
    except ForbiddenError:
        told = f"you may not read policies in namespace {namespace}, so a policy {name} there cannot be compared"
        tell(f"Note: {told}, and the plan's hash may not be the operator's; needed: {_RULE}")
        return None, True


def _parsed(session: Session, where: str, body: Mapping[str, Any]) -> ParsedPolicy:
    """Return the policy of a resource, within the bounds of the settings; raise `CommandError` with all its errors."""
    try:
        return parse_policy(body, session.bounds)
    except InvalidSpecError as error:
        lines = "".join(f"\n  {path}: {message}" for path, message in error.errors)
        raise CommandError(f"{where} cannot be obeyed ({error.reason}):{lines}", Exit.USAGE) from error


def _differing(body: Mapping[str, Any], resource: Mapping[str, Any]) -> list[str]:
    """Return the fields in which two resources want something else, with the defaults that the API server writes."""
    try:
        file, cluster = (PolicySpec.model_validate(each.get("spec") or {}) for each in (body, resource))
    except ValidationError:
        return ["spec, which is invalid in the cluster"]
    return [
        f"spec.{field.alias or name}"
        for name, field in PolicySpec.model_fields.items()
        if getattr(file, name) != getattr(cluster, name)
    ]
