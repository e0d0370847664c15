"""What can go wrong with a registry, as a tree; foreign errors are translated where they enter.

RunError (ports)
└── RegistryError
    ├── UnreachableError         no answer: refused, unknown host, time limit, connection lost
    │   ├── TLSError             an answer that cannot be trusted: unknown CA, wrong host name, no TLS at all
    │   ├── NotARegistryError    something else answers there
    │   └── ForbiddenAddressError    its name leads to an address with which nobody here talks
    ├── LoginFailedError         the registry or its token service does not know the credential
    │   └── UntrustedHostError   a login would send the credential to a host that it was not meant for
    ├── DeniedError              logged in, but not allowed to
    ├── DeletionDisabledError    405: deletion is switched off
    ├── ReadOnlyError            405 that is none of the API's errors: the registry is in read-only mode
    ├── NotFoundError            404
    │   └── NoSuchRepositoryError    the policy names a repository in full that is not there
    ├── ThrottledError           429, after all retries
    ├── ServerFaultError         5xx, after all retries
    ├── MalformedAnswerError     truncated, not JSON, of another shape, too large, or of another digest
    ├── NotStoredError           what was pushed is not taken, or not there afterwards
    │   └── ContentMissingError      a manifest names what the registry does not have
    └── SiblingLostError         a tag's deletion took another tag along
"""

from __future__ import annotations

from typing import ClassVar

from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.run import Failure
from registry_cleanup.ports import RunError

# The codes of the OCI distribution specification 1.1 ("Error Codes"), and Distribution's own: only these are
# repeated to people, since everything else in a body is the registry's text.
KNOWN_CODES = frozenset(
    {
        "BLOB_UNKNOWN",
        "BLOB_UPLOAD_INVALID",
        "BLOB_UPLOAD_UNKNOWN",
        "DIGEST_INVALID",
        "MANIFEST_BLOB_UNKNOWN",
        "MANIFEST_INVALID",
        "MANIFEST_UNKNOWN",
        "MANIFEST_UNVERIFIED",
        "NAME_INVALID",
        "NAME_UNKNOWN",
        "PAGINATION_NUMBER_INVALID",
        "RANGE_INVALID",
        "SIZE_INVALID",
        "TAG_INVALID",
        "UNAUTHORIZED",
        "DENIED",
        "UNSUPPORTED",
        "TOOMANYREQUESTS",
        "UNAVAILABLE",
        "UNKNOWN",
    }
)


class RegistryError(RunError):
    """The registry did not do what was asked.

    Attributes:
        reason: names the cause in conditions.
        mendable: whether a person has to act before a retry can help.
        reachable: whether it shows that the registry answers.
        stops_run: whether nothing more may be deleted anywhere in this run.
    """

    reason: ClassVar[str] = "RegistryError"
    mendable: ClassVar[bool] = False
    reachable: ClassVar[bool] = True
    stops_run: ClassVar[bool] = False

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(
            Failure(
                self.reason,
                message,
                mendable=self.mendable,
                reachable=self.reachable,
                stops_run=self.stops_run,
            ),
            code or self.reason,
        )


class UnreachableError(RegistryError):
    """No answer: connection refused, unknown host, time limit, connection lost."""

    reason = "Unreachable"
    reachable = False


class TLSError(UnreachableError):
    """The server's certificate is not trusted."""

    reason = "TLSNotTrusted"
    mendable = True


class NotARegistryError(UnreachableError):
    """Something answers, and it is no registry."""

    reason = "NotARegistry"
    mendable = True


class ForbiddenAddressError(UnreachableError):
    """A name leads to an address, such as a link-local one, with which the operator never talks; nothing was sent."""

    reason = "ForbiddenAddress"
    mendable = True


class LoginFailedError(RegistryError):
    """The registry, or its token service, does not accept the credential."""

    reason = "LoginFailed"
    mendable = True
    stops_run = True


class UntrustedHostError(LoginFailedError):
    """The login would send the credential to a host that it was not meant for; it was not sent."""

    reason = "UntrustedTokenHost"


class DeniedError(RegistryError):
    """The credential is accepted, and lacks the right."""

    reason = "Denied"
    mendable = True


class DeletionDisabledError(RegistryError):
    """405: deletion is switched off."""

    reason = "DeletionDisabled"
    mendable = True
    stops_run = True


class ReadOnlyError(RegistryError):
    """405 that is none of the API's errors: the registry is in read-only mode, mostly for a garbage collection."""

    reason = "ReadOnly"
    mendable = True
    stops_run = True


class NotFoundError(RegistryError):
    """404: no such repository, tag, manifest or blob."""

    reason = "NotFound"


class NoSuchRepositoryError(NotFoundError):
    """The policy names a repository in full, and the registry does not know it."""

    reason = "RepositoryNotFound"
    mendable = True


class ThrottledError(RegistryError):
    """429 even after waiting as told."""

    reason = "Throttled"


class ServerFaultError(RegistryError):
    """5xx even after retries."""

    reason = "ServerError"


class MalformedAnswerError(RegistryError):
    """An answer that cannot be what was asked for."""

    reason = "MalformedAnswer"


class NotStoredError(RegistryError):
    """The registry does not take what is pushed, or does not serve it afterwards."""

    reason = "NotStored"
    mendable = True


class ContentMissingError(NotStoredError):
    """A manifest was not taken since blobs or manifests that it names are not there.

    Attributes:
        digests: those that the registry names.
    """

    def __init__(self, message: str, code: str | None = None, digests: tuple[Digest, ...] = ()) -> None:
        super().__init__(message, code)
        self.digests = digests


class SiblingLostError(RegistryError):
    """The deletion of a tag took another tag along, though the registry had seemed to delete tags alone."""

    reason = "SiblingLost"
    mendable = True
    stops_run = True
