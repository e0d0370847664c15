"""What the runner needs of the world, as protocols, and the errors that it may meet there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol

from registry_cleanup.domain.conflict import Rival
from registry_cleanup.domain.copies import CopiedManifest, CopiedTag, Undoable
from registry_cleanup.domain.course import Readings
from registry_cleanup.domain.deletion import Deletion, DeletionSupport, ItemOutcome, UntaggedOutcome
from registry_cleanup.domain.in_use import InUse
from registry_cleanup.domain.inventory import Inventory, Manifest, Needs
from registry_cleanup.domain.listing import ListedRepository
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.policy import RepositoryGlob
from registry_cleanup.domain.published import Protected, Published
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.report import MOST_BYTES
from registry_cleanup.domain.run import Aftermath, Failure, ReportReference, RunOrder, RunReport, ScanSummary
from registry_cleanup.domain.trust import TrustedHosts
from registry_cleanup.domain.undoing import UndoOutcome


class RunError(Exception):
    """Something that ends a run or the work on one repository; `failure` is what people are told.

    Attributes:
        failure: reason, message and next step; never text that a registry or a Secret holds.
        code: the registry's error code or the HTTP status, where there is one.
        listed: number of tags of the repository that it ends the work on, where they were listed before.
    """

    listed: int = 0

    def __init__(self, failure: Failure, code: str | None = None) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.code = code


_NO_UNDO = Failure("UndoUnsupported", "nothing can be put back into a registry of this kind", mendable=True)


class InterruptedRunError(Exception):
    """The run must stop before its next deletion; the message says why."""


class TimedOutError(InterruptedRunError):
    """The time of the run is over, before its next deletion; the next run goes on from here."""


Objection = Callable[[], str | None]
"""Says, at once, why nothing may be changed any more; None where nothing speaks against it."""


def no_objection() -> None:
    """Speak against nothing."""


class CredentialKind(Enum):
    """How a credential is presented."""

    PASSWORD = "password"  # noqa: S105 - a kind, no secret. Basic, to the registry or to its token service
    TOKEN = "token"  # noqa: S105 - a kind, no secret. Bearer, to the registry; on OpenShift as an account's token
    IDENTITY_TOKEN = "identity token"  # noqa: S105 - a kind, no secret. Exchanged at the token service by OAuth2
    SERVICE_ACCOUNT = "service account"  # a short-lived token, through `/openshift/token`
    KUBECONFIG = "kubeconfig's token"  # that of a person at the API server, through `/openshift/token` only


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


@dataclass(frozen=True, slots=True)
class LoginWords:
    """What people are told to do where a registry cannot be reached or lets nobody in; by default who writes policies.

    Attributes:
        no_login: the registry wants a login, and there is none.
        no_login_of_any_kind: the same, where it is not known yet whether a ServiceAccount could have one.
        wrong_password: the registry does not accept it.
        wrong_credential: the token service does not accept it.
        whose_token: whose token cannot be sent.
        refused_by_openshift: OpenShift's token endpoint does not accept the token.
        over_http: a credential may not go over http.
        to_other_host: a credential may not go to `{host}`.
        address: what answers is no registry.
        unreachable: nothing answers.
        unknown_ca: the certificate is not believed.
        plain_http: http answers where https was expected.
        no_certificate: what was given as CA certificates holds none.
    """

    no_login: str = "name a Secret in spec.registry.secretRef"
    no_login_of_any_kind: str = (
        "name a Secret in spec.registry.secretRef, or on OpenShift a ServiceAccount in spec.registry.serviceAccountName"
    )
    wrong_password: str = "check the Secret that the policy names"  # noqa: S105 - words, no secret
    wrong_credential: str = "check what the policy names"
    whose_token: str = "the Secret's token"  # noqa: S105 - words, no secret
    refused_by_openshift: str = "does the ServiceAccount exist, and does the cluster's API server answer?"
    over_http: str = "a password or token goes over http only with spec.registry.insecure: true"
    to_other_host: str = "if it should, list {host!r} in the Secret's annotation registrycleanup.dev/token-hosts"
    address: str = "check spec.registry.url"
    unreachable: str = "check spec.registry.url, its DNS name and network policies"
    unknown_ca: str = "name its CA in spec.registry.caConfigMapRef"
    plain_http: str = "write http:// in spec.registry.url, with insecure: true"
    no_certificate: str = "the ConfigMap that spec.registry.caConfigMapRef names holds no PEM certificate under its key"


POLICY_WORDS = LoginWords()


class CredentialSource(Protocol):
    """Where a credential comes from."""

    @property
    def words(self) -> LoginWords:
        """What its owner is told to do where it is of no use."""
        return POLICY_WORDS

    async def credential(self) -> Credential | None:
        """Return a credential that is valid for minutes to come; None to stay anonymous. Raises `RunError`."""

    async def renew(self, refused: Credential) -> bool:
        """Read the credential anew, since `refused` was not accepted; say whether it is another one by now.

        Raises `RunError`.
        """


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


Proceed = Callable[[Digest, Collection[str]], Awaitable[bool]]
"""Says right before a deletion whether a digest, with these tags on it, may go; see `Registry.prune`."""
Keep = Callable[[Sequence[CopiedTag], Sequence[CopiedManifest]], Awaitable[None]]
"""Writes copies down and reads them back before what they are of may be deleted; raises `RunError` where it cannot."""


Contents = Callable[[int], Awaitable[Mapping[tuple[str, Digest], CopiedManifest]]]
"""Returns the manifests of one part of the copies, by repository and digest; nothing where it cannot be read again."""


class CopyStore(Protocol):
    """Where the copies of one policy outlive the operator. Every call may raise `RunError`."""

    @property
    def repository(self) -> str | None:
        """The repository of the registry that they are in; None where they are elsewhere."""
        return None

    @property
    def most_bytes(self) -> int:
        """How many bytes of manifests one part is made of, at most, before it is compressed."""
        return 1024 * 1024

    async def write(self, run: str, part: int, content: bytes) -> bytes:
        """Write one part of a run's copies, and return what is read back of it; parts count from 1."""

    async def runs(self) -> Sequence[str]:
        """Return the IDs of the runs that there are copies of, sorted."""

    async def numbers(self, run: str) -> Sequence[int]:
        """Return the numbers of the parts of a run's copies that are there, sorted."""

    async def read(self, run: str, part: int) -> bytes | None:
        """Return one part of a run's copies; None where it is gone, or cannot be read."""

    async def remove(self, run: str) -> None:
        """Remove the copies of a run, the last part last."""


