"""What an explanation says, in sentences for people, by section."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from registry_cleanup.cli.explaining.work import Found
from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.duration import duration_text
from registry_cleanup.domain.explanation import Age, Explanation, Held, Other, Rank, Related
from registry_cleanup.domain.namings import RuleTold, Says, Selection
from registry_cleanup.domain.usage import users_by_digest, users_by_name
from registry_cleanup.domain.verdict import KeepReason, PruneReason

# Of many others, so many are named; JSON has all.
_NAMED = 8

_UNITS = [timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)]

_KEPT = {
    KeepReason.UNMATCHED: "no rule owns it",
    KeepReason.EXCLUDED: "tags.exclude of the rule that owns it matches",
    KeepReason.KEEP_TAGS: "its name or a mark keeps it, whatever the rules say",
    KeepReason.MOST_RECENT: "its image is among those that keep.mostRecent keeps",
    KeepReason.NOT_OLD_ENOUGH: "it is younger than the rule's olderThan",
    KeepReason.MINIMUM_TAGS: "it was added back, so that minTagsPerRepository stay",
    KeepReason.SHARED_DIGEST: "a tag that stays stands on its digest, and only whole digests can be deleted here",
    KeepReason.UNKNOWN_DATE: "its date is missing, or cannot be true",
    KeepReason.UNPARSABLE_VERSION: "the rule orders by a version, and the tag spells none",
    KeepReason.FOLLOWS_PARENT: "an index that stays lists it, or what it refers to stays",
    KeepReason.ORPHAN_REFERRER: "it refers to a subject that is not there",
    KeepReason.DANGLING: "the registry lists it, and has no manifest for it",
    KeepReason.MANAGED_BY_SPEC: "the image stream's own spec brings it",
    KeepReason.IN_USE: "it is in use",
    KeepReason.UNKNOWN_FORMAT: "its manifest is of a kind that nobody here understands",
    KeepReason.POLICY_CONFLICT: "an older policy prunes this repository",
    KeepReason.IN_USE_UNKNOWN: "a container runs an image of this repository that nobody could find there",
}
_PRUNED = {
    PruneReason.OLDER_THAN: "older than its rule asks for",
    PruneReason.BEYOND_MOST_RECENT: "not among the most recent images",
}


def verdict_of(told: Explanation) -> tuple[str, str]:
    """Return the colour of a verdict, and what it is."""
    verdict = told.verdict
    if verdict is None:
        return "yellow", "is not there: the registry lists no such tag"
    if verdict.kept is not None:
        return "green", f"stays ({verdict.kept.value}): {_KEPT.get(verdict.kept, verdict.kept.value)}"
    why = " and ".join(_PRUNED[reason] for reason in verdict.pruned)
    after = ", as what it refers to is" if verdict.subject is not None else ""
    return "red", f"goes ({', '.join(reason.value for reason in verdict.pruned)}), by rule {verdict.rule}: {why}{after}"


def sections(found: Found, told: Explanation) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield titles, each with its sentences; there may be none."""
    if told.verdict is None:
        yield "Were it there", [*_names(told)]
        yield "Similar tags", [", ".join(told.similar)] if told.similar else []
        return
    nothing = "Nothing that was tried keeps it." if told.verdict.goes else "Nothing that was tried lets it go."
    yield "Rules", [*_names(told)]
    yield "Age", [*_age(told.age, found)]
    yield "Place", [*_rank(told.rank)]
    yield "Image", [*_image(found, told), *_hanging(told)]
    yield "In use by", [*_users(found, told)]
    yield "Repository", [*_repository(found, told)]
    yield "When it goes", [*_held(found, told.held)] if told.held is not None else []
    yield "What would change that", [str(each) for each in told.what_ifs] or [nothing]


def _names(told: Explanation) -> Iterator[str]:
    for naming in told.namings:
        yield f"{naming.field} keeps it: '{naming.pattern}' matches"
    for rule in told.rules:
        yield f"{rule.name}: {_rule(rule)}"


