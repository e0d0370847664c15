"""What an account may do with image streams: asked, never tried, and how to grant what is missing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from registry_cleanup.openshift.api import ImageAPI, Right

# The least ClusterRole of manifests/openshift, which an administrator of a namespace can grant.
TAGS_ROLE = "registry-cleanup-image-tags"
_ACCOUNTS = "system:serviceaccount:"
_UNFIT = re.compile(r"[^a-z0-9.-]+")


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


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose rights hold.

    Attributes:
        told: kind and name, for messages.
        short: the same where its name is clear.
        flag: how kubectl's commands name it.
        slug: its name, as part of that of an object.
    """

    told: str
    short: str
    flag: str
    slug: str

    @classmethod
    def service_account(cls, account: str) -> Subject:
        """Return the ServiceAccount `namespace:name`."""
        flag = f"--serviceaccount={account}"
        return cls(f"ServiceAccount {account}", "the ServiceAccount", flag, account.replace(":", "-"))

    @classmethod
    def user(cls, name: str | None) -> Subject:
        """Return a user as the API server names it, who may be a ServiceAccount; None for one that nobody knows."""
        if name is not None and name.startswith(_ACCOUNTS):
            return cls.service_account(name.removeprefix(_ACCOUNTS))
        known = name or "YOUR-USER-NAME"
        slug = _UNFIT.sub("-", known.lower()).strip("-")
        return cls(f"user {name}" if name else "your user", "you", f"--user={shlex.quote(known)}", slug)


async def namespace_rights(api: ImageAPI, namespace: str) -> NamespaceRights:
    """Ask what the ServiceAccount may do in `namespace`."""
    needed = [Right(verb, "imagestreamtags", namespace) for verb in ("get", "delete")]
    needed.append(Right("get", "imagestreams", namespace))
    missing = tuple([right for right in needed if not await api.may(right)])
    status = await api.may(Right("update", "imagestreams/status", namespace))
    return NamespaceRights(status, not missing, missing)


def explain(missing: Iterable[Right], account: Subject) -> str:
    """Say what `account` lacks and how to grant it."""
    rights = list(missing)
    told = ", ".join(f"{right.verb} {right.resource} in namespace {right.namespace or '(all)'}" for right in rights[:4])
    more = f" and {len(rights) - 4} more" if len(rights) > 4 else ""
    namespaces = list(dict.fromkeys(right.namespace for right in rights))
    # A name of its own, since several ServiceAccounts may prune one namespace.
    grant = f"kubectl create rolebinding registry-cleanup-{account.slug} --clusterrole={TAGS_ROLE}"
    commands = "; ".join(f"{grant} {account.flag} -n {name}" for name in namespaces[:2] if name)
    likewise = f"; likewise in {len(namespaces) - 2} more namespaces" if len(namespaces) > 2 else ""
    return f"{account.told} lacks: {told}{more}; grant it with: {commands}{likewise}"
