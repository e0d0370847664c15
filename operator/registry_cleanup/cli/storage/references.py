"""What a person wants to have restored, as references are written."""

from __future__ import annotations

from collections.abc import Sequence

from registry_cleanup.cli.explaining.reference import read_wanted
from registry_cleanup.domain.copies import Wanted
from registry_cleanup.domain.policy import RepositoryGlob, RepositorySelector
from registry_cleanup.domain.trust import Endpoint

_ANY = RepositorySelector((RepositoryGlob("**"),))


def read_references(references: Sequence[str], registry: str | None) -> list[Wanted]:
    """Return what `references` name at the `registry` (host and port) of a run; raise `CommandError`."""
    at = None if registry is None else Endpoint.of(f"https://{registry}")
    return [read_wanted(text, at, _ANY) for text in references]
