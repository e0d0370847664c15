"""How Flux and Argo CD read a resource: the rules of kstatus for kinds that it does not know, told anew."""

from enum import StrEnum
from typing import Any


class Health(StrEnum):
    """What kstatus makes of a resource."""

    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    CURRENT = "Current"
    TERMINATING = "Terminating"


def health(resource: dict[str, Any]) -> Health:
    """Return what the resource is, by its generation and by the conditions Reconciling, Stalled and Ready."""
    metadata, status = resource["metadata"], resource.get("status", {})
    if "deletionTimestamp" in metadata:
        return Health.TERMINATING
    if "observedGeneration" in status and status["observedGeneration"] != metadata["generation"]:
        return Health.IN_PROGRESS
    told = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    if told.get("Reconciling") == "True":
        return Health.IN_PROGRESS
    if told.get("Stalled") == "True":
        return Health.FAILED
    return Health.CURRENT if told.get("Ready", "True") == "True" else Health.IN_PROGRESS
