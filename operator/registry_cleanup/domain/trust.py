"""Which hosts may receive a credential; nothing is ever sent to any other."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Host:
    """A host name with a port; port None stands for any port."""

    name: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Host:
        """Parse `name`, `name:port` or `[v6]:port`; raise `ValueError` for anything else."""
        parts = urlsplit(f"//{text.strip()}")
        if not parts.hostname or parts.username is not None or parts.path or parts.query or parts.fragment:
            raise ValueError(f"not a host[:port]: {text[:100]!r}")
        return cls(parts.hostname, parts.port)

    def covers(self, endpoint: Endpoint) -> bool:
        """Say whether `endpoint` is on this host."""
        return self.name == endpoint.host and self.port in (None, endpoint.port)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Scheme, host and port of an URL: its origin."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Endpoint:
        """Return the origin of an absolute http or https URL; raise `ValueError` for any other."""
        parts = urlsplit(url)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.username is not None or parts.port == 0:
            raise ValueError("not an http or https URL")
        return cls(parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme])

    @property
    def link_local(self) -> bool:
        """Whether it is an address where clouds serve their metadata; names are resolved by nobody here."""
        return link_local(self.host)

    @property
    def host_port(self) -> str:
        """`host:port`, as people write it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def server(self) -> str:
        """`host:port`, the same for all spellings of one name: a dot at its end says that it is whole."""
        return replace(self, host=self.host.rstrip(".")).host_port


def link_local(host: str) -> bool:
    """Say whether `host` is an address where clouds serve their metadata; a name is none."""
    address = _address(host)
    if address is None:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address.is_link_local or (mapped is not None and mapped.is_link_local)


@dataclass(frozen=True, slots=True)
class RegistryHosts:
    """Hosts of a cluster's own registry: inside the cluster, if it has one, and outside.

    Attributes:
        internal: as pods name it; None where there is none, or nobody knows.
        external: as others do.
        forbidden: whether whoever asks may not read them, so that nobody knows.
    """

    internal: str | None
    external: tuple[str, ...] = ()
    forbidden: bool = False

    @property
    def all(self) -> tuple[str, ...]:
        """Every host, the internal one first."""
        return (self.internal, *self.external) if self.internal is not None else self.external


@dataclass(frozen=True, slots=True)
class TrustedHosts:
    """The hosts that one credential was meant for.

    Attributes:
        hosts: that may receive it.
        allow_http: whether it may go over a connection that anybody can read.
    """

    hosts: tuple[Host, ...]
    allow_http: bool = False

    @classmethod
    def of(cls, hosts: Iterable[Host], *, allow_http: bool) -> TrustedHosts:
        """Return the trust in `hosts`, each once."""
        return cls(tuple(dict.fromkeys(hosts)), allow_http)

    def refusal(self, endpoint: Endpoint) -> str | None:
        """Return why `endpoint` must not receive the credential, or None if it may."""
        if endpoint.scheme == "http" and not self.allow_http:
            return "it is not https"
        if endpoint.link_local:
            return "it is a link-local address"
        if not any(host.covers(endpoint) for host in self.hosts):
            return "it is not among the hosts that the credential was meant for"
        return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that `host` spells, in any form that a system's resolver takes; None for a name."""
    host = host.rstrip(".")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        # inet_aton(3): 169.254.43518, 0xa9fea9fe and 2852039166 are all 169.254.169.254.
        *leading, last = (int(part, _base(part)) for part in host.split("."))
        return ipaddress.IPv4Address(last + sum(part << 8 * (3 - place) for place, part in enumerate(leading)))
    except ValueError:
        return None


def _base(number: str) -> int:
    if number.startswith("0x"):
        return 16
    return 8 if number.startswith("0") else 10
