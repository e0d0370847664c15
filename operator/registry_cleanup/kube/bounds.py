"""What keeps `status` within 16 KiB: messages of bounded length, and shorter lists where that is not enough."""

from __future__ import annotations

import json
from itertools import accumulate

from registry_cleanup.domain.run import Phase
from registry_cleanup.kube.status import PolicyStatus
from registry_cleanup.kube.undoable import few

MOST_BYTES = 16 * 1024
# Bytes of a message's JSON; the schema counts characters.
LONGEST_MESSAGE = 1024
# Of a run that is history.
LONGEST_PAST_MESSAGE = 160
# Of the last undo.
LONGEST_UNDO_MESSAGE = 320
# Of what is told of a run while it goes on, which is written without the rest.
_PROGRESS_BYTES = 768
# So many runs stay in the history before the sample is shortened.
_LEAST_HISTORY = 3


def short(message: str, longest: int = LONGEST_MESSAGE) -> str:
    """Return as much of `message` as takes at most `longest` bytes as JSON."""
    if _size(message) <= longest:
        return message
    sizes = accumulate(map(_size, message), initial=_size("…"))
    return message[: sum(size <= longest for size in sizes) - 1] + "…"


def fitted(status: PolicyStatus) -> PolicyStatus:
    """Return `status` with as much of its lists as fits: of the plan's, and of the history the latest runs.

    Only the longest names and messages together come near the bound; without these lists even those stay below it. No
    window of an undo is left out.
    """
    while (plan := status.plan) is not None and plan.top_repositories and _bytes(status) > MOST_BYTES:
        plan = plan.model_copy(update={"top_repositories": plan.top_repositories[:-1]})
        status = status.model_copy(update={"plan": plan})
    while len(status.history) > _LEAST_HISTORY and _bytes(status) > MOST_BYTES:
        status = status.model_copy(update={"history": status.history[:-1]})
    while (plan := status.plan) is not None and plan.sample and _bytes(status) > MOST_BYTES:
        plan = plan.model_copy(update={"sample": plan.sample[:-1]})
        status = status.model_copy(update={"plan": plan})
    while status.history and _bytes(status) > MOST_BYTES:
        status = status.model_copy(update={"history": status.history[:-1]})
    if (undo := status.undo) is not None and undo.former and _bytes(status) > MOST_BYTES:
        status = status.model_copy(update={"undo": undo.model_copy(update={"former": few(undo.former, 1)})})
    if (last := status.last_run) is not None and last.message is not None and _bytes(status) > MOST_BYTES:
        # Ready says the same.
        message = short(last.message, LONGEST_PAST_MESSAGE)
        status = status.model_copy(update={"last_run": last.model_copy(update={"message": message})})
    return status


def _bytes(status: PolicyStatus) -> int:
    room = 0
    if status.last_run is not None and status.last_run.phase is Phase.RUNNING:
        room = _PROGRESS_BYTES
        status = status.model_copy(update={"last_run": status.last_run.model_copy(update={"progress": None})})
    return room + len(json.dumps(status.as_json(), ensure_ascii=False, separators=(",", ":")).encode())


def _size(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode()) - len('""')
