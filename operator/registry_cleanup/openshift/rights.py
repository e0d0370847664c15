"""What a policy's ServiceAccount may do with image streams: asked, never tried, and how to grant what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from registry_cleanup.openshift.api import ImageAPI, Right

# The least ClusterRole of manifests/openshift, which an administrator of a namespace can grant.
TAGS_ROLE = "registry-cleanup-image-tags"


@dataclass(frozen=True, slots=True)
class NamespaceRights:
    """How tags can be removed in one namespace.

    Attributes:
        status: many at once, by one update of a stream's status.
        tags: one by one.
        missing: what `tags` lacks.
    """

    status: bool
    tags: bool
    missing: tuple[Right, ...] = ()


async def namespace_rights(api: ImageAPI, namespace: str) -> NamespaceRights:
    """Ask what the ServiceAccount may do in `namespace`."""
    needed = [Right(verb, "imagestreamtags", namespace) for verb in ("get", "delete")]
    needed.append(Right("get", "imagestreams", namespace))
    missing = tuple([right for right in needed if not await api.may(right)])
    status = await api.may(Right("update", "imagestreams/status", namespace))
    return NamespaceRights(status, not missing, missing)


def explain(missing: Iterable[Right], account: str) -> str:
    """Say what is missing and how to grant it; `account` is `namespace:name`."""
    rights = list(missing)
    told = ", ".join(f"{right.verb} {right.resource} in namespace {right.namespace or '(all)'}" for right in rights[:4])
    more = f" and {len(rights) - 4} more" if len(rights) > 4 else ""
    namespaces = list(dict.fromkeys(right.namespace for right in rights))
    # A name of its own, since several ServiceAccounts may prune one namespace.
    grant = f"kubectl create rolebinding registry-cleanup-{account.replace(':', '-')} --clusterrole={TAGS_ROLE}"
    commands = "; ".join(f"{grant} --serviceaccount={account} -n {name}" for name in namespaces[:2] if name)
    likewise = f"; likewise in {len(namespaces) - 2} more namespaces" if len(namespaces) > 2 else ""
    return f"ServiceAccount {account} lacks: {told}{more}; grant it with: {commands}{likewise}"
