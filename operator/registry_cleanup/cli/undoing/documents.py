"""An undo as a document for programs; docs/schemas/undo.schema.json describes it."""

from __future__ import annotations

from typing import Any

from registry_cleanup.domain.undoing import Undo, Undone, UndoOutcome


def as_document(namespace: str, name: str, done: Undone) -> dict[str, Any]:
    """Return what an undo of a run of the policy came to, as JSON has it."""
    document: dict[str, Any] = {
        "apiVersion": "cli.registrycleanup.dev/v1",
        "kind": "Undo",
        "policy": {"namespace": namespace, "name": name},
        "run": done.run,
        "dryRun": done.dry_run,
        "whole": done.whole,
        "historyLost": done.history_lost,
        "damagedParts": done.damaged,
        "unfinished": done.unfinished,
        "notKept": [*done.not_kept],
        "counts": {result.value[:1].lower() + result.value[1:]: done.count(result) for result in Undo},
        "message": done.message,
        "items": [_item(outcome) for outcome in done.outcomes],
    }
    if done.failure is not None:
        document["failure"] = {"reason": done.failure.reason, "message": done.failure.message}
    return document


def _item(outcome: UndoOutcome) -> dict[str, Any]:
    item = {
        "repository": outcome.repository,
        "tag": outcome.tag,
        "digest": outcome.digest,
        "result": outcome.result.value,
        "current": outcome.current if outcome.result is Undo.REFUSED else None,
        "missing": [*outcome.missing] or None,
        "code": outcome.code,
    }
    return {key: value for key, value in item.items() if value is not None}
