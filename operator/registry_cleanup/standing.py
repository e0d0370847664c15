"""What a policy has come to: its status, which is remembered here and published as a whole."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from registry_cleanup.domain.course import Progress
from registry_cleanup.domain.run import Conflict
from registry_cleanup.kube.api import APIError, ForbiddenError, KubernetesAPI, NotThereError
from registry_cleanup.kube.figures import spec_figures, status_figures
from registry_cleanup.kube.status import PolicyStatus, parse_status
from registry_cleanup.kube.writer import StatusWriter
from registry_cleanup.ports import Clock
from registry_cleanup.telemetry import PolicyCollector

_log = logging.getLogger(__name__)

# Each try takes minutes by itself where the API server gives no answer.
_AGAIN_AFTER = 30.0

Notify = Callable[[Mapping[str, Any], bool, str, str], None]
"""Posts an Event about a resource: whether it is a warning, its reason, and what it says."""


class Standing:
    """The status of one policy. What the resource said of it is read once, in the beginning.

    Attributes:
        mute: whether the operator may not write it: then nobody would learn what a run did.
    """

    def __init__(
        self,
        api: KubernetesAPI,
        clock: Clock,
        body: Mapping[str, Any],
        gone: Callable[[], None],
        metrics: PolicyCollector,
        *,
        again_after: float = _AGAIN_AFTER,
    ) -> None:
        """Begin with what `body` says.

        Args:
            api: with the operator's own rights.
            clock: of the operator.
            body: the resource, as the first event shows it.
            gone: is called where the policy turns out to be deleted.
            metrics: show what the policy has come to, from now on until it is deleted.
            again_after: seconds after which a status that could not be published is tried again.
        """
        self._again_after = again_after
        self._again: asyncio.Task[None] | None = None
        metadata = body["metadata"]
        self._body = _kept(body)
        self._series = metrics.open(metadata["namespace"], metadata["name"], spec_figures(body, clock.now()))
        self._resting = b"{}"
        self._status: PolicyStatus | None = None
        self.status = parse_status(body.get("status"))
        self.mute = False
        self._api = api
        self._clock = clock
        self._gone = gone
        self._publishing = asyncio.Lock()
        self._conflicts: dict[str, Conflict] = {}
        self._news: dict[str, Conflict | None] = {}
        self._telling: set[asyncio.Task[bool]] = set()
        known = self.status.condition("PolicyConflict")
        self._inherited = known is not None and known.status != "False"

    @property
    def body(self) -> Mapping[str, Any]:
        """The resource, as the last event showed it."""
        return self._body

    @body.setter
    def body(self, body: Mapping[str, Any]) -> None:
        if body["metadata"]["generation"] != self._body["metadata"]["generation"]:
            self._series.spec(spec_figures(body, self._clock.now()))
        self._body = _kept(body)

    @property
    def status(self) -> PolicyStatus:
        """The status as it is now."""
        if self._status is None:
            self._status = parse_status(json.loads(self._resting))
        return self._status

    @status.setter
    def status(self, status: PolicyStatus) -> None:
        self._status = status
        self._series.status(status_figures(status))

    def rest(self) -> None:
        """Hold the status as text until it is asked for: as objects, those of a thousand policies take 25 MiB."""
        if self._status is not None:
            self._resting, self._status = json.dumps(self._status.as_json()).encode(), None

    def leave(self) -> None:
        """Take note that the policy was deleted: metrics show it no more."""
        self._series.close()

    @property
    def name(self) -> str:
        """Namespace and name."""
        return f"{self.body['metadata']['namespace']}/{self.body['metadata']['name']}"

    def writer(self, generation: int | None = None, status: PolicyStatus | None = None) -> StatusWriter:
        """Return what writes the next status after `status`, by default the last, of the present generation or this."""
        metadata = self.body["metadata"]
        observed = metadata["generation"] if generation is None else generation
        return StatusWriter(status or self.status, metadata["namespace"], metadata["name"], observed, self._clock.now())

    async def write(self, status: PolicyStatus) -> bool:
        """Remember and publish `status`; say whether it is news.

        What cannot be published is in the log, and is published as soon as that works: a result is never lost.
        """
        if status == self.status:
            return False
        self.status = status
        return await self._publish()

    async def show(self, run: str, progress: Progress) -> None:
        """Show where the run `run` is, if status says that it is under way; what cannot be published is left out.

        It waits for no other status, and none waits for it: the API server takes it only for a run that goes on.
        """
        status = self.writer(self.status.observed_generation).progressing(run, progress)
        if status is None or status.last_run is None or status.last_run.progress is None:
            return
        self.status = status
        metadata = self.body["metadata"]
        try:
            await self._api.show_progress(
                metadata["namespace"], metadata["name"], metadata["uid"], run, status.last_run.progress.as_json()
            )
        except APIError as error:
            _log.debug("the progress could not be shown", extra={"policy": self.name, "cause": str(error)})

    # Conflicts: found by this policy's own runs and by those of others, and told at once, be there a run or not

    @property
    def conflicts_inherited(self) -> bool:
        """Whether the status tells of conflicts that an operator before this one found."""
        return self._inherited

    @property
    def conflicts(self) -> Sequence[Conflict]:
        """What is known now, by the names of the other policies."""
        return sorted(self._conflicts.values(), key=lambda conflict: (conflict.namespace, conflict.name))

    def run_begins(self) -> None:
        """Take note that a run looks for conflicts: what others tell from now on is newer than what it finds."""
        self._news = {}

    def conflicts_found(self, status: PolicyStatus, generation: int, found: Sequence[Conflict]) -> PolicyStatus:
        """Return `status` with the conflicts that a run or a look found, and what others told since it began."""
        self._inherited = False
        conflicts: dict[str, Conflict | None] = {conflict.uid: conflict for conflict in found}
        conflicts |= self._news
        self._conflicts = {uid: conflict for uid, conflict in conflicts.items() if conflict is not None}
        return self.writer(generation, status).conflict(self.conflicts)

    def tell(self, conflict: Conflict) -> None:
        """Take note of a conflict that another policy found."""
        self._news[conflict.uid] = conflict
        if self._conflicts.get(conflict.uid) != conflict:
            self._conflicts[conflict.uid] = conflict
            self._publish_conflicts()

    def forget(self, uid: str) -> None:
        """Take note that there is no conflict with the policy `uid` any more."""
        self._news[uid] = None
        if self._conflicts.pop(uid, None) is not None:
            self._publish_conflicts()

    async def settle(self) -> None:
        """Wait until all that was told is published; what could not be published is left to the log."""
        if self._again is not None:
            self._again.cancel()
        await asyncio.gather(*self._telling)

    def _publish_conflicts(self) -> None:
        # A run may be under way, for hours; nobody waits for its end to be told.
        status = self.writer(self.status.observed_generation).conflict(self.conflicts)
        if status == self.status:
            return
        self.status = status
        task = asyncio.create_task(self._publish(), name=f"conflicts of {self.name}")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _publish(self) -> bool:
        """Publish the status as it is when its turn comes; say whether the policy still is."""
        metadata = self.body["metadata"]
        try:
            async with self._publishing:
                await self._api.replace_status(
                    metadata["namespace"], metadata["name"], metadata["uid"], self.status.as_json()
                )
            self.mute = False
            self._forget_again()
        except APIError as error:
            self.mute = isinstance(error, ForbiddenError)
            if isinstance(error, NotThereError) and await self._is_gone():
                self.leave()
                self._gone()  # while nobody watched: no event will ever tell
                return False
            _log.warning(
                "the status could not be written",
                extra={"policy": self.name, "cause": str(error), "status": self.status.as_json()},
            )
            if not isinstance(error, NotThereError) and self._again is None:
                self._again = asyncio.create_task(self._publish_again(), name=f"status of {self.name}")
        return True

    def _forget_again(self) -> None:
        """Publish nothing once more: it is published."""
        if self._again is not None and self._again is not asyncio.current_task():
            self._again.cancel()
        self._again = None

    async def _publish_again(self) -> None:
        """Publish what the status is by then, after a while."""
        while self._again is not None:
            await asyncio.sleep(self._again_after)
            await self._publish()

    async def _is_gone(self) -> bool:
        metadata = self.body["metadata"]
        try:
            read = await self._api.policy(metadata["namespace"], metadata["name"])
        except NotThereError:
            return True
        except APIError:
            return False
        return bool(read.body["metadata"]["uid"] != metadata["uid"])


def _kept(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is needed of a resource from then on: of a thousand policies, the rest would take 100 MiB."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return {**{key: value for key, value in body.items() if key != "status"}, "metadata": metadata}
