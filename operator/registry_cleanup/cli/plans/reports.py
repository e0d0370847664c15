"""The report of a policy's last run, read from the ConfigMap that its status names, with the person's rights."""

from __future__ import annotations

import asyncio
import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Any

from kubernetes.aio import client

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.domain.report import Line, read_report
from registry_cleanup.kube.api import ForbiddenError, KubernetesAPI, NotThereError
from registry_cleanup.kube.status import PolicyStatus, ReportRef

CONFIG_MAPS_RULE = '{apiGroups: [""], resources: [configmaps], verbs: [get]}'


async def report_lines(api: KubernetesAPI, resource: Mapping[str, Any], status: PolicyStatus) -> list[Line]:
    """Return the lines of the last report of a policy, the one of the run first.

    Raises:
        CommandError: there is none, it may not be read, or it is damaged or somebody else's.
    """
    metadata = resource["metadata"]
    namespace, policy = metadata["namespace"], f"policy {metadata['namespace']}/{metadata['name']}"
    reference = None if status.last_run is None else status.last_run.report_ref
    if reference is None:
        raise CommandError(f"there is no report of {policy}: {_why_none(status)}", Exit.HELD_BACK)
    again = f"the next run writes a new one: registry-cleanup request {metadata['name']} -n {namespace}"
    try:
        config_map = await api.config_map(namespace, reference.name)
    except NotThereError as error:
        message = f"ConfigMap {namespace}/{reference.name} with the report of {policy} is gone; {again}"
        raise CommandError(message, Exit.CLUSTER) from error
    except ForbiddenError as error:
        message = f"you may not read the report of {policy} ({error}); a role grants it with: {CONFIG_MAPS_RULE}"
        raise CommandError(message, Exit.CLUSTER) from error
    if not _owned(config_map, metadata["uid"]):
        message = f"ConfigMap {namespace}/{reference.name} is not that of {policy}, so it is no report of it; {again}"
        raise CommandError(message, Exit.CLUSTER)
    try:
        return await asyncio.to_thread(_lines, config_map, reference)
    except (binascii.Error, EOFError, KeyError, OSError, ValueError, zlib.error) as error:
        message = f"the report of {policy} in ConfigMap {namespace}/{reference.name} is damaged; {again}"
        raise CommandError(message, Exit.CLUSTER) from error


def _lines(config_map: client.V1ConfigMap, reference: ReportRef) -> list[Line]:
    content = base64.b64decode((config_map.binary_data or {})[reference.key], validate=True)
    lines: list[Line] = list(read_report(content))
    head, *rest = lines or [{}]
    if not all(isinstance(line, dict) for line in lines) or head.get("type") != "run":
        raise ValueError("does not begin with its run")
    if not all("type" in line and "repository" in line for line in rest):
        raise ValueError("has lines of no repository")
    return lines


def _owned(config_map: client.V1ConfigMap, uid: str) -> bool:
    owners = config_map.metadata.owner_references if config_map.metadata is not None else None
    return any(owner.uid == uid for owner in owners or ())


def _why_none(status: PolicyStatus) -> str:
    run = status.last_run
    if run is None:
        return "it has not run yet"
    if run.completion_time is None:
        return f"its first run, {run.id}, is under way"
    told = f": {run.message}" if run.message else ""
    return f"its last run, {run.id}, ended as {run.phase} without one{told}"
