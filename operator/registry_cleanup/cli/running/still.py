"""Whether a policy that a person runs is still to prune: its file is as it was, and no operator prunes by it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from registry_cleanup.kube.api import APIError, KubernetesAPI, NotThereError
from registry_cleanup.ports import Clock, InterruptedRunError

# The design promises a look at least every 10 s; this leaves time for the look itself.
_LOOK_AFTER = timedelta(seconds=5)
_LOOK_LIMIT = timedelta(seconds=10)
STDIN = Path("-")


class PolicyFile:
    """The file of a policy, as it was when this was made: before it was read, so that no change is missed."""

    def __init__(self, file: Path) -> None:
        """Look at `file`, which may be `-`: that does not change any more."""
        self._file = file
        self._before = _content(file)

    def change(self) -> str | None:
        """Return what became of the file; None where it says what it said."""
        now = _content(self._file)
        if now == self._before:
            return None
        return f"{self._file} was changed" if now is not None else f"{self._file} cannot be read any more"


class StillWanted:
    """Looks again and again, while a run goes on, at the policy's file and at the policy of its name in the cluster."""

    def __init__(self, file: PolicyFile, api: KubernetesAPI | None, namespace: str, name: str, clock: Clock) -> None:
        """Look at `file`, and at the policy `namespace/name` where there is a cluster (`api`)."""
        self._file = file
        self._api = api
        self._namespace = namespace
        self._name = name
        self._clock = clock
        self._seen: datetime | None = None

    async def __call__(self) -> None:
        """Raise `InterruptedRunError` where the run must stop."""
        if (change := await asyncio.to_thread(self._file.change)) is not None:
            raise InterruptedRunError(change)
        now = self._clock.now()
        if self._api is None or (self._seen is not None and timedelta(0) <= now - self._seen < _LOOK_AFTER):
            return
        try:
            body: Mapping[str, Any] | None = (await self._api.policy(self._namespace, self._name)).body
        except NotThereError:
            body = None
        except APIError as error:
            if self._seen is not None and timedelta(0) <= self._clock.now() - self._seen < _LOOK_LIMIT:
                return
            message = f"the cluster could not be asked whether its operator prunes by this policy ({error})"
            raise InterruptedRunError(message) from error
        self._seen = now
        if body is not None and is_live(body):
            raise InterruptedRunError("the policy became live in the cluster, whose operator prunes by it now")


def is_live(resource: Mapping[str, Any]) -> bool:
    """Say whether the operator prunes by this resource, as far as it says."""
    spec = resource.get("spec") or {}
    return spec.get("dryRun", True) is not True and not spec.get("suspend")


def _content(file: Path) -> bytes | None:
    if file == STDIN:
        return b""
    try:
        return hashlib.sha256(file.read_bytes()).digest()
    except OSError:
        return None
