"""A plan as `plan`, `report` and the operator write it down: read back, proved whole, and what forbids to prune by it.

What it plans is proved by its hash, which covers policy, registry and every planned tag with its digest: a plan that is
cut, narrowed to a part, or edited has another. What holds some of that back is counted. What else it says can only keep
more, wherever it is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from registry_cleanup.domain.clocks import CLOCK_TOLERANCE
from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.duration import duration_text
from registry_cleanup.domain.reference import Digest, is_repository, is_tag, parse_digest
from registry_cleanup.domain.report import SPARING


class UnreadablePlanError(ValueError):
    """What was read is no plan, or not a whole one; the message says how that shows."""


@dataclass(frozen=True, slots=True)
class PlannedTag:
    """A tag that goes, or would.

    Attributes:
        digest: that it named.
        subject: of a referrer, as much of its subject's digest as `reference.subject_key` keeps.
        spared: why it does not go now, in the words of the report; None where it does.
    """

    digest: Digest
    subject: str | None = None
    spared: str | None = None


@dataclass(frozen=True, slots=True)
class PlannedRepository:
    """What is planned in one repository.

    Attributes:
        name: its name.
        tags: that are planned.
        untagged: manifests that the plan leaves without a name.
    """

    name: str
    tags: Mapping[str, PlannedTag]
    untagged: frozenset[Digest] = frozenset()


@dataclass(frozen=True, slots=True)
class WrittenPlan:
    """A whole plan.

    Attributes:
        policy: its UID.
        registry: host and port.
        run: ID of the run that made it.
        hash: its name.
        generated_at: when it was made, aware.
        repositories: in which anything is planned, sorted.
        unit: what the registry can delete; None where the plan does not say.
        deletes_untagged: whether manifests that are left without a name go too.
        unapproved: tags that wait for somebody's approval; None where the plan does not say.
        withheld: why its policy prunes nothing, whatever is planned.
    """

    policy: str
    registry: str
    run: str
    hash: str
    generated_at: datetime
    repositories: Sequence[PlannedRepository]
    unit: DeletionUnit | None = None
    deletes_untagged: bool = False
    unapproved: int | None = None
    withheld: Sequence[str] = ()

    @property
    def planned(self) -> int:
        """How many tags are planned, whether they may go now or not."""
        return sum(len(each.tags) for each in self.repositories)


def objection(
    plan: WrittenPlan, now: datetime, most_age: timedelta, approved: str | None, registry: str | None
) -> str | None:
    """Return what forbids to prune by `plan`; None where nothing does.

    Args:
        plan: which.
        now: the instant of the decision, aware.
        most_age: what is in use, and when tags are pushed, is as old as the plan.
        approved: hash of the plan that a person approves here, if one does.
        registry: host and port of the registry that is meant; None where nobody says.
    """
    if registry is not None and registry != plan.registry:
        return f"the plan is of registry {plan.registry}, not of {registry}"
    if plan.generated_at - now > CLOCK_TOLERANCE:
        return f"the plan was made in the future ({plan.generated_at.isoformat()}): one of two clocks is wrong"
    if now - plan.generated_at > most_age:
        return (
            f"the plan is older than {duration_text(most_age)} ({plan.generated_at.isoformat()}), and what is in use "
            "by now is not known of it: make a new one"
        )
    if approved is not None and approved != plan.hash:
        return f"--approve names {approved}, and this plan is {plan.hash}"
    if plan.withheld:
        return f"the policy prunes nothing: {'; '.join(plan.withheld)}"
    if approved is not None:
        return None
    if plan.unapproved is None:
        return f"the plan does not say whether it is approved: look at it, and say --approve {plan.hash}"
    if plan.unapproved:
        return (
            f"{plan.unapproved} planned tags wait for approval (approval.required, or a limit): look at them, and say "
            f"--approve {plan.hash}"
        )
    return None


# Reading


def read_document(document: Mapping[str, Any]) -> WrittenPlan:
    """Return the plan that `plan -o json` or `report -o json` wrote; raise `UnreadablePlanError`."""
    try:
        totals, run = document["plan"], document["run"]
        waiting = totals.get("waiting")
        if any("repository" not in failure for failure in document["failures"]):
            raise UnreadablePlanError("the run that made it failed, so it is not whole")
        withheld = _withheld(document["kind"], run, waiting)
        head = _Head(
            document["policy"]["uid"],
            run["registry"],
            run["id"],
            totals["hash"],
            totals["generatedAt"],
            totals.get("deletionUnit"),
            totals.get("untaggedManifestsLeft"),
            totals.get("unapproved") if waiting is None else waiting["unapproved"],
            totals.get("spared"),
            withheld,
        )
        return _plan(head, document["lines"])
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise _unreadable(error) from error


def read_lines(lines: Iterable[Mapping[str, Any]]) -> WrittenPlan:
    """Return the plan of a full report, as the operator writes it; raise `UnreadablePlanError`."""
    try:
        rest = iter(lines)  # of hundreds of thousands, few are held
        first = next(rest)
        if first["type"] != "run":
            raise UnreadablePlanError("it does not begin with its run")
        if first["repositoriesCut"]:
            raise UnreadablePlanError("repositories are cut off")
        head = _Head(
            first["policy"],
            first["registry"],
            first["run"],
            first["plan"],
            first["generatedAt"],
            first.get("deletionUnit"),
            first.get("untaggedManifestsLeft"),
            first.get("unapproved"),
            first.get("spared"),
            _PLAN_ONLY if first["planOnly"] else (),
        )
        return _plan(head, rest)
    except (StopIteration, LookupError, TypeError, AttributeError, ValueError) as error:
        raise _unreadable(error) from error


_PLAN_ONLY = ("its run only planned (dryRun, or a policy that is new or was changed)",)


def _withheld(kind: str, run: Mapping[str, Any], waiting: Mapping[str, Any] | None) -> tuple[str, ...]:
    if kind == "Report":
        return _PLAN_ONLY if run["planOnly"] else ()
    if kind != "Plan" or waiting is None:
        raise UnreadablePlanError("it is neither a whole plan nor a report")
    told = {"dryRun": "spec.dryRun is true", "suspended": "spec.suspend is true"}
    return tuple(words for field_, words in told.items() if waiting[field_])


@dataclass(frozen=True, slots=True)
class _Head:
    """What is said of the plan as a whole, before it is believed."""

    policy: str
    registry: str
    run: str
    hash: str
    generated_at: str
    unit: str | None
    untagged_left: int | None
    unapproved: int | None
    spared: int | None
    withheld: Sequence[str]


@dataclass(slots=True)
class _Lines:
    """The lines of one repository so far."""

    tags: dict[str, PlannedTag] = field(default_factory=dict)
    spared: dict[str, str] = field(default_factory=dict)
    untagged: set[Digest] = field(default_factory=set)
    needed: set[Digest] = field(default_factory=set)


def _plan(head: _Head, lines: Iterable[Mapping[str, Any]]) -> WrittenPlan:
    found: dict[str, _Lines] = {}
    spared = 0
    for line in lines:
        spared += line["type"] == "held" or line.get("outcome") in SPARING
        if line["type"] == "cut":
            raise UnreadablePlanError("repositories are cut off")
        repository = line["repository"]
        if not is_repository(repository):
            raise UnreadablePlanError("it names a repository that cannot be one")
        _take(found.setdefault(repository, _Lines()), line)
    repositories = tuple(_repository(name, found[name]) for name in sorted(found) if found[name].tags)
    if _hash(head, repositories) != head.hash:
        raise UnreadablePlanError("what it plans is not what its hash names: it is cut, narrowed to a part, or changed")
    if head.spared not in (None, spared):
        raise UnreadablePlanError("it lacks what holds some of it back, or has more of that than it says: it is cut")
    generated_at = datetime.fromisoformat(head.generated_at)
    if generated_at.tzinfo is None:
        raise UnreadablePlanError("its time has no time zone")
    return WrittenPlan(
        head.policy,
        head.registry,
        head.run,
        head.hash,
        generated_at,
        repositories,
        None if head.unit is None else DeletionUnit(head.unit),
        # Manifests without a name are all left, or all deleted, as the policy says; where nobody says it, they stay.
        head.untagged_left == 0,
        None if head.spared is None else head.unapproved,
        head.withheld,
    )


def _take(found: _Lines, line: Mapping[str, Any]) -> None:
    match line["type"]:
        case "tag" if line["verdict"] == "Prune":
            if not is_tag(line["tag"]) or line["tag"] in found.tags:
                raise UnreadablePlanError("it names a tag twice, or one that cannot be one")
            found.tags[line["tag"]] = PlannedTag(parse_digest(line["digest"]), line.get("subject"))
        case "held":
            found.spared[line["tag"]] = line["reason"]
        case "outcome" if line["outcome"] in SPARING:
            found.spared[line["tag"]] = line["outcome"]
        case "untagged":
            digest = parse_digest(line["digest"])
            (found.needed if line.get("outcome") in SPARING else found.untagged).add(digest)
        case _:
            pass  # what stays stays by itself


def _repository(name: str, lines: _Lines) -> PlannedRepository:
    tags = {
        tag: PlannedTag(planned.digest, planned.subject, lines.spared.get(tag)) for tag, planned in lines.tags.items()
    }
    return PlannedRepository(name, tags, frozenset(lines.untagged - lines.needed))


def _hash(head: _Head, repositories: Iterable[PlannedRepository]) -> str:
    """Return the hash that `plan.plan_hash` gives to the same plan."""
    digest = hashlib.sha256(f"{head.policy}\n{head.registry}\n".encode())
    for line in _hashed(repositories):
        digest.update(line.encode())
    return digest.hexdigest()


def _hashed(repositories: Iterable[PlannedRepository]) -> Iterator[str]:
    for repository in repositories:
        for tag in sorted(repository.tags):
            yield f"{repository.name}\t{tag}\t{repository.tags[tag].digest}\n"


def _unreadable(error: Exception) -> UnreadablePlanError:
    if isinstance(error, UnreadablePlanError):
        return error
    return UnreadablePlanError("it is no plan or report of registry-cleanup, or is damaged")
