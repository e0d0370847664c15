"""The work of `test`: from names and dates as people write them to verdicts as they read them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from registry_cleanup.cli.bounds import bounds_here
from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.files.policy_file import STDIN, read_one
from registry_cleanup.cli.telling import tell
from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.duration import duration_text, parse_period
from registry_cleanup.domain.policy import Policy
from registry_cleanup.domain.reference import is_repository, is_tag
from registry_cleanup.domain.trial import Outcome, Trial, TriedTag, made_up_repository, try_tags
from registry_cleanup.kube.offline import parse
from registry_cleanup.kube.spec import InvalidSpecError

_HEADINGS = ("TAG", "RULE", "VERDICT", "WHY")


def try_names(
    file: Path,
    name: str | None,
    given: Sequence[str],
    repository: str | None,
    dates: Sequence[str],
    now: str | None,
    *,
    by_digest: bool,
    as_json: bool,
) -> Iterator[str]:
    """Yield the lines of what becomes of the tags `given`.

    Raises:
        CommandError: the policy, or what was given, is wrong.
    """
    if str(file) == STDIN and STDIN in given:
        raise CommandError("standard input can be the policy or the tags, not both", Exit.USAGE)
    document = read_one(file, name)
    try:
        policy = parse(document.body, bounds_here()).policy
    except InvalidSpecError as error:
        raise CommandError(document.told(document.located(error.errors)), Exit.USAGE) from error
    instant = datetime.now(UTC) if now is None else _instant(now, datetime.now(UTC))
    tags = _tags(given, dates, instant)
    place = _repository(policy, repository)
    unit = DeletionUnit.DIGEST if by_digest else DeletionUnit.TAG
    try:
        trials = try_tags(policy, place, tags, unit, instant)
    except ValueError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    if as_json:
        yield _json(trials, document.name, document.namespace, place, instant)
        return
    for note in _notes(policy, trials, place, unit, assumed=repository is None):
        tell(f"Note: {note}")
    yield from _table(trials)


def _repository(policy: Policy, given: str | None) -> str:
    if given is None:
        found = made_up_repository(policy)
        if found is None:
            raise CommandError("name a repository that the policy selects with --repository", Exit.USAGE)
        return found
    if not is_repository(given):
        raise CommandError(f"--repository {given!r} cannot be the name of a repository", Exit.USAGE)
    if not policy.repositories.selects(given):
        raise CommandError(f"spec.repositories does not select {given}: nothing is ever pruned there", Exit.USAGE)
    return given


def _tags(given: Iterable[str], dates: Iterable[str], now: datetime) -> list[TriedTag]:
    found: dict[str, TriedTag] = {}
    for text in given:
        if text == STDIN:
            _add_lines(found, sys.stdin.buffer.read().decode("utf-8-sig", errors="replace"), now)
            continue
        for part in text.split(","):
            if words := part.partition("#")[0].strip():
                _add(found, words, None)
    for text in dates:
        tag, equals, when = text.partition("=")
        if not equals:
            raise CommandError(f"--date {text!r}: write TAG=DATE or TAG=AGE, such as {tag}=30d", Exit.USAGE)
        if tag not in found:
            raise CommandError(f"--date {text!r}: {tag!r} is not among --tags", Exit.USAGE)
        if found[tag].date is not None:
            raise CommandError(f"--date {text!r}: the date of {tag!r} is given twice", Exit.USAGE)
        found[tag] = TriedTag(tag, found[tag].image, _instant(when, now))
    if not found:
        raise CommandError("no tags are given", Exit.USAGE)
    return list(found.values())


def _add_lines(found: dict[str, TriedTag], text: str, now: datetime) -> None:
    # Whatever else Python takes for the end of a line, editors do not count.
    for number, line in enumerate(text.split("\n"), 1):
        words = line.partition("#")[0].split(maxsplit=1)
        try:
            if words:
                _add(found, words[0], _instant(words[1].strip(), now) if len(words) > 1 else None)
        except CommandError as error:
            raise CommandError(f"line {number} of standard input: {error}", Exit.USAGE) from error


def _add(found: dict[str, TriedTag], text: str, date: datetime | None) -> None:
    tag, at, image = text.strip().partition("@")
    if not is_tag(tag) or (at and not image):
        wrong = text if is_tag(tag) else tag
        raise CommandError(f"{wrong[:200]!r} cannot be a tag; write TAG or TAG@IMAGE", Exit.USAGE)
    tried = TriedTag(tag, image or None, date)
    if found.setdefault(tag, tried) != tried:
        raise CommandError(f"the tag {tag!r} is given twice, and differently", Exit.USAGE)


def _instant(text: str, now: datetime) -> datetime:
    """Return the instant that a date, a time or an age stands for."""
    try:
        return now - parse_period(text)
    except OverflowError as error:
        raise CommandError(f"{text!r} is longer ago than there are dates", Exit.USAGE) from error
    except ValueError:
        pass
    try:
        date = datetime.fromisoformat(text)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        words = "is no date; write 2026-01-31, 2026-01-31T12:00:00Z, or an age such as 30d"
        raise CommandError(f"{text[:100]!r} {words}", Exit.USAGE) from error


def _notes(
    policy: Policy, trials: Sequence[Trial], repository: str, unit: DeletionUnit, *, assumed: bool
) -> Iterator[str]:
    if assumed:
        yield f"judged as tags of {repository}; --repository names another one"
    undated = {trial.rule for trial in trials if trial.outcome is Outcome.DEPENDS and trial.date is None}
    if any(trial.date is not None and trial.rule in undated for trial in trials):
        yield "those with a date were judged as if those without one were not there"
    if any(trial.outcome is Outcome.PRUNE for trial in trials):
        grace = (
            f", and waits for the grace period of {duration_text(policy.grace_period)}" if policy.grace_period else ""
        )
        yield f"a run would keep what is in use{grace}"
    if any(trial.outcome is not Outcome.KEEP for trial in trials):
        yield (
            "assumed is a registry that deletes whole images only, with all tags on them"
            if unit is DeletionUnit.DIGEST
            else "assumed is a registry that deletes tags alone; --by-digest judges as where only whole images can go"
        )
        yield "indexes, referrers, and digests shared with tags that are not given here would keep more"


def _json(trials: Sequence[Trial], name: str | None, namespace: str | None, repository: str, now: datetime) -> str:
    tags = [
        {
            "tag": trial.tag,
            "rule": trial.rule,
            "verdict": trial.outcome.value,
            "reasons": list(trial.reasons),
            "why": trial.why,
            "date": None if trial.date is None else _shown(trial.date),
        }
        for trial in trials
    ]
    found = {
        "apiVersion": "cli.registrycleanup.dev/v1",
        "kind": "Trial",
        "policy": {"namespace": namespace, "name": name},
        "repository": repository,
        "now": _shown(now),
        "tags": tags,
    }
    return json.dumps(found, indent=2, ensure_ascii=False)


def _shown(instant: datetime) -> str:
    return instant.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _table(trials: Sequence[Trial]) -> Iterator[str]:
    rows = [_HEADINGS, *((each.tag, each.rule or "-", each.outcome.value, each.why) for each in trials)]
    if sys.stdout.isatty():
        yield from _on_terminal(rows)
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS) - 1)]
    for row in rows:
        *cells, why = row
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), why])


def _on_terminal(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the table within the width of the terminal, with the outcomes in colour."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(*rows[0], box=None, pad_edge=False, header_style="bold")
    colours = {Outcome.PRUNE.value: "red", Outcome.KEEP.value: "green", Outcome.DEPENDS.value: "yellow"}
    for tag, rule, outcome, why in rows[1:]:
        table.add_row(Text(tag), Text(rule), Text(outcome, style=colours[outcome]), Text(why))
    with console.capture() as captured:
        console.print(table)
    yield captured.get().rstrip("\n")
