"""What the administrator of the operator allows: bounds that hold whatever a policy says.

What a policy may not ask for at all is refused, with the field and the bound. A number of a policy that is greater than
the administrator's is not refused, since the API server writes defaults into every policy: the lower one holds, and
whoever is told of it is told whose it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from registry_cleanup.domain.cron import Schedule
from registry_cleanup.domain.duration import duration_text
from registry_cleanup.domain.policy import Policy, RepositoryGlob, TagPattern
from registry_cleanup.domain.trust import Endpoint, Host

# The settings by the names that an administrator writes.
ALLOWED_REGISTRIES = "REGISTRY_CLEANUP_ALLOWED_REGISTRIES"
TRUSTED_TOKEN_HOSTS = "REGISTRY_CLEANUP_TRUSTED_TOKEN_HOSTS"  # noqa: S105 - a name, no secret
SMALLEST_INTERVAL = "REGISTRY_CLEANUP_SMALLEST_INTERVAL"
ALLOW_INSECURE = "REGISTRY_CLEANUP_ALLOW_INSECURE"
PLAN_ONLY = "REGISTRY_CLEANUP_PLAN_ONLY"
IN_USE_SCOPE = "REGISTRY_CLEANUP_IN_USE_SCOPE"

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.*]+\]|[a-z0-9._*-]+)(?::(?P<port>[0-9]{1,5}|\*))?")
_TOLD = 5


class HostGlob:
    """A glob over hosts, `host[:port]`, in which `*` stands for any characters; without a port, any port."""

    __slots__ = ("_name", "_port", "text")

    def __init__(self, text: str) -> None:
        """Parse `text`; raise `ValueError` that says what to write."""
        match = _HOST.fullmatch(text.lower())
        if match is None or (match["port"] not in (None, "*") and not 0 < int(match["port"]) < 65536):
            raise ValueError(
                "is not a host; write for example 'registry.example.com', '*.example.com:5000', or '*' for any"
            )
        self.text = text
        name = match["name"].strip("[]").rstrip(".")
        self._name = re.compile(".*".join(map(re.escape, name.split("*"))))
        self._port = int(match["port"]) if match["port"] not in (None, "*") else None

    def covers(self, endpoint: Endpoint) -> bool:
        """Say whether `endpoint` is on such a host."""
        at_port = self._port is None or self._port == endpoint.port
        return at_port and self._name.fullmatch(endpoint.host.rstrip(".")) is not None


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a policy the bounds are about.

    Attributes:
        registry: its address; None where it leaves that to the cluster, which is asked at each connection.
        token_url: where it sends logins, if it says so.
        insecure: whether it wants plain http or an unverified certificate.
        schedule: when it runs; None on request only.
        collections: when it collects garbage; None where it does not.
    """

    registry: Endpoint | None
    token_url: Endpoint | None
    insecure: bool
    schedule: Schedule | None
    collections: Schedule | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """The administrator's bounds of all policies.

    Attributes:
        registries: hosts that policies may name.
        token_hosts: hosts besides that may be named as a token service.
        protected_repositories: in which nothing is pruned.
        protected_tags: that are never pruned.
        smallest_interval: between two scheduled times of a policy, be they of its runs or of its collections.
        max_deletions: tags that one run may prune, whatever its policy says and whoever approves.
        allow_insecure: whether plain http and unverified certificates are allowed.
    """

    registries: tuple[HostGlob, ...] = (HostGlob("*"),)
    token_hosts: tuple[Host, ...] = ()
    protected_repositories: tuple[RepositoryGlob, ...] = ()
    protected_tags: tuple[TagPattern, ...] = ()
    smallest_interval: timedelta = timedelta(0)
    max_deletions: int | None = None
    allow_insecure: bool = True

    def refusals(self, asked: Asked) -> Sequence[tuple[str, str]]:
        """Return what of a policy is not allowed: paths of fields, and messages with the bound and the next step."""
        return tuple(self._refusals(asked))

    def registry_refusal(self, registry: Endpoint) -> str | None:
        """Return why no policy may work at `registry`, or None if it may."""
        if registry.link_local:
            return "is a link-local address, which is never a registry"
        if self._allowed(registry):
            return None
        return f"names {registry.host_port}, which {self._listed()}; name an allowed one, or ask for this one"

    def applied(self, policy: Policy) -> Policy:
        """Return `policy` as it holds within the bounds."""
        return replace(
            policy,
            limits=replace(policy.limits, ceiling=self.max_deletions),
            protected_repositories=self.protected_repositories,
            protected_tags=self.protected_tags,
        )

    def _refusals(self, asked: Asked) -> Iterator[tuple[str, str]]:
        if asked.registry is not None and (message := self.registry_refusal(asked.registry)) is not None:
            yield "spec.registry.url", message
        if asked.token_url is not None and not self._takes_tokens(asked.token_url, asked.registry):
            message = (
                f"names {asked.token_url.host_port}, which {self._listed()}, nor by {TRUSTED_TOKEN_HOSTS}, and is not "
                "the registry's own host; name an allowed one, or ask for this one"
            )
            yield "spec.registry.tokenURL", message
        if asked.insecure and not self.allow_insecure:
            message = (
                f"true is not allowed by the operator's setting {ALLOW_INSECURE} (false); write https, and name the CA "
                "in spec.registry.caConfigMapRef where the system's do not do"
            )
            yield "spec.registry.insecure", message
        for path, schedule in (("schedule", asked.schedule), ("garbageCollection.schedule", asked.collections)):
            # To find the gap takes a while: only where it matters.
            gap = schedule.smallest_gap if schedule is not None and self.smallest_interval else None
            if gap is not None and gap < self.smallest_interval:
                message = (
                    f"has two times only {duration_text(gap)} apart, and the operator's setting {SMALLEST_INTERVAL} "
                    f"allows no less than {duration_text(self.smallest_interval)}; run less often"
                )
                yield f"spec.{path}", message

    def _allowed(self, endpoint: Endpoint) -> bool:
        return any(glob.covers(endpoint) for glob in self.registries)

    def _takes_tokens(self, endpoint: Endpoint, registry: Endpoint | None) -> bool:
        own = registry is not None and registry.host == endpoint.host
        return own or self._allowed(endpoint) or any(host.covers(endpoint) for host in self.token_hosts)

    def _listed(self) -> str:
        more = f" and {len(self.registries) - _TOLD} more" if len(self.registries) > _TOLD else ""
        globs = ", ".join(glob.text for glob in self.registries[:_TOLD])
        return f"is not allowed by the operator's setting {ALLOWED_REGISTRIES} ({globs}{more})"


UNBOUNDED = Bounds()


@dataclass(frozen=True, slots=True)
class Reach:
    """Where the operator, or a person, looks for what is in use.

    Attributes:
        namespaces: that it looks at; empty for the whole cluster.
        confined: whether it has its rights in some namespaces only, so that it may not see the others.
        personal: whether a person looks, with rights of their own.
    """

    namespaces: tuple[str, ...] = ()
    confined: bool = False
    personal: bool = False


WHOLE_CLUSTER = Reach()
PERSONAL = Reach(personal=True)
