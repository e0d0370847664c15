"""Where a policy's published plan and its last report outlive the operator: ConfigMaps that the policy owns."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import zlib
from collections.abc import Sequence

from kubernetes.aio import client
from typing_extensions import override

from registry_cleanup.domain.published import DamagedError, Protected, Published, decode, encode, nothing_published
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.report import MOST_BYTES
from registry_cleanup.domain.run import Failure, ReportReference
from registry_cleanup.kube.api import KubernetesAPI
from registry_cleanup.kube.config_maps import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    PART_BYTES,
    PLANS_RULE,
    POLICY_LABEL,
    RETRY_FOR,
    OwnedConfigMaps,
    binary,
)
from registry_cleanup.ports import PlanStore, RunError

__all__ = ["MANAGED_BY", "MANAGED_BY_LABEL", "PART_BYTES", "PLANS_RULE", "POLICY_LABEL", "ConfigMapPlans"]

REPORT_KEY = "report.ndjson.gz"
_PART_KEY = "plan"
# The first part says how many there are, and what all of them together must be.
_PARTS_KEY, _CHECKSUM_KEY = "parts", "sha256"
# Some 60,000 tags fit into a part, so some four million; a number that is larger was not written by us.
_MOST_PARTS = 64
_MOST_UNPACKED = 64 * 1024 * 1024
_UNDONE_KEY, _INTENT_KEY = "undone", "intent"

_log = logging.getLogger(__name__)


class ConfigMapPlans(PlanStore):
    """Keeps the plan in ConfigMaps of its policy, so that one policy never reads another's."""

    def __init__(
        self,
        api: KubernetesAPI,
        namespace: str,
        policy: str,
        uid: str,
        service_account: str,
        *,
        intent: str = "",
        retry_for: float = RETRY_FOR,
    ) -> None:
        """Keep the plans of `policy`; what was put back stays for this `intent`. For the rest see `OwnedConfigMaps`."""
        self._maps = OwnedConfigMaps(api, namespace, policy, uid, service_account, retry_for=retry_for)
        self._who = f"{namespace}/{policy}"
        self._uid = uid
        self._intent = intent

    @override
    async def load(self) -> Published:
        try:
            async with self._maps.explained():
                compressed = await self._read()
            if compressed is None:
                return nothing_published(self._uid)
            return await asyncio.to_thread(_unpacked, self._uid, compressed)
        except DamagedError as error:
            _log.warning(
                "the published plan is damaged, so every item of it is new: its grace period starts again",
                extra={"policy": self._who, "cause": str(error)},
            )
            return nothing_published(self._uid)

    @override
    async def save(self, published: Published) -> None:
        content = await asyncio.to_thread(_packed, published)
        parts = [content[start : start + PART_BYTES] for start in range(0, len(content), PART_BYTES)]
        if len(parts) > _MOST_PARTS:
            message = f"the plan would take {len(parts)} ConfigMaps, more than {_MOST_PARTS}; split the policy"
            raise RunError(Failure("PlanTooLarge", message, mendable=True))
        head = {_PARTS_KEY: str(len(parts)), _CHECKSUM_KEY: hashlib.sha256(content).hexdigest()}
        async with self._maps.explained():
            for number, part in enumerate(parts):
                await self._maps.write(self._part(number), {_PART_KEY: part}, head if number == 0 else {})
            await self._empty_from(len(parts))

    @override
    async def report(self, content: bytes, cut: int) -> ReportReference:
        if len(content) > MOST_BYTES:
            raise ValueError(f"a report of {len(content)} bytes fits into no ConfigMap")
        name = self._maps.name("report")
        async with self._maps.explained():
            await self._maps.write(name, {REPORT_KEY: content}, {})
        return ReportReference(name, REPORT_KEY, cut, hashlib.sha256(content).hexdigest())

    async def last_report(self) -> bytes | None:
        """Return the report that was written last; None where there is none, or it is damaged. May raise `RunError`."""
        async with self._maps.explained():
            found = await self._maps.get(self._maps.name("report"))
        return (None if found is None else binary(found, REPORT_KEY)) or None

    def _part(self, number: int) -> str:
        return self._maps.name(f"plan-{number}")

    async def _read(self) -> bytes | None:
        """Return the bytes that were saved last; None if there are none. Raises `DamagedError`."""
        first = await self._maps.get(self._part(0))
        if first is None:
            return None
        head = first.data or {}
        number = head.get(_PARTS_KEY, "")
        if not re.fullmatch("[1-9][0-9]?", number) or int(number) > _MOST_PARTS:
            raise DamagedError("the first part does not say how many there are")
        content = _binary(first, _PART_KEY)
        for index in range(1, int(number)):
            part = await self._maps.get(self._part(index))
            if part is None:
                raise DamagedError(f"part {index} of {number} is missing")
            content += _binary(part, _PART_KEY)
        if hashlib.sha256(content).hexdigest() != head.get(_CHECKSUM_KEY):
            raise DamagedError("its parts do not belong together")
        return content

    async def _empty_from(self, number: int) -> None:
        """Empty what an earlier, larger plan left."""
        while number < _MOST_PARTS:
            old = await self._maps.find(self._part(number))
            if old is None or not self._maps.owns(old):
                return
            if old.binary_data:
                await self._maps.write(self._part(number), {}, {})
            number += 1

    @override
    async def undone(self) -> Protected | None:
        async with self._maps.explained():
            found = await self._maps.get(self._maps.name(_UNDONE_KEY))
        if found is None or (found.data or {}).get(_INTENT_KEY) != self._intent:
            return None
        content = binary(found, _UNDONE_KEY)
        return Protected(self._uid, None) if content is None else Protected.decode(self._uid, content)

    @override
    async def protect(self, items: Sequence[tuple[str, str, Digest]]) -> None:
        before = await self.undone() or Protected(self._uid)
        content = before.with_more(items).encode()
        async with self._maps.explained():
            await self._maps.write(self._maps.name(_UNDONE_KEY), {_UNDONE_KEY: content}, {_INTENT_KEY: self._intent})


def _packed(published: Published) -> bytes:
    return zlib.compress(encode(published))


def _unpacked(uid: str, compressed: bytes) -> Published:
    unpacking = zlib.decompressobj()
    try:
        # Bounded: a few kilobytes can be made to unpack to gigabytes.
        content = unpacking.decompress(compressed, _MOST_UNPACKED)
    except zlib.error as error:
        raise DamagedError(str(error)) from error
    if not unpacking.eof or unpacking.unused_data:
        raise DamagedError("breaks off, or goes on after its end")
    return decode(uid, content)


def _binary(config_map: client.V1ConfigMap, key: str) -> bytes:
    content = binary(config_map, key)
    if content is None:
        raise DamagedError("is not base64")
    return content
