"""Finding out what a registry can delete, without harm."""

from __future__ import annotations

import asyncio
import logging
import secrets

from registry_cleanup.domain.deletion import Deletion, DeletionSupport
from registry_cleanup.registry.client import RegistryClient
from registry_cleanup.registry.errors import (
    DeletionDisabledError,
    ReadOnlyError,
    RegistryError,
    ServerFaultError,
    UnreachableError,
)
from registry_cleanup.registry.transport import Answer

_log = logging.getLogger(__name__)

_TRIES = 3
_PAUSE = 0.2


async def probe(client: RegistryClient, repository: str) -> DeletionSupport:
    """Find out what the registry can delete, by asking it to delete what `repository` does not have.

    First a random digest: 405 says that deletion is off (Distribution 3.0 deletes tags even then, so the tag alone
    would not tell) or that the registry is read-only. Then a random tag: 404 says that tags can be deleted alone, 400
    (Distribution 2) that digests only can; anything else is no clear answer, and reckoned with as digests only
    (registries.md, 7). A registry that accepts either says so of what it does not do (OpenShift's, openshift.md).
    """
    digest, tag = f"sha256:{secrets.token_hex(32)}", f"registry-cleanup-probe-{secrets.token_hex(16)}"
    _log.info(
        "asking whether the registry deletes: DELETE of a random digest and tag that do not exist",
        extra={"repository": repository, "tag": tag, "digest": digest},
    )
    try:
        answer = await _asked(client, repository, digest)
        if answer.accepted:
            return _without_effect("digest", answer.status)
        answer = await _asked(client, repository, tag)
    except DeletionDisabledError:
        return DeletionSupport(Deletion.DISABLED)
    except ReadOnlyError:
        return DeletionSupport(Deletion.READ_ONLY)
    except RegistryError as error:
        # A credential that may not delete cannot ask, either: plan as carefully as for digests.
        return _unknown(error.code)
    if answer.accepted:
        return _without_effect("tag", answer.status)
    match answer.status, answer.code:
        case 404, "MANIFEST_UNKNOWN":
            return DeletionSupport(Deletion.BY_TAG)
        case 400, _:
            return DeletionSupport(Deletion.BY_DIGEST)
        case _, code:
            return _unknown(code)


async def _asked(client: RegistryClient, repository: str, reference: str) -> Answer:
    """Ask again where an answer was lost or put off: an unclear one would make a registry delete whole digests."""
    for _ in range(_TRIES - 1):
        try:
            return await client.delete(repository, reference)
        except (UnreachableError, ServerFaultError):  # what does not exist may be deleted twice
            await asyncio.sleep(_PAUSE)
    return await client.delete(repository, reference)


def _without_effect(kind: str, status: int) -> DeletionSupport:
    return DeletionSupport(
        Deletion.WITHOUT_EFFECT,
        f"the registry accepted ({status}) the deletion of a {kind} that it does not have, so its word proves nothing; "
        "only digests are reckoned with, and each deletion is verified; if they come to nothing, delete in the way "
        "that the registry's product has for it",
    )


def _unknown(code: str | None) -> DeletionSupport:
    _log.info("the registry does not say what it can delete", extra={"code": code})
    return DeletionSupport(
        Deletion.UNKNOWN,
        f"the registry answered {code} when it was asked to delete what it does not have, so only digests are reckoned "
        "with, and deletion is tried; if it is not allowed, grant the credential the right to delete",
    )
