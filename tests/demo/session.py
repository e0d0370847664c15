"""What a person types at the command line during the demo, and what of it README.md shows."""

import hashlib
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path

from tests.support.command import COMMAND, environment
from tests.support.operator import REPOSITORY_ROOT

README = REPOSITORY_ROOT / "README.md"
POLICY_FILE = "policy.yaml"
_BLOCK = re.compile(
    r"^(<!-- session: made by make readme-session -->\n).*?^(<!-- /session -->)$", re.DOTALL | re.MULTILINE
)
_LIMIT = 60.0
# So many lines of a command's output the demo shows.
_SHOWN = 30


class Moment(Enum):
    """When something is typed: before the cluster has a policy, and after the operator has pruned."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Typed:
    """One command line.

    Attributes:
        line: as it is typed, after the program's name.
        in_readme: so many lines at the beginning and at the end of its output README.md shows; None leaves the command
            out there.
    """

    line: str
    in_readme: tuple[int, int] | None = None


# What is there, what would go, why does this stay, what went? Which of them the README shows, and how much, is a matter
# of taste, and of the room there.
_SESSION: Mapping[Moment, Sequence[Typed]] = {
    Moment.BEFORE: (
        Typed("list {host}/shop/web --insecure", in_readme=(9, 0)),
        Typed(f"plan -f {POLICY_FILE} --repository shop/web", in_readme=(5, 0)),
        Typed(f"explain -f {POLICY_FILE} shop/web:build-7", in_readme=(1, 2)),
    ),
    Moment.AFTER: (Typed("report demo --verdict prune"),),
}


def session(host: str) -> Mapping[Moment, Sequence[Typed]]:
    """Return what is typed about the registry at `host`."""
    return {
        moment: [Typed(each.line.format(host=host), each.in_readme) for each in typed]
        for moment, typed in _SESSION.items()
    }


class CommandFailedError(Exception):
    """A command of the session ended with another code than 0; the message has all that it said."""


class Person:
    """Somebody with a folder and a kubeconfig, who types.

    Attributes:
        folder: the home and working folder, in which the policy's file is.
    """

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self.folder = folder
        self._environment = environment(folder, KUBECONFIG=str(kubeconfig))
        self._typed: list[str] = []

    def types(self, typed: Typed) -> str:
        """Run a command; return what the terminal shows then.

        Raises:
            CommandFailedError: it did not end well.
        """
        done = subprocess.run(
            [*COMMAND, *typed.line.split()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=self._environment,
            timeout=_LIMIT,
        )
        shown = f"$ registry-cleanup {typed.line}"
        if done.returncode != 0:
            raise CommandFailedError(f"{shown}\n{done.stdout}{done.stderr}ended with code {done.returncode}")
        if typed.in_readme is not None:
            # Progress and notes are for the moment.
            self._typed += [shown, *_some(done.stdout, *typed.in_readme)]
        return "\n".join([shown, *done.stderr.splitlines(), *_some(done.stdout, _SHOWN)])

    def masked(self) -> str:
        """Return what the README shows of all that was typed."""
        return masked("\n".join(self._typed), datetime.now(UTC).date())


def _some(text: str, first: int, last: int = 0) -> list[str]:
    """Return the first and the last lines of `text`, and between them how many are left out."""
    lines = text.rstrip().splitlines()
    if (left := len(lines) - first - last) <= 0:
        return lines
    return [*lines[:first], f"… and {left} more lines" + (" …" if last else ""), *lines[first + left :]]


# What is another each time: the port, today, and with it the content of every image

_PORT = re.compile(r"127\.0\.0\.1:\d+")
_DAY = re.compile(r"\b(\d{4}-\d{2}-\d{2})(?:([T ])\d{2}:\d{2}(:\d{2})?(?:\.\d+)?)?")
_RUN = re.compile(r"\b\d{8}-\d{6}-[0-9a-f]{6}\b")
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_HEX = re.compile(rf"\b{_UUID}\b|\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{{10,64}}\b")
_SECONDS = re.compile(r"\b\d+\.\d+ s\b")
SHOWN_DAY = date(2026, 11, 25)
# Build tools' placeholder for a date: the same each day.
_EPOCH = 1970


def masked(text: str, today: date) -> str:
    """Return what a session would say with another port, on another day; of the same width where that can be."""
    known: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        """Return something that looks like it, the same for the same."""
        digits = iter(hashlib.sha256(str(len(known)).encode()).hexdigest())
        return known.setdefault(found[0], re.sub("[0-9a-f]", lambda _: next(digits), found[0]))

    def day(found: re.Match[str]) -> str:
        if date.fromisoformat(found[1]).year <= _EPOCH:
            return found[0]
        moved = (SHOWN_DAY + (date.fromisoformat(found[1]) - today)).isoformat()
        return moved if found[2] is None else f"{moved}{found[2]}12:00{':00' if found[3] else ''}"

    text = _RUN.sub(f"{SHOWN_DAY:%Y%m%d}-120000-abc123", text)
    text = _HEX.sub(number, text)
    text = _SECONDS.sub("0.1 s", text)
    # Of five digits, as the ports that a system hands out mostly have.
    return _DAY.sub(day, _PORT.sub("127.0.0.1:50000", text))


def with_session(page: str, text: str) -> str:
    """Return the page with the session in its block."""
    return _BLOCK.sub(lambda found: f"{found[1]}\n```console\n{text}\n```\n\n{found[2]}", page)


def session_in(page: str) -> list[str]:
    """Return the lines of the session that the page shows."""
    found = _BLOCK.search(page)
    return found[0].partition("```console\n")[2].partition("\n```")[0].splitlines() if found else []
