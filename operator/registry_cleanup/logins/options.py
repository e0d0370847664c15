"""What a person says on the command line of how to get into a registry and a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LoginOptions:
    """How to get into registries.

    Attributes:
        username: of a password; None to look for a login elsewhere.
        password: as read from standard input; never printed.
        registry_config: a file as `docker login` or `podman login` writes it, instead of the usual places.
        ca_bundle: PEM certificates that are believed besides the system's.
        insecure: plain http, or any certificate, is accepted.
        token_hosts: hosts (`host[:port]`) that may receive the login besides the registry's own.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    registry_config: Path | None = None
    ca_bundle: str | None = field(default=None, repr=False)
    insecure: bool = False
    token_hosts: tuple[str, ...] = ()

    def elsewhere(self) -> LoginOptions:
        """Return what holds at other registries than the one that the person means: nothing that was given for that."""
        return replace(self, username=None, password=None, insecure=False, token_hosts=())


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Which cluster.

    Attributes:
        kubeconfig: None for the usual one.
        context: of it; None for the current one.
        namespace: None for that of the context.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None
