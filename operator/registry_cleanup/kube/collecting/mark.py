"""What stands on a frozen workload, as annotation and label."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from registry_cleanup.domain.collection import Mark, Strategy, Variable
from registry_cleanup.kube.spec import GROUP

MARK_ANNOTATION = f"{GROUP}/collection"
# So that frozen workloads can be listed, also those whose policy is gone.
MARK_LABEL = f"{GROUP}/collecting"
MARKED = f"{MARK_LABEL}=true"
# Whoever may change a workload can write a mark. What no collection has written is none: dates would overflow by it.
_MOST_REPLICAS = 2**31 - 1
_LONGEST = timedelta(days=36500)


class DamagedMarkError(ValueError):
    """A mark that nobody can restore from: somebody else wrote it, or changed it."""


def mark_text(mark: Mark) -> str:
    """Return the annotation's value."""
    variable = mark.variable
    return json.dumps(
        {
            "policy": mark.policy,
            "policyName": mark.policy_name,
            "collection": mark.id,
            "registry": mark.registry,
            "strategy": mark.strategy.value,
            "replicas": mark.replicas,
            "container": mark.container,
            "variable": None if variable is None else {"index": variable.index, "entry": json.loads(variable.entry)},
            "startTime": mark.start.isoformat(),
            "timeoutSeconds": int(mark.timeout.total_seconds()),
        },
        separators=(",", ":"),
    )


def parse_mark(text: str) -> Mark:
    """Return the mark that an annotation spells; raise `DamagedMarkError` where it is none."""
    try:
        read = json.loads(text)
        variable = read["variable"]
        start = datetime.fromisoformat(read["startTime"]).astimezone(UTC)
        return _plausible(
            Mark(
                policy=str(read["policy"]),
                policy_name=str(read["policyName"]),
                id=str(read["collection"]),
                registry=str(read["registry"]),
                strategy=Strategy(read["strategy"]),
                replicas=int(read["replicas"]),
                container=None if read["container"] is None else str(read["container"]),
                variable=None if variable is None else Variable(int(variable["index"]), json.dumps(variable["entry"])),
                start=start,
                timeout=timedelta(seconds=int(read["timeoutSeconds"])),
            )
        )
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise DamagedMarkError(f"the annotation {MARK_ANNOTATION} is damaged ({type(error).__name__})") from error


def mark_of(workload: dict[str, Any]) -> Mark | None:
    """Return the mark that a workload bears, if it bears one; raise `DamagedMarkError`."""
    text = (workload["metadata"].get("annotations") or {}).get(MARK_ANNOTATION)
    return None if text is None else parse_mark(str(text))


def _plausible(mark: Mark) -> Mark:
    """Return a mark that a collection may have written; raise `ValueError` or `OverflowError` where none did."""
    if not 0 < mark.replicas <= _MOST_REPLICAS or not timedelta(0) <= mark.timeout <= _LONGEST:
        raise ValueError("out of range")
    if (mark.container is None) is not (mark.strategy is Strategy.OFFLINE):
        raise ValueError("the container does not fit the strategy")
    _ = mark.deadline + _LONGEST
    return mark
