"""What `run` shows: the plan before it asks, and in the end what became of each tag."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TextIO

import click

from registry_cleanup.cli.exits import Exit
from registry_cleanup.cli.files.policy_file import STDIN
from registry_cleanup.cli.output.printed import Printed
from registry_cleanup.cli.output.words import safe
from registry_cleanup.cli.plans.findings import Show, View
from registry_cleanup.cli.plans.summary import of_plan
from registry_cleanup.cli.plans.waiting import as_published
from registry_cleanup.cli.telling import tell
from registry_cleanup.domain.report import Line, read_report
from registry_cleanup.domain.run import Phase, RunReport
from registry_cleanup.kube.spec import ParsedPolicy

_OF_PLANS = ("published", "waiting")


@dataclass(frozen=True, slots=True)
class Shown:
    """A report, as it is shown.

    Attributes:
        policy: whose.
        where: it is from.
        report: of the run.
        head: the first line; empty where no plan came about.
        lines: all others.
    """

    policy: ParsedPolicy
    where: str
    report: RunReport
    head: Line
    lines: Sequence[Line]

    @classmethod
    def of(cls, policy: ParsedPolicy, where: str, report: RunReport, content: bytes) -> Shown:
        """Return the report of a run, of which `content` are the lines, where a plan came about."""
        head, *lines = list(read_report(content)) if content and report.plan is not None else [{}]
        return cls(policy, where, *as_published(policy.policy, report, head, lines))

    def printed(self, kind: str, what: Show) -> Printed:
        """Return it as the output of all commands takes it."""
        summary = of_plan(self.policy, self.where, self.head, self.report, published=True)
        # What is over waits for nothing.
        plan = {key: value for key, value in summary.plan.items() if kind == "Plan" or key not in _OF_PLANS}
        whole = f"registry-cleanup plan -f {self._file}"
        return Printed(replace(summary, kind=kind, plan=plan), self.head, self.lines, View(what), whole=whole)

    @property
    def _file(self) -> str:
        # Standard input is not there a second time.
        return "FILE" if self.where == STDIN else shlex.quote(self.where)


def ending(report: RunReport) -> str:
    """Return what a person is told of the end of a run."""
    words = {
        Phase.SUCCEEDED: "Done",
        Phase.PARTIAL: "Done in part",
        Phase.INTERRUPTED: "Stopped",
        Phase.FAILED: "Failed",
        Phase.BLOCKED: "Held back",
        Phase.AWAITING_APPROVAL: "Held back",
        Phase.RUNNING: "Running",
    }[report.phase]
    # The message of one that was stopped begins with that, too.
    return f"{words}: {report.message.removeprefix('stopped: ')}"


@contextmanager
def concluded(words: str, code: Exit) -> Iterator[None]:
    """Tell a person `words` after what is printed in the context, and also where that cannot be written.

    Where nobody reads it, a run that did not end well keeps its own exit `code`.
    """
    try:
        yield
    except BrokenPipeError:
        if code is Exit.DONE:
            raise
    finally:
        tell(words)


def show_plan(shown: Shown, *, to_stderr: bool) -> None:
    """Show what a plan would prune, and its totals."""
    if shown.head:
        _write("table", shown.printed("Plan", Show.GOING), sys.stderr if to_stderr else sys.stdout)


def print_document(shown: Shown) -> None:
    """Print a plan, or what became of it, as one JSON document; nothing where no plan came about."""
    if shown.head:
        _write("json", shown.printed("Plan" if shown.report.order.plan_only else "Report", Show.ALL), sys.stdout)


def show_outcomes(lines: Iterable[Line], *, to_stderr: bool = False) -> None:
    """Show what became of each tag that was to go, and of manifests without a name."""
    ended = [line for line in lines if "outcome" in line]
    repository = None
    for line in sorted(ended, key=lambda line: (line["repository"], line["type"], line.get("tag", line["digest"]))):
        if line["repository"] != repository:
            repository = line["repository"]
            click.echo(safe(repository), err=to_stderr)
        what = line.get("tag", line["digest"])
        code = f" ({line['code']})" if "code" in line else ""
        click.echo(safe(f"  {line['outcome']:<12} {what}{code}"), err=to_stderr)


def _write(output: str, printed: Printed, out: TextIO) -> None:
    # Only now: to plan takes none of it.
    if output == "json":
        from registry_cleanup.cli.output.documents import write_json as write
    else:
        from registry_cleanup.cli.output.table import write_table as write
    write(printed, out)
    out.flush()
