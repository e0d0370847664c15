"""ConfigMaps that belong to one policy: they are owned by it, go with it, and are never taken for another's."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import stamina
from kubernetes.aio import client

from registry_cleanup.domain.run import Failure
from registry_cleanup.kube.api import (
    APIError,
    ConflictError,
    ForbiddenError,
    KubernetesAPI,
    NoAnswerError,
    NotThereError,
)
from registry_cleanup.kube.spec import GROUP, KIND, VERSION
from registry_cleanup.ports import RunError

MANAGED_BY_LABEL, MANAGED_BY = "app.kubernetes.io/managed-by", "registry-cleanup"
POLICY_LABEL = f"{GROUP}/policy"

# What the operator needs for it, as a rule of a role.
PLANS_RULE = '{apiGroups: [""], resources: [configmaps], verbs: [get, create, update]}'

# Of what is kept in one ConfigMap: as JSON it stays below 1 MiB, which is sent in one piece.
PART_BYTES = 512 * 1024
_NAME_BYTES = 200
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
RETRY_FOR = 60.0
# Stands for whoever gives a command, in place of a ServiceAccount.
PERSON = "you"

_UNAVAILABLE = "the published plan or the report could not be read or written in ConfigMaps of this namespace"


class OwnedConfigMaps:
    """The ConfigMaps of one policy, named after it and its UID; the operator has no right to delete them."""

    def __init__(
        self,
        api: KubernetesAPI,
        namespace: str,
        policy: str,
        uid: str,
        service_account: str,
        *,
        retry_for: float = RETRY_FOR,
    ) -> None:
        """Read and write those of `policy`.

        Args:
            api: with the operator's own rights.
            namespace: of the policy.
            policy: its name.
            uid: of the policy.
            service_account: the operator's own, as `namespace:name`, for messages, or `PERSON`.
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

    def name(self, part: str) -> str:
        """Return the name of a ConfigMap of the policy."""
        return f"{self._stem}-{part}"

    async def write(self, name: str, binary: Mapping[str, bytes], data: Mapping[str, str]) -> None:
        """Create or replace a ConfigMap; when somebody else was there first, look again, once."""
        try:
            await self._write_once(name, binary, data)
        except (ConflictError, NotThereError):
            await self._write_once(name, binary, data)

    async def _write_once(self, name: str, binary: Mapping[str, bytes], data: Mapping[str, str]) -> None:
        config_map = await self.get(name)
        new = config_map is None
        if config_map is None:
            config_map = client.V1ConfigMap(metadata=self._metadata(name))
        config_map.binary_data = {key: base64.b64encode(value).decode() for key, value in binary.items()}
        config_map.data = dict(data)
        if new:
            await self._patiently(self._api.create_config_map)(self._namespace, config_map)
        else:
            await self._patiently(self._api.replace_config_map)(self._namespace, name, config_map)

    async def get(self, name: str) -> client.V1ConfigMap | None:
        """Return a ConfigMap of the policy, None if there is none; raise `RunError` if it is somebody else's."""
        found = await self.find(name)
        if found is not None and not self.owns(found):
            message = (
                f"ConfigMap {name!r} is not this policy's, and its name is where the policy's plan or report belongs; "
                f"look at it, then: kubectl delete configmap {name} -n {self._namespace}"
            )
            raise RunError(Failure("PlanStoreTaken", message, mendable=True))
        return found

    async def find(self, name: str) -> client.V1ConfigMap | None:
        """Return a ConfigMap, whoever owns it; None if there is none."""
        try:
            return await self._patiently(self._api.config_map)(self._namespace, name)
        except NotThereError:
            return None

    def owns(self, config_map: client.V1ConfigMap) -> bool:
        """Say whether it is the policy's."""
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
    async def explained(self) -> AsyncIterator[None]:
        """Turn what the API server refuses into what a person is told."""
        try:
            yield
        except ForbiddenError as error:
            if self._grantee == PERSON:
                message = (
                    f"you may not read or write the policy's ConfigMaps ({error}); a role grants it with: {PLANS_RULE}"
                )
            else:
                message = (
                    f"the operator's ServiceAccount {self._grantee} may not keep the published plan in ConfigMaps here "
                    f"({error}); ClusterRole registry-cleanup-operator of manifests/base grants it with: "
                    f"{PLANS_RULE}"
                )
            raise RunError(Failure("PlanStoreForbidden", message, mendable=True)) from error
        except APIError as error:
            raise RunError(Failure("PlanStoreUnavailable", f"{_UNAVAILABLE}: {error}")) from error


def binary(config_map: client.V1ConfigMap, key: str) -> bytes | None:
    """Return what a ConfigMap has under `key`, nothing where it has no such key; None where it is damaged."""
    try:
        return base64.b64decode((config_map.binary_data or {}).get(key, ""), validate=True)
    except binascii.Error:
        return None
