"""What the runner needs of the world, as protocols, and the errors that it may meet there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol

from registry_cleanup.domain.deletion import Deletion, DeletionSupport, ItemOutcome
from registry_cleanup.domain.inventory import Inventory, Manifest, Needs
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.run import Aftermath, Failure, RunReport
from registry_cleanup.domain.trust import TrustedHosts


class RunError(Exception):
    """Something that ends a run or the work on one repository; `failure` is what people are told.

    Attributes:
        failure: reason, message and next step; never text that a registry or a Secret holds.
        code: the registry's error code or the HTTP status, where there is one.
    """

    def __init__(self, failure: Failure, code: str | None = None) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.code = code


class InterruptedRunError(Exception):
    """The run must stop before its next deletion; the message says why."""


class CredentialKind(Enum):
    """How a credential is presented."""

    PASSWORD = "password"  # noqa: S105 - a kind, no secret. Basic, to the registry or to its token service
    TOKEN = "token"  # noqa: S105 - a kind, no secret. Bearer, to the registry; on OpenShift as an account's token
    SERVICE_ACCOUNT = "service account"  # a short-lived token, through `/openshift/token`


@dataclass(frozen=True, slots=True)
class Credential:
    """What logs a policy in, and which hosts may ever see it.

    Attributes:
        kind: how it is presented.
        username: of a password; of no meaning for tokens.
        secret: password or token; never printed.
        trust: the hosts that it was meant for.
        expires: when it ends, aware; None if nobody says.
    """

    kind: CredentialKind
    username: str
    secret: str = field(repr=False)
    trust: TrustedHosts
    expires: datetime | None = None


class CredentialSource(Protocol):
    """Where a policy's credential comes from."""

    async def credential(self) -> Credential | None:
        """Return a credential that is valid for minutes to come; None to stay anonymous. Raises `RunError`."""


@dataclass(frozen=True, slots=True)
class RegistryAddress:
    """Where a policy's registry is, and how its certificate is checked.

    Attributes:
        url: scheme, host and port.
        insecure: plain http, or any certificate, is accepted.
        ca_bundle: PEM certificates that are believed besides the system's.
        token_url: used instead of the realm of the registry's challenge.
        repositories: the repositories, where the policy names each in full; None where they have to be listed.
    """

    url: str
    insecure: bool = False
    ca_bundle: str | None = None
    token_url: str | None = None
    repositories: Sequence[str] | None = None


class Registry(Protocol):
    """A registry as one policy sees it, with that policy's credential."""

    @property
    def host(self) -> str:
        """Host and port, as a plan's hash has it."""

    async def clock_offset(self) -> timedelta | None:
        """Return the registry's clock minus ours, by its `Date`; None where it sends none."""

    async def repositories(self) -> Sequence[str]:
        """Return the names of all repositories; raise `RunError` if the list cannot be had whole."""

    @property
    def parallel(self) -> int:
        """In how many repositories deletions may be under way at a time."""

    async def deletion(self, repositories: Sequence[str]) -> DeletionSupport:
        """Find out, without harm, what can be deleted in `repositories`, of which there is at least one."""

    async def inventory(
        self,
        repository: str,
        needs: Callable[[Collection[str]], Needs],
        known: Mapping[Digest, Manifest],
    ) -> Inventory:
        """Return the repository whole, or raise `RunError`.

        Args:
            repository: its name.
            needs: told the listed tags, says what has to be known of them.
            known: facts of digests that need not be fetched again; facts of a digest never change.
        """

    def prune(
        self, plan: RepositoryPlan, deletion: Deletion, proceed: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[ItemOutcome, None]:
        """Make the groups of `plan` go, and yield the verified outcome of each planned tag.

        `proceed` is awaited before each deletion; it raises `InterruptedRunError` where nothing more may be
        deleted. Items without an outcome were not touched. Raises `RunError` where going on makes no sense.
        """

    async def aftermath(self) -> Aftermath | None:
        """Return what the deletions of this run left to others; None where nobody can tell."""


class Guard(Protocol):
    """Says whether a run may go on; asked before each deletion."""

    async def clock_offset(self) -> timedelta | None:
        """Return the API server's clock minus ours; None where it does not tell."""

    async def proceed(self) -> None:
        """Raise `InterruptedRunError` if the policy is gone, replaced, changed, suspended or made a dry run."""


class Audit(Protocol):
    """Where every verdict that prunes and every outcome is written down."""

    def planned(self, plan: RepositoryPlan) -> None:
        """Write down what is to go of one repository, and why."""

    def outcome(self, repository: str, outcome: ItemOutcome) -> None:
        """Write down what happened to one planned tag."""

    def failure(self, failure: Failure) -> None:
        """Write down what could not be done."""

    def finished(self, report: RunReport) -> None:
        """Write down the end of a run."""


class Clock(Protocol):
    """The time of day; the only place where anybody asks for it."""

    def now(self) -> datetime:
        """Return the present, aware, in UTC."""
