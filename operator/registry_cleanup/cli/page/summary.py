"""The part of the page that stands without its script: headline, totals, facts, and a table for readers without one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape as escape_markup

from registry_cleanup.cli.output.words import freed_when
from registry_cleanup.cli.page.contents import Contents, Repository
from registry_cleanup.cli.page.words import GONE, OUTCOMES, REASONS, Standing, visible

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_KILO = 1024
_MOST_ROWS = 500
# The marks that the timelines draw for these, as pictures before the notes that explain them.
_MARK = '<svg class="mark {0}" viewBox="0 0 12 12" aria-hidden="true" focusable="false"><path d="{1}"/></svg>'
_GOING = _MARK.format("going", "M1 2h10L6 11z")
_WAITING = _MARK.format("waiting", "M1.7 2.5h8.6L6 10z")
_FAILED = _MARK.format("failed", "M2 2l8 8m0-8l-8 8")


def parts(
    contents: Contents,
    policy: str | None,
    message: str | None,
    held_back: Sequence[str],
    prunable_from: datetime | None,
) -> dict[str, str]:
    """Return the pieces of the template that are text of the report, escaped."""
    standings = _standings(contents)
    headline = _headline(contents, standings)
    return {
        "title": escape(f"{headline}: {contents.head['registry']}"),
        "kind": "What a run did" if contents.tried else "What a run would do",
        "headline": escape(headline),
        "held": _held(held_back),
        "lede": _lede(contents),
        "proportions": _proportions(standings),
        "facts": "\n".join(_facts(contents, policy)),
        "notes": "\n".join(_notes(contents, message, held_back, prunable_from)),
        **{str(standing): f"{standings[standing]:,}" for standing in Standing},
        "going_word": "were to go" if contents.tried else "going",
        "table": "\n".join(_rows(list(contents.repositories.values()))),
    }


def human_size(size: int) -> str:
    """Return a number of bytes as people read it."""
    value, unit = float(size), 0
    while value >= _KILO and unit < len(_UNITS) - 1:
        value, unit = value / _KILO, unit + 1
    digits = 0 if unit == 0 or value >= 100 else 1
    return f"{value:,.{digits}f} {_UNITS[unit]}"


def escape(text: str) -> str:
    """Return text of others as markup that shows it."""
    return escape_markup(visible(text))


def _standings(contents: Contents) -> dict[Standing, int]:
    """Return the totals as the run's own counts have them: what was listed and not read whole is kept."""
    listed = sum(repository.incomplete[1] for repository in contents.incomplete if repository.incomplete)
    found = contents.standings
    return {standing: found[standing] + (listed if standing is Standing.KEPT else 0) for standing in Standing}


def _headline(contents: Contents, standings: dict[Standing, int]) -> str:
    total, going = sum(standings.values()), standings[Standing.GOING]
    if contents.tried:
        return f"{contents.gone:,} of {_count(going, 'planned tag')} went"
    if not going:
        return f"Nothing would go: {_count(total, 'tag')} would stay" if total else "No tags at all"
    return f"{going:,} of {_count(total, 'tag')} would go"


def _held(reasons: Sequence[str]) -> str:
    """Return the list of what holds everything back, or nothing."""
    if not reasons:
        return ""
    entries = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    return f'<div class="held"><p id="held">Held back</p><ul aria-labelledby="held">{entries}</ul></div>'


def _lede(contents: Contents) -> str:
    size = contents.head.get("reclaimableBytesEstimate")
    text = (
        f"In {_count(len(contents.repositories), 'repository', 'repositories')} of "
        f"<strong>{escape(contents.head['registry'])}</strong>."
    )
    if size:
        comes = "The whole plan would bring back" if contents.tried else "That would bring back"
        much = human_size(size).replace(" ", "&nbsp;")
        text += f" {comes} about <strong>{much}</strong>, {escape(freed_when(contents.head))}."
    return text


def _facts(contents: Contents, policy: str | None) -> Iterator[str]:
    head = contents.head
    made = datetime.fromisoformat(head["generatedAt"]).astimezone(UTC)
    yield _fact("Policy", policy or head["policy"])
    yield _fact("Registry", head["registry"])
    yield f'<div><dt>Made</dt><dd><time datetime="{made:%Y-%m-%dT%H:%MZ}">{made:%Y-%m-%d %H:%M} UTC</time></dd></div>'
    yield _fact("Run", f"{head['run']}{' (a plan only)' if head.get('planOnly') else ''}")
    yield f'<div class="wide"><dt>Plan</dt><dd><code>{escape(head["plan"])}</code></dd></div>'


def _fact(term: str, value: str) -> str:
    return f"<div><dt>{term}</dt><dd>{escape(value)}</dd></div>"


def _notes(
    contents: Contents, message: str | None, held_back: Sequence[str], prunable_from: datetime | None
) -> Iterator[str]:
    for outcome, number in contents.outcomes.most_common():
        word = OUTCOMES.get(outcome, outcome)
        yield _note(f"{_count(number, 'tag')} {word}", _GOING if outcome in GONE else _FAILED)
    for reason, number in contents.held.most_common():
        one = number == 1
        word = f"{'waits' if one else 'wait'}{REASONS.get(reason, f'waits: {reason}').removeprefix('waits')}"
        when = f" (from {prunable_from.astimezone(UTC):%Y-%m-%d %H:%M} UTC)" if prunable_from is not None else ""
        yield _note(f"{_count(number, 'tag')} {word}{when if reason == 'GracePeriod' else ''}", _WAITING)
    if number := len(contents.incomplete):
        yield _note(f"{_count(number, 'repository', 'repositories')} could not be read whole, where everything stays")
    if number := contents.head.get("repositoriesCut", 0):
        what = _count(number, "repository", "repositories")
        yield _note(f"{what} did not fit into the report, and the totals lack their tags")
    for part in filter(None, (message or "").split("; ")):
        if not any(reason in part for reason in held_back):  # those are told already
            yield _note(part)


def _note(text: str, mark: str = "") -> str:
    return f"<li>{mark}{escape(text)}</li>"


def _proportions(standings: dict[Standing, int]) -> str:
    """Return bars as wide as the shares are; attributes, since the page allows itself no inline style."""
    total, start, bars = sum(standings.values()) or 1, 0.0, []
    for standing in (Standing.GOING, Standing.PROTECTED, Standing.KEPT):
        if number := standings[standing]:
            share = 100 * number / total
            bars.append(f'<rect class="{standing}" x="{start:.3f}%" width="{share:.3f}%" height="100%"/>')
            start += share
    return "".join(bars)


def _rows(repositories: Sequence[Repository]) -> Iterator[str]:
    for repository in repositories[:_MOST_ROWS]:
        numbers = "".join(f"<td>{repository.standings[standing]:,}</td>" for standing in Standing)
        yield f"<tr><th scope=row>{escape(repository.name)}</th>{numbers}<td>{escape(_remark(repository))}</td></tr>"
    if (more := len(repositories) - _MOST_ROWS) > 0:
        yield f"<tr><td colspan=5>and {_count(more, 'more repository', 'more repositories')}</td></tr>"


def _remark(repository: Repository) -> str:
    if repository.incomplete is not None:
        reason, tags = repository.incomplete
        return f"not read whole ({reason}): {_count(tags, 'tag')} stay"
    return f"{_count(repository.cut, 'line')} left out of the report" if repository.cut else ""


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
