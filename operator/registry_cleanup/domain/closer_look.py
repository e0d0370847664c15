"""What is read besides what the operator would read, to explain one tag and to try what would have to change."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from registry_cleanup.domain.inventory import Format, Needs
from registry_cleanup.domain.policy import Policy, TagDate
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.situation import Situation, asked, united

# So many requests more are worth an answer; beyond that something is left untold.
_WORTH_READING = 1000


def closer_look(planned: Situation, read: Needs, tags: Collection[str], digest: Digest | None = None) -> Needs:
    """Return what is wanted besides what was `read` to plan a repository.

    That is digest and date of the tags in question; what the rules would need where something else has the say; and, as
    far as it is worth the requests, the manifests of all other tags, which may stand on the same image, or refer to it.

    Args:
        planned: what the repository is planned from.
        read: what was read for that.
        tags: in question.
        digest: in question: every tag may stand on it.
    """
    listed, asked_about = planned.tags, planned.tags & set(tags)
    wanted = united(planned.needs(least=False), Needs(dated=asked_about))
    for tag in asked_about:
        without = _needs_without_names(planned, tag)
        if len(without.dated - wanted.dated) + len(without.read - wanted.read) <= _WORTH_READING:
            wanted = united(wanted, without)
    # Who fills the floor has to be read, and that may be any of those that stay.
    others = sorted(listed - wanted.dated - wanted.read)
    wanted = replace(wanted, read=wanted.read.union(others[:_WORTH_READING]))
    if digest is not None:
        wanted = replace(wanted, resolved=wanted.resolved.union(others), digests=wanted.digests | {digest})
    if planned.inventory.named_only:
        return _of_a_stream(planned, read, wanted)
    known = read.read | read.dated
    dated = (wanted.dated - read.dated) | _settled(planned, read)
    return Needs(
        dated,
        wanted.read - known - dated,
        wanted.resolved - known - read.resolved - dated - wanted.read,
        wanted.digests - read.digests,
        wanted.used - read.used,
        wanted.image_ids - read.image_ids,
    )


def _needs_without_names(planned: Situation, tag: str) -> Needs:
    """Return what would have to be read if nothing kept `tag` by its name, and nobody else pruned there."""
    policy, repository = planned.policy, planned.inventory.repository
    without: Policy = replace(
        policy,
        keep_tags=[pattern for pattern in policy.keep_tags if not pattern.matches(tag)],
        protected_tags=[pattern for pattern in policy.protected_tags if not pattern.matches(tag)],
        protected_repositories=(),
        rules=[replace(rule, exclude=tuple(p for p in rule.exclude if not p.matches(tag))) for rule in policy.rules],
    )
    return asked(without, (), repository, planned.tags, planned.unit, planned.in_use, planned.now, least=False)


def _settled(planned: Situation, read: Needs) -> frozenset[str]:
    """Return the tags on indexes that were found young by one platform: another one may be younger."""
    there = planned.inventory
    if read.young_after is None:
        return frozenset()
    young = {
        digest
        for digest, manifest in there.manifests.items()
        if manifest.format is Format.INDEX and manifest.created is not None and manifest.created >= read.young_after
    }
    return frozenset(tag for tag in read.dated if there.tags.get(tag) in young)


def _of_a_stream(planned: Situation, read: Needs, wanted: Needs) -> Needs:
    """Return what is wanted of an image stream, which tells all but what its images hold."""
    same = wanted.used <= read.used and wanted.image_ids <= read.image_ids
    if same and (planned.policy.tag_date is TagDate.AUTO or wanted.dated <= read.dated):
        return Needs()
    return wanted