class Passage(Protocol):
    """What every request to a registry passes: it bounds how many are under way, and how many begin in a second."""

    async def enter(self, *, first: bool = False) -> None:
        """Wait until one more request may begin; whoever was let through calls `leave` when its answer has come.

        Args:
            first: whether it goes before all others that wait, and waits for no pace, since it follows a look that must
                not grow old; those after it wait for both.
        """

    def leave(self, *, overloaded: bool = False) -> None:
        """Say that a request has ended, however it did, and whether that showed that too many are under way."""

    def follow(self) -> None:
        """Count a request that follows another at once: the next one waits for both."""


class Registry(Protocol):
    """A registry as one policy sees it, with that policy's credential."""

    @property
    def host(self) -> str:
        """Host and port, as a plan's hash has it."""

    @property
    def claimed_as(self) -> str:
        """The name under which runs claim its repositories from each other; one name for one registry."""
        return self.host

    @property
    def requests(self) -> int:
        """How many requests were sent so far, repetitions included."""
        return 0

    @property
    def readings(self) -> Readings:
        """How far the reading of repositories has come; who cannot tell shows nothing."""
        return Readings()

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
        self, plan: RepositoryPlan, deletion: Deletion, proceed: Proceed, keep: Keep | None = None
    ) -> AsyncGenerator[ItemOutcome | UntaggedOutcome, None]:
        """Make the groups of `plan` go, and yield the verified outcome of each planned tag.

        Where the plan says so, what is left without a name goes too, each manifest with an outcome. A group waits for
        the subjects that it names (`DigestGroup.after`) to be verified gone, and is not touched otherwise.

        `proceed` is awaited before each deletion, told what would go: a digest, and the tags on it, or none where a
        manifest without a name goes. It says whether that may go, or a pod uses it by now (`NowInUse`), and raises
        `InterruptedRunError` where nothing more may be deleted. Items without an outcome were not touched. Raises
        `RunError` where going on makes no sense.

        If there is something to `keep` copies with, nothing goes of which it has not written one (`NoCopy`).
        """

    def copies_in(self, repository: str, policy: str) -> CopyStore | None:
        """Return where copies of the policy with this UID are kept in `repository`; None where that cannot be."""
        del repository, policy
        return None

    @property
    def history_is_lost(self) -> bool:
        """Whether a tag that is put back has lost what it named before."""
        return False

    def restore(
        self, copies: Undoable, contents: Contents, *, force: bool, dry_run: bool
    ) -> AsyncGenerator[UndoOutcome, None]:
        """Put manifests and then tags back, and yield the verified outcome of each.

        A tag that names something else by now is left alone, unless that is `force`d. A dry run only looks. Raises
        `RunError` where going on makes no sense.
        """
        del copies, contents, force, dry_run
        raise RunError(_NO_UNDO)

    async def aftermath(self) -> Aftermath | None:
        """Return what the deletions of this run left to others; None where nobody can tell."""