def _rule(rule: RuleTold) -> str:
    match rule.says:
        case Says.OWNS:
            return f"owns it: tags.include '{rule.include}' matches, and no earlier rule does"
        case Says.WOULD_OWN:
            return f"would own it (tags.include '{rule.include}' matches) if its name did not keep it"
        case Says.EXCLUDES:
            return f"tags.include '{rule.include}' matches, and keeps it: tags.exclude '{rule.exclude}' matches, too"
        case Says.LATER:
            return f"tags.include '{rule.include}' matches, and is not asked: an earlier rule has the tag"
        case Says.NO_MATCH:
            return "no pattern of tags.include matches"
        case Says.REFERRER:
            return f"tags.include '{rule.include}' matches, and is not asked: the tag names a referrer"
        case Says.OTHER_REPOSITORIES:
            if rule.repositories is not None:
                return f"not for this repository: repositories.exclude '{rule.repositories}' matches"
            return "not for this repository: no glob of repositories.include matches"


def _age(age: Age | None, found: Found) -> Iterator[str]:
    if age is None or found.known is None:
        return
    if age.date is None:
        yield "Nothing says when its image was created."
        return
    ago = found.known.now - age.date
    how_long = f"{_about(ago)} ago" if ago.total_seconds() >= 0 else "yet to come"
    yield f"{age.source} {_instant(age.date)}, {how_long}"
    if not age.plausible:
        yield "That cannot be true (before 2013-03-20, or to come), so its date counts as unknown."
    if age.older_than is None or age.older is None:
        return
    what = f"olderThan of rule {age.rule} ({duration_text(age.older_than)})"
    if age.older:
        yield f"It is older than {what}, since {_instant(age.old_enough)}."
    else:
        until = f", until {_instant(age.old_enough)}" if age.old_enough is not None else ""
        yield f"It is not older than {what}{until}."


def _rank(rank: Rank | None) -> Iterator[str]:
    if rank is None:
        return
    by = "date" if rank.version is None and rank.order_by == "Date" else rank.order_by
    if rank.order_by != "Date":
        yield f"It spells the version {rank.version}." if rank.version is not None else f"It spells no {by} version."
    of = f"{rank.images} image{'' if rank.images == 1 else 's'} that rule {rank.rule} counts here, by {by}"
    if rank.place is None:
        yield f"It takes no place among the {of}."
    else:
        tie = f", equal to {rank.equal} other{'' if rank.equal == 1 else 's'}" if rank.equal else ""
        yield f"Its image is number {rank.place} of the {of}{tie}."
    if rank.keep is not None:
        inside = "" if rank.place is None else ": so its image is among them" if rank.kept else ": so its image is not"
        yield f"keep.mostRecent keeps {rank.keep}{inside}."
    if rank.last_kept:
        yield f"The last one kept is {_some(rank.last_kept)} ({_position(rank)}); whatever equals it is kept, too."


def _image(found: Found, told: Explanation) -> Iterator[str]:
    if told.dangling:
        yield "The registry lists the tag, and answers 404 for its manifest."
    if told.digest is not None:
        yield f"{told.digest} ({(told.format or 'Unknown').lower()})"
    only = found.known is not None and found.known.unit is DeletionUnit.DIGEST
    if told.siblings:
        how = (
            "only whole digests can be deleted here, so all of them go or stay together" if only else "each goes alone"
        )
        yield f"On the same digest: {_others(told.siblings)}; {how}."
    if told.unseen and told.digest is not None:
        yield f"{told.unseen} tags were not looked at, and may stand on it, too."
    for mark in told.marks:
        yield f"Marked registrycleanup.dev/keep: {mark}"
    if told.managed:
        yield "The image stream's own spec brings it."


def _hanging(told: Explanation) -> Iterator[str]:
    """Yield what hangs together with the image: what lists it, what it lists, and what refers to it."""
    for related in told.parents:
        yield f"Listed by {_related(related)}"
    for related in told.children[:_NAMED]:
        yield f"Lists {_related(related)}"
    if len(told.children) > _NAMED:
        yield f"Lists {len(told.children) - _NAMED} more."
    if told.subject is not None:
        yield f"Refers to {_related(told.subject)}"
    for related in told.referrers[:_NAMED]:
        yield f"Referred to by {_related(related)}"
    if told.untagged:
        what = "deleted, too" if told.deletes_untagged else "left without a name, for the registry's garbage collection"
        yield f"With it {len(told.untagged)} manifest{'' if len(told.untagged) == 1 else 's'} would be {what}."


