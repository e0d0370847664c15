"""What can go wrong with `image.openshift.io`, as a tree; foreign errors are translated in `api.py`.

RunError (ports)
└── ImageAPIError
    ├── MissingRightError    403: the policy's ServiceAccount lacks a right; says which, and how to grant it
    ├── GoneError            404: the stream or tag is not there
    ├── ConflictError        409: somebody changed it since it was read
    ├── BusyError            429, 500 ServerTimeout, 503, no answer: may pass
    └── OddAnswerError       anything else, or a document of another shape
        └── BadMarkError     an annotation of a stream that nobody can understand
"""

from __future__ import annotations

from typing import ClassVar

from registry_cleanup.domain.run import Failure
from registry_cleanup.ports import RunError


class ImageAPIError(RunError):
    """`image.openshift.io` did not do what was asked.

    Attributes:
        reason: names the cause in conditions.
        mendable: whether a person has to act before a retry can help.
    """

    reason: ClassVar[str] = "ImageAPIError"
    mendable: ClassVar[bool] = False

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(Failure(self.reason, message, mendable=self.mendable), code or self.reason)


class MissingRightError(ImageAPIError):
    """403."""

    reason = "MissingRight"
    mendable = True


class GoneError(ImageAPIError):
    """404; `named` is the object that is missing, as the API server names it (openshift.md, 5 and 6)."""

    reason = "NotFound"

    def __init__(self, message: str, named: str = "") -> None:
        super().__init__(message)
        self.named = named


class ConflictError(ImageAPIError):
    """409."""

    reason = "Conflict"


class BusyError(ImageAPIError):
    """Not now; `wait` is what the server asks for, in seconds."""

    reason = "ImageAPIUnavailable"

    def __init__(self, message: str, code: str | None = None, wait: float | None = None) -> None:
        super().__init__(message, code)
        self.wait = wait


class OddAnswerError(ImageAPIError):
    """An answer that cannot be what was asked for."""

    reason = "MalformedAnswer"


class BadMarkError(OddAnswerError):
    """An annotation of a stream that a person has to mend."""

    reason = "InvalidAnnotation"
    mendable = True