class Tell(Protocol):
    """Is told how the reading of a registry goes on."""

    def __call__(self, *, wanted: int = 0, done: int = 0) -> None:
        """Note that so many more steps are wanted, or were done."""


class Lister(Protocol):
    """A registry as a person sees it who only looks."""

    @property
    def host(self) -> str:
        """What people call it: host and port, or a word for the cluster's own."""

    async def repositories(self, wanted: RepositoryGlob | None) -> Sequence[str]:
        """Return the names of all repositories that are `wanted`; raise `RunError` if the list cannot be had whole."""

    async def names(self, repository: str) -> ListedRepository:
        """Return the names of all tags, and no more; raise `RunError` if they cannot be had whole."""

    async def read(self, repository: str, tell: Tell) -> ListedRepository:
        """Return what people want to know of all tags; what could not be read is left out, and its `failure` says why.

        Raises:
            RunError: not even the names of the tags can be had.
        """


class Rivals(Protocol):
    """Who else prunes."""

    async def at(self, registry: Registry, repositories: Sequence[str]) -> Sequence[Rival]:
        """Return the other live policies at the same registry, whatever name they use for it.

        Args:
            registry: of this policy.
            repositories: that this policy selects there.
        """


@dataclass(frozen=True, slots=True)
class Scan:
    """What is in use at one instant, whole, and how to see what came since.

    Attributes:
        in_use: what was found.
        summary: of it.
        since: returns what pods that appeared since the scan use, without another scan; raise `RunError` where that is
            not known any more.
    """

    in_use: InUse
    summary: ScanSummary
    since: Callable[[], Awaitable[InUse]]


class Workloads(Protocol):
    """What the cluster uses."""

    def scan(self, order: RunOrder) -> AbstractAsyncContextManager[Scan]:
        """Look at everything that counts as in use, and go on to watch pods until the context ends.

        Raises:
            RunError: it cannot be had whole: a kind that exists, or may exist, could not be listed; a selector matches
                no namespace; far less is in use than at the last scan. Its failure has the reason `InUseUnknown`,
                `blocks` the run, and says which kind, verb and rule are missing.
        """


