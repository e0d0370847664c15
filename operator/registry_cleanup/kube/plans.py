"""Where a policy's published plan and its last report outlive the operator: ConfigMaps that the policy owns."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
import re
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import stamina
from kubernetes.aio import client
from typing_extensions import override

from registry_cleanup.domain.published import DamagedError, Published, decode, encode, nothing_published
from registry_cleanup.domain.report import MOST_BYTES
from registry_cleanup.domain.run import Failure, ReportReference
from registry_cleanup.kube.api import (
    APIError,
    ConflictError,
    ForbiddenError,
    KubernetesAPI,
    NoAnswerError,
    NotThereError,
)
from registry_cleanup.kube.spec import GROUP, KIND, VERSION
from registry_cleanup.ports import PlanStore, RunError

REPORT_KEY = "report.ndjson.gz"
MANAGED_BY_LABEL, MANAGED_BY = "app.kubernetes.io/managed-by", "registry-cleanup"
POLICY_LABEL = f"{GROUP}/policy"

# What the operator needs for it, as a rule of a role.
PLANS_RULE = '{apiGroups: [""], resources: [configmaps], verbs: [get, create, update]}'

# Of a plan in one ConfigMap: some 60,000 tags. As JSON it stays below 1 MiB, which is sent in one piece.
PART_BYTES = 512 * 1024
_PART_KEY = "plan"
# The first part says how many there are, and what all of them together must be.
_PARTS_KEY, _CHECKSUM_KEY = "parts", "sha256"
# Some four million tags; a number that is larger was not written by us.
_MOST_PARTS = 64
_MOST_UNPACKED = 64 * 1024 * 1024
_NAME_BYTES = 200
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_RETRY_FOR = 60.0

_log = logging.getLogger(__name__)

_UNAVAILABLE = "the published plan or the report could not be read or written in ConfigMaps of this namespace"


class ConfigMapPlans(PlanStore):
    """Keeps the plan in ConfigMaps named after the policy and its UID, so that one policy never reads another's.

    They are owned by the policy and go with it; the operator has no right to delete them.
    """

    def __init__(
        self,
        api: KubernetesAPI,
        namespace: str,
        policy: str,
        uid: str,
        service_account: str,
        *,
        retry_for: float = _RETRY_FOR,
    ) -> None:
        """Keep the plans of `policy`.

        Args:
            api: with the operator's own rights.
            namespace: of the policy.
            policy: its name.
            uid: of the policy.
            service_account: the operator's own, as `namespace:name`, for messages.
            retry_for: seconds in which a call is tried again.
        """
        self._api = api
        self._namespace = namespace
        self._policy = policy
        self._uid = uid
        self._grantee = service_account
        self._patiently = stamina.retry(on=NoAnswerError, attempts=None, timeout=retry_for, wait_max=15)
        # A name must not have a dot or a dash where it was cut.
        self._stem = f"{policy[:_NAME_BYTES].rstrip('.-')}-{uid[:8]}"

    @override
    async def load(self) -> Published:
        try:
            async with self._explained():
                compressed = await self._read()
            if compressed is None:
                return nothing_published(self._uid)
            return await asyncio.to_thread(_unpacked, self._uid, compressed)
        except DamagedError as error:
            _log.warning(
                "the published plan is damaged, so every item of it is new: its grace period starts again",
                extra={"policy": f"{self._namespace}/{self._policy}", "cause": str(error)},
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
        async with self._explained():
            for number, part in enumerate(parts):
                await self._write(self._part(number), {_PART_KEY: part}, head if number == 0 else {})
            await self._empty_from(len(parts))

    @override
    async def report(self, content: bytes, cut: int) -> ReportReference:
        if len(content) > MOST_BYTES:
            raise ValueError(f"a report of {len(content)} bytes fits into no ConfigMap")
        name = f"{self._stem}-report"
        async with self._explained():
            await self._write(name, {REPORT_KEY: content}, {})
        return ReportReference(name, REPORT_KEY, cut)

    def _part(self, number: int) -> str:
        return f"{self._stem}-plan-{number}"

    async def _read(self) -> bytes | None:
        """Return the bytes that were saved last; None if there are none. Raises `DamagedError`."""
        first = await self._get(self._part(0))
        if first is None:
            return None
        head = first.data or {}
        number = head.get(_PARTS_KEY, "")
        if not re.fullmatch("[1-9][0-9]?", number) or int(number) > _MOST_PARTS:
            raise DamagedError("the first part does not say how many there are")
        content = _binary(first, _PART_KEY)
        for index in range(1, int(number)):
            part = await self._get(self._part(index))
            if part is None:
                raise DamagedError(f"part {index} of {number} is missing")
            content += _binary(part, _PART_KEY)
        if hashlib.sha256(content).hexdigest() != head.get(_CHECKSUM_KEY):
            raise DamagedError("its parts do not belong together")
        return content

    async def _empty_from(self, number: int) -> None:
        """Empty what an earlier, larger plan left."""
        while number < _MOST_PARTS:
            old = await self._find(self._part(number))
            if old is None or not self._owns(old):
                return
            if old.binary_data:
                await self._write(self._part(number), {}, {})
            number += 1

    async def _write(self, name: str, binary: Mapping[str, bytes], data: Mapping[str, str]) -> None:
        """Create or replace a ConfigMap; when somebody else was there first, look again, once."""
        try:
            await self._write_once(name, binary, data)
        except (ConflictError, NotThereError):
            await self._write_once(name, binary, data)

    async def _write_once(self, name: str, binary: Mapping[str, bytes], data: Mapping[str, str]) -> None:
        config_map = await self._get(name)
        new = config_map is None
        if config_map is None:
            config_map = client.V1ConfigMap(metadata=self._metadata(name))
        config_map.binary_data = {key: base64.b64encode(value).decode() for key, value in binary.items()}
        config_map.data = dict(data)
        if new:
            await self._patiently(self._api.create_config_map)(self._namespace, config_map)
        else:
            await self._patiently(self._api.replace_config_map)(self._namespace, name, config_map)

    async def _get(self, name: str) -> client.V1ConfigMap | None:
        """Return a ConfigMap of the policy, None if there is none; raise `RunError` if it is somebody else's."""
        found = await self._find(name)
        if found is not None and not self._owns(found):
            message = (
                f"ConfigMap {name!r} is not this policy's, and its name is where the policy's plan or report belongs; "
                f"look at it, then: kubectl delete configmap {name} -n {self._namespace}"
            )
            raise RunError(Failure("PlanStoreTaken", message, mendable=True))
        return found

    async def _find(self, name: str) -> client.V1ConfigMap | None:
        try:
            return await self._patiently(self._api.config_map)(self._namespace, name)
        except NotThereError:
            return None

    def _owns(self, config_map: client.V1ConfigMap) -> bool:
        owners = config_map.metadata.owner_references if config_map.metadata is not None else None
        return any(owner.uid == self._uid for owner in owners or ())

    def _metadata(self, name: str) -> client.V1ObjectMeta:
        labels = {MANAGED_BY_LABEL: MANAGED_BY}
        if _LABEL.fullmatch(self._policy):
            labels[POLICY_LABEL] = self._policy
        # Without blockOwnerDeletion, for which OpenShift wants a right on the policy's finalizers.
        owner = client.V1OwnerReference(
            api_version=f"{GROUP}/{VERSION}", kind=KIND, name=self._policy, uid=self._uid, controller=False
        )
        return client.V1ObjectMeta(name=name, labels=labels, owner_references=[owner])

    @asynccontextmanager
    async def _explained(self) -> AsyncIterator[None]:
        """Turn what the API server refuses into what a person is told."""
        try:
            yield
        except ForbiddenError as error:
            message = (
                f"the operator's ServiceAccount {self._grantee} may not keep the published plan in ConfigMaps here "
                f"({error}); ClusterRole registry-cleanup-operator of manifests/base grants it with: "
                f"{PLANS_RULE}"
            )
            raise RunError(Failure("PlanStoreForbidden", message, mendable=True)) from error
        except APIError as error:
            raise RunError(Failure("PlanStoreUnavailable", f"{_UNAVAILABLE}: {error}")) from error


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
    try:
        return base64.b64decode((config_map.binary_data or {}).get(key, ""), validate=True)
    except binascii.Error as error:
        raise DamagedError("is not base64") from error
