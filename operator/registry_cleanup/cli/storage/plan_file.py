"""What `storage prune` is given: a plan, and what is in use.

A plan is JSON of `plan` or `report`, or the lines of a full report. Both may be packed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.domain.in_use import InUse
from registry_cleanup.domain.written_plan import UnreadablePlanError, WrittenPlan, read_document, read_lines
from registry_cleanup.domain.written_use import UnreadableUseError, read_use

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Source:
    """A file.

    Attributes:
        file: `-` for standard input.
        sha256: that it must have, in hex; None for any.
    """

    file: Path
    sha256: str | None = None

    def read(self) -> bytes:
        """Return what is in it, unpacked.

        Raises:
            CommandError: it is another file than was meant.
            OSError, EOFError, zlib.error: it cannot be read, or unpacked.
        """
        content = sys.stdin.buffer.read() if str(self.file) == "-" else self.file.read_bytes()
        if self.sha256 not in (None, hashlib.sha256(content).hexdigest()):
            raise CommandError(f"{self.file} is not the file whose SHA-256 is {self.sha256}", Exit.USAGE)
        return gzip.decompress(content) if content.startswith(_GZIP) else content


def read_plan(source: Source) -> WrittenPlan:
    """Return the plan in a file; raise `CommandError` where it holds no whole one."""
    file = source.file
    try:
        return _plan(source.read())
    except OSError as error:  # of gzip, too
        raise CommandError(f"the plan in {file} cannot be read: {error.strerror or error}", Exit.USAGE) from error
    except UnreadablePlanError as error:
        raise CommandError(f"{file} holds no plan that can be pruned by: {error}", Exit.USAGE) from error
    except (EOFError, ValueError, RecursionError, zlib.error) as error:
        message = f"{file} holds no plan: it is neither JSON of `plan -o json` or `report -o json` nor a full report"
        raise CommandError(message, Exit.USAGE) from error


def read_in_use(source: Source) -> InUse:
    """Return what a file of the operator's says is in use; raise `CommandError` where it does not."""
    file = source.file
    try:
        return read_use(source.read())
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror or error}", Exit.USAGE) from error
    except (UnreadableUseError, EOFError, zlib.error) as error:
        raise CommandError(f"{file} does not say what is in use", Exit.USAGE) from error


def _plan(text: bytes) -> WrittenPlan:
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        return read_lines(json.loads(line) for line in text.splitlines())
    if isinstance(document, dict) and document.get("type") == "run":
        return read_lines([document])
    return read_document(document)