class Visit(Protocol):
    """What a run has of a registry to itself."""

    def claim(self, repositories: Collection[str]) -> bool:
        """Claim repositories until the visit ends, once in a visit.

        Return whether they are the run's own, and what was read of them since the visit began still holds. Else `wait`,
        and read again.
        """

    async def wait(self) -> None:
        """Wait until all that was claimed is the run's own; raise `InterruptedRunError` if it must stop before."""


class Claims(Protocol):
    """Keeps runs that prune out of each other's repositories: each would count on what the other takes away."""

    def visit(self, registry: str) -> AbstractContextManager[Visit]:
        """Begin to read at a registry, by the name that `Registry.claimed_as` gives it."""


class PlanStore(Protocol):
    """Where a policy's published plan and its last report outlive the operator. Every call may raise `RunError`."""

    @property
    def most_report_bytes(self) -> int | None:
        """How large a report may be, in bytes; None for any size, so that nothing is cut."""
        return MOST_BYTES

    async def load(self) -> Published:
        """Return the published plan; one that was never made, is damaged or was taken away is an empty one."""

    async def save(self, published: Published) -> None:
        """Publish a plan in place of the last one."""

    async def undone(self) -> Protected | None:
        """Return what was put back since the policy was changed last; None for nothing."""
        return None

    async def protect(self, items: Sequence[tuple[str, str, Digest]]) -> None:
        """Remember that these were put back: repository, tag and digest of each; without a place for it, nothing is."""
        del items

    async def report(self, content: bytes, cut: int) -> ReportReference:
        """Write the report of a run in place of the last one; `cut` repositories did not fit."""


class Guard(Protocol):
    """Says whether a run may go on; asked before each deletion."""

    async def clock_offset(self) -> timedelta | None:
        """Return the API server's clock minus ours; None where it does not tell."""

    async def proceed(self) -> None:
        """Raise `InterruptedRunError` if the policy is gone, replaced, changed, suspended or made a dry run."""

    def unless_halted(self) -> None:
        """Raise `InterruptedRunError` for what is known without asking anybody, and so at once."""
        return

    async def doubt(self) -> Failure | None:
        """Return why a run may only plan, whatever it was told; None where nothing speaks against pruning."""
        return None


class Audit(Protocol):
    """Where every verdict that prunes and every outcome is written down."""

    def planned(self, plan: RepositoryPlan) -> None:
        """Write down what is to go of one repository, and why."""

    def outcome(self, repository: str, outcome: ItemOutcome) -> None:
        """Write down what happened to one planned tag."""

    def untagged(self, repository: str, outcome: UntaggedOutcome) -> None:
        """Write down what happened to one manifest without a name."""

    def failure(self, failure: Failure) -> None:
        """Write down what could not be done."""

    def finished(self, report: RunReport) -> None:
        """Write down the end of a run."""


class Observer(Protocol):
    """Who counts what is asked of the world."""

    def requested(self, method: str, status: int | None, *, again: bool) -> None:
        """Count one request to a registry or its token service.

        Args:
            method: of HTTP.
            status: of the answer; None where none came.
            again: whether it repeats one that failed.
        """

    def scanned(self, seconds: float, *, whole: bool) -> None:
        """Count a look at what is in use that took so long; it is in doubt where it was not `whole`."""


class Clock(Protocol):
    """The time of day; the only place where anybody asks for it."""

    def now(self) -> datetime:
        """Return the present, aware, in UTC."""


@dataclass(frozen=True, slots=True)
class World:
    """What a run needs besides its registry.

    Attributes:
        guard: says whether the policy still wants it.
        audit: where everything is written down.
        clock: the time of day.
        store: where the published plan outlives the operator.
        workloads: what the cluster uses.
        rivals: who else prunes there.
        claims: keeps other runs out of its repositories while it prunes.
        copies: where copies are kept of what is pruned, unless the policy names a repository for them.
    """

    guard: Guard
    audit: Audit
    clock: Clock
    store: PlanStore
    workloads: Workloads
    rivals: Rivals
    claims: Claims
    copies: CopyStore | None = None
