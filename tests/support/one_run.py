"""Whole runs in processes of their own, which a test may kill at any moment; the published plan is in a file.

`python -m tests.support.one_run` waits for orders on its standard input, one in a line, and makes a fork of itself for
each: to start an interpreter and load everything for each of some hundred runs would take most of their time.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from typing_extensions import override

from registry_cleanup.domain.published import Published, decode, encode, nothing_published
from registry_cleanup.domain.run import ReportReference
from registry_cleanup.ports import PlanStore
from tests.support.naive import Recipe, RuleRecipe
from tests.support.watched_runs import run_once
from tests.support.world import RecordingAudit


@dataclass(frozen=True)
class FileStore(PlanStore):
    """Keeps the published plan of `a-uid` in a file."""

    file: Path

    @property
    def published(self) -> Published:
        return decode("a-uid", self.file.read_bytes()) if self.file.exists() else nothing_published("a-uid")

    @override
    async def load(self) -> Published:
        return self.published

    @override
    async def save(self, published: Published) -> None:
        # As the API server does with a ConfigMap: whole, or not at all.
        new = self.file.with_suffix(".new")
        new.write_bytes(encode(published))
        new.replace(self.file)

    @override
    async def report(self, content: bytes, cut: int) -> ReportReference:
        return ReportReference("report", "lines", cut)


@dataclass(frozen=True)
class Runs:
    """The process that forks runs.

    Attributes:
        process: To be talked to in lines.
    """

    process: subprocess.Popen[str]

    def start(self, recipe: Recipe, repository: str, url: str, file: Path) -> int:
        """Start a run that prunes, and return its process id."""
        order = {"recipe": asdict(recipe), "repository": repository, "url": url, "file": str(file)}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._number()

    def wait(self) -> int:
        """Wait for the end of the run that was started last and return its exit code, negative for a signal."""
        return self._number()

    def _number(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


@contextmanager
def runs() -> Iterator[Runs]:
    """Run the process that forks runs."""
    command = [sys.executable, "-m", "tests.support.one_run"]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'operator'}{os.pathsep}{root}"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root, env=environment
    ) as process:
        try:
            yield Runs(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def _recipe(values: dict[str, object]) -> Recipe:
    rules = values.pop("rules")
    keep = values.pop("keep")
    assert isinstance(rules, list)
    assert isinstance(keep, list)
    minimum, deletes_untagged = values["minimum"], values["deletes_untagged"]
    assert isinstance(minimum, int)
    assert isinstance(deletes_untagged, bool)
    return Recipe(tuple(RuleRecipe(**rule) for rule in rules), tuple(keep), minimum, deletes_untagged)


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the tests; this ends with its standard input
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            recipe, store = _recipe(order["recipe"]), FileStore(Path(order["file"]))
            asyncio.run(run_once(recipe, order["repository"], order["url"], store, RecordingAudit()))
            os._exit(0)
        _say(child)
        _say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main()
