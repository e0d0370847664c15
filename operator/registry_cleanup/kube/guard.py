"""The last word before each deletion: is the policy still there, unchanged, and meant to prune?"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import override

from registry_cleanup.domain.run import Failure
from registry_cleanup.kube.api import APIError, KubernetesAPI, NotThereError, right_to_policies
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.ports import Clock, Guard, InterruptedRunError, Objection

_log = logging.getLogger(__name__)

# The design promises a look at least every 10 s; this leaves time for the look itself.
_LOOK_AFTER = timedelta(seconds=5)
_LOOK_LIMIT = timedelta(seconds=10)


class PolicyGuard(Guard):
    """Reads the policy again and again while a run goes on."""

    def __init__(
        self,
        api: KubernetesAPI,
        policy: ParsedPolicy,
        clock: Clock,
        halt: Objection,
        doubt: Callable[[], Awaitable[Failure | None]],
    ) -> None:
        """Guard the runs of `policy`.

        Args:
            api: to read it again.
            policy: as the run obeys it.
            clock: for the age of the last look.
            halt: says at once why a run must stop; asked before and after each look at the API.
            doubt: says why a run may only plan.
        """
        self._api = api
        self._policy = policy
        self._clock = clock
        self._halt = halt
        self._doubt = doubt
        self._seen: datetime | None = None
        self._offset: timedelta | None = None

    @override
    async def clock_offset(self) -> timedelta | None:
        await self.proceed()
        return self._offset

    @override
    async def doubt(self) -> Failure | None:
        return await self._doubt()

    @override
    async def proceed(self) -> None:
        self.unless_halted()
        now = self._clock.now()
        # A clock that was put back makes a look neither younger nor older: nobody knows.
        if self._seen is None or not timedelta(0) <= now - self._seen < _LOOK_AFTER:
            await self._look(now)
            self.unless_halted()  # the answer may have taken long, or this process may have slept

    @override
    def unless_halted(self) -> None:
        if (reason := self._halt()) is not None:
            raise InterruptedRunError(reason)

    async def _look(self, now: datetime) -> None:
        """Read the policy again."""
        try:
            read = await self._api.policy(self._policy.namespace, self._policy.name)
        except NotThereError as error:
            raise InterruptedRunError("the policy was deleted") from error
        except APIError as error:
            if self._seen is not None and timedelta(0) <= self._clock.now() - self._seen < _LOOK_LIMIT:
                return
            # At once: the run's end, and the status that tells of it, may have to wait for the API server.
            _log.warning(
                "the policy cannot be read, so nothing more is pruned",
                extra={"policy": f"{self._policy.namespace}/{self._policy.name}", "cause": str(error)},
            )
            message = f"the policy could not be read again, so it may have changed{right_to_policies(error)}"
            raise InterruptedRunError(message) from error
        self._seen = now
        self._offset = None if read.date is None else read.date - self._clock.now()
        if (reason := change(self._policy, read.body)) is not None:
            raise InterruptedRunError(reason)


def change(policy: ParsedPolicy, body: Mapping[str, Any]) -> str | None:
    """Return what speaks against going on with `policy`, given the resource as it is now."""
    metadata, spec = body["metadata"], body.get("spec") or {}
    if metadata["uid"] != policy.uid or metadata.get("deletionTimestamp") is not None:
        return "the policy was deleted"
    if spec.get("suspend"):
        return "the policy was suspended"
    if metadata["generation"] != policy.generation:
        return "the policy was changed"
    return None
