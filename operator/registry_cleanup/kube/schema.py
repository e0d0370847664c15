"""Whether the cluster serves the schema that this operator was built for; where it does not, nothing is pruned.

An API server drops the fields that its schema does not know, and fills in the defaults that it has: with another CRD a
policy may say something else than what was written. The served schema is read where it is published (OpenAPI v3): any
ServiceAccount may do that, also where the operator has no right in the cluster as a whole, and it costs nothing to ask
again whether it is another by now, so that each run does.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from registry_cleanup.domain.run import Failure
from registry_cleanup.kube.api import APIError, NotThereError
from registry_cleanup.kube.built_in import CRD_FILE, built_in_schema, own
from registry_cleanup.kube.spec import GROUP, KIND, VERSION

_log = logging.getLogger(__name__)

SCHEMA_PATH = f"/openapi/v3/apis/{GROUP}/{VERSION}"

Read = Callable[[str, str | None], Awaitable[tuple[dict[str, Any] | None, str | None]]]
"""Reads a JSON document of the API server, if it is another than that of this ETag; see `RawAPI.document`."""


class ServedSchema:
    """The schema that the cluster serves, compared with the built-in one.

    Attributes:
        problem: what the last look found, as the failure of a run that was to prune; None where they are the same.
    """

    def __init__(self, read: Read, built_in: dict[str, Any] | None = None) -> None:
        self.problem: Failure | None = _unknown("nobody has compared them yet")
        self._read = read
        self._built_in = built_in if built_in is not None else built_in_schema()
        self._tag: str | None = None

    async def look(self) -> Failure | None:
        """Compare again if the served schema may be another by now; return what keeps runs from pruning, if it does."""
        try:
            served, tag = await self._read(SCHEMA_PATH, self._tag)
        except NotThereError:
            self._note(_unknown("the API server does not publish it (yet)"), None)
        except APIError as error:
            self._note(_unknown(str(error)), None)
        else:
            if served is not None:
                self._note(self._compare(served), tag)
        return self.problem

    def _compare(self, document: dict[str, Any]) -> Failure | None:
        try:
            served = next(
                schema
                for name, schema in document["components"]["schemas"].items()
                if name.endswith(f".{VERSION}.{KIND}")  # our kind is told by its last words
            )
        except (LookupError, TypeError, AttributeError, StopIteration):
            return _unknown(f"the API server publishes no schema of {KIND}")
        path = next(_differences(self._built_in, own(served), ""), None)
        return None if path is None else _mismatch(path)

    def _note(self, problem: Failure | None, tag: str | None) -> None:
        if problem is not None and problem != self.problem:
            _log.error("%s", problem.message)
        elif problem is None and self.problem is not None:
            _log.info("the served CRD is the one that this operator was built for")
        self.problem, self._tag = problem, tag


def _mismatch(path: str) -> Failure:
    message = (
        f"the served CRD is not the one that this operator was built for (it differs at {path}), so runs only plan and "
        f"nothing is pruned: apply crds/{CRD_FILE} of the operator's version"
    )
    return Failure("CRDMismatch", message, mendable=True, blocks=True)


def _unknown(cause: str) -> Failure:
    message = f"whether the served CRD is the one that this operator was built for is not known ({cause})"
    return Failure("CRDUnknown", f"{message}, so runs only plan and nothing is pruned", blocks=True)


def _differences(ours: Any, theirs: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - whatever JSON they are
    """Yield where two schemas differ, as paths that people can follow."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            below = path if key == "properties" else f"{path}.{key}".lstrip(".")
            if key not in ours:
                yield f"{below}, which is new to this operator"
            elif key not in theirs:
                yield f"{below}, which is missing there"
            else:
                yield from _differences(ours[key], theirs[key], below)
    elif ours != theirs:
        yield path
