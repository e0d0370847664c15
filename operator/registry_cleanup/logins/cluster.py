"""What the cluster of a person's kubeconfig has to do with logins, where it is OpenShift."""

from __future__ import annotations

from typing import Protocol

from registry_cleanup.domain.trust import RegistryHosts


class ClusterLogin(Protocol):
    """A person's way to a cluster; every call may raise `RunError`."""

    async def registry_hosts(self) -> RegistryHosts:
        """Return the hosts of the cluster's own registry that the cluster names, or that they may not be read."""

    async def has_image_streams(self) -> bool:
        """Say whether the cluster is OpenShift."""

    async def token(self) -> str | None:
        """Return the token by which the person is known to the API server; None for who logs in without one."""

    async def service_ca(self, namespace: str) -> str | None:
        """Return the CA certificates of the cluster's services, where a ConfigMap of `namespace` has them."""