def _users(found: Found, told: Explanation) -> Iterator[str]:
    """Yield who uses it, and by which reference, as far as that is known."""
    if found.known is None:
        return
    there, in_use = found.known.inventory, found.known.in_use
    named, digests = users_by_name(there, in_use, told.tag), users_by_digest(there, in_use, told.tag)
    for user in told.users:
        if user in named:
            yield f"{user}, by the name {there.repository}:{told.tag}"
        elif (digest := digests.get(user)) is not None:
            what = "its digest" if digest == told.digest else "what belongs to it,"
            yield f"{user}, by {what} {digest}"
        else:
            yield str(user)


def _repository(found: Found, told: Explanation) -> Iterator[str]:
    stay = "1 tag of it stays" if told.staying == 1 else f"{told.staying} tags of it stay"
    yield f"{stay}; minTagsPerRepository is {told.minimum}."
    if found.known is not None:
        alone = found.known.unit is DeletionUnit.TAG
        yield f"The registry {'removes tags alone' if alone else 'deletes whole digests only, with all tags on them'}."
    for rival in told.rivals:
        what = "prunes here, and this one keeps all" if rival.older else "is younger, and keeps all here"
        yield f"Policy {rival.namespace}/{rival.name} selects it, too: it {what}."


def _held(found: Found, held: Held) -> Iterator[str]:
    policy = found.policy
    grace = policy.policy.grace_period
    if held.reason is KeepReason.UNDONE:
        yield "An undo put it back, so it stays (Undone) until the policy is changed."
    if held.may_go is not None and held.published is not None:
        since, until = _instant(held.published), _instant(held.may_go)
        yield f"It has been in the published plan since {since}, and may go from {until} on."
    elif grace:
        known = "it is not in the published plan" if found.published is not None else "nobody knows what was published"
        yield f"The grace period ({duration_text(grace)}) counts from the first published plan that has it; {known}."
    for exceeded in held.limits:
        yield f"A limit speaks against it: {exceeded}."
    if policy.policy.approval_required:
        yield "The plan has to be approved."
    if policy.dry_run:
        yield "The policy has dryRun: true, so nothing goes at all."
    if policy.suspend:
        yield "The policy is suspended, so nothing goes at all."


def unselected(found: Found) -> str:
    """Say why a repository is not the policy's business."""
    name, selection = found.reference.repository, found.selection
    return f"{found.reference} is not this policy's business: {_why_not(name, selection)}."


def _why_not(repository: str, selection: Selection) -> str:
    if selection.exclude:
        return f"spec.repositories.exclude '{selection.exclude[0]}' matches {repository}"
    globs = ", ".join(map(repr, selection.globs[:_NAMED]))
    return f"no glob of spec.repositories.include ({globs}) matches {repository}; '{repository}' would"


def untagged(found: Found) -> str:
    """Say what is known of a digest on which no tag stands."""
    digest, known = found.reference.digest, found.known
    if known is None or digest is None:
        return f"{found.reference}: nothing is known"
    manifests = known.inventory.manifests
    if digest not in manifests:
        return f"{found.reference} is not there: no tag stands on it, and the registry has no such manifest."
    parents = sorted(m.digest for m in manifests.values() if digest in m.children)
    told = f"; {', '.join(parents)} lists it" if parents else ""
    return f"{found.reference}: no tag stands on it, so no rule looks at it{told}."


def _others(others: Sequence[Other]) -> str:
    shown = [f"{each.tag} ({'goes' if each.reason is None else each.reason})" for each in others[:_NAMED]]
    return ", ".join([*shown, *([f"{len(others) - _NAMED} more"] if len(others) > _NAMED else [])])


def _related(related: Related) -> str:
    tags = _others(related.tags)
    return f"{related.digest}: {tags}" if tags and related.digest else related.digest or tags


def _position(rank: Rank) -> str:
    at = rank.last_position or ""
    return _instant(datetime.fromisoformat(at)) if rank.order_by == "Date" and at else at


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _instant(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _about(age: timedelta) -> str:
    """Return an age in its largest unit: nobody counts the hours of a month."""
    unit = next((unit for unit in _UNITS if age >= unit), _UNITS[-1])
    return duration_text(age // unit * unit)
