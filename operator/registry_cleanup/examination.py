"""Reading one repository for its plan: as runs do, and, with a closer look at some tags, to explain it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.conflict import Rival
from registry_cleanup.domain.course import Snapshot, Stage
from registry_cleanup.domain.deletion import DeletionSupport
from registry_cleanup.domain.in_use import InUse
from registry_cleanup.domain.inventory import Needs
from registry_cleanup.domain.policy import Policy, TagDate
from registry_cleanup.domain.run import RunOrder
from registry_cleanup.domain.situation import Situation, asked, merged, united
from registry_cleanup.ports import Clock, Registry, Rivals, Workloads


def unit_of(support: DeletionSupport | None) -> DeletionUnit:
    """Return what the registry deletes, as far as anybody asked it."""
    return support.deletion.unit if support is not None else DeletionUnit.DIGEST


async def situate(
    registry: Registry,
    clock: Clock,
    policy: Policy,
    rivals: Collection[Rival],
    repository: str,
    unit: DeletionUnit,
    in_use: InUse,
) -> Situation:
    """Read what the plan of one repository needs, and no more; raise `RunError`."""
    # One time for both: what was not read, since it stays by its age, is not a second older when it is judged.
    now = clock.now()
    inventory = await registry.inventory(
        repository, lambda tags: asked(policy, rivals, repository, tags, unit, in_use, now), {}
    )
    return Situation(policy, inventory, unit, now, in_use, tuple(rivals))


def snapshot_of_one(registry: Registry) -> Snapshot:
    """Return what the reading of a single repository has come to so far."""
    tags, read = registry.readings.tags_of_all(1), registry.readings.tags_read
    if tags is None:
        return Snapshot(Stage.LOOKING, requests=registry.requests)
    return Snapshot(
        Stage.PLANNING, 1, 0, tags, read, share=min(read / tags, 1.0) if tags else None, requests=registry.requests
    )


@dataclass(frozen=True, slots=True)
class Examined:
    """What is known of one repository.

    Attributes:
        host: of the registry, with its port.
        names: of all repositories that the registry lists.
        support: what the registry deletes; None where the policy selects no repository.
        planned: what the operator would plan it from; None where the policy does not select it, or it is not there.
        known: the same with all that was read.
        read: what was read.
    """

    host: str
    names: tuple[str, ...]
    support: DeletionSupport | None = None
    planned: Situation | None = None
    known: Situation | None = None
    read: Needs = field(default_factory=Needs)


async def examine(
    registry: Registry,
    clock: Clock,
    policy: Policy,
    workloads: Workloads,
    others: Rivals,
    order: RunOrder,
    repository: str,
    closer: Callable[[Situation, Needs], Needs],
) -> Examined:
    """Read one repository as a run would, then take a closer look; raise `RunError`.

    Args:
        registry: where it is.
        clock: the time of day.
        policy: whose rules.
        workloads: what the cluster uses.
        others: who else prunes.
        order: on whose behalf the cluster is looked at.
        repository: which one.
        closer: told what was read, says what more is wanted.
    """
    async with workloads.scan(order) as scan:
        in_use = scan.in_use
    names = tuple(await registry.repositories())
    # As for a run: what the registry deletes, and who is a rival, may depend on what else is selected.
    selected = tuple(filter(policy.repositories.selects, names))
    if repository not in selected:
        return Examined(registry.host, names)
    support = await registry.deletion(selected)
    rivals = await others.at(registry, selected)
    planned = await situate(registry, clock, policy, rivals, repository, unit_of(support), in_use)
    read = planned.needs()
    more = closer(planned, read)
    if planned.inventory.named_only and policy.tag_date is TagDate.AUTO:
        read = united(read, Needs(dated=planned.tags))  # an image stream tells all of its tags at once
    if more == Needs():
        return Examined(registry.host, names, support, planned, planned, read)
    # An index may have been settled by its first platform: its date is asked for anew.
    settled = {planned.inventory.tags[tag] for tag in more.dated & planned.inventory.tags.keys()}
    known = {digest: m for digest, m in planned.inventory.manifests.items() if digest not in settled}
    looked = await registry.inventory(repository, lambda _tags: more, known)
    both = replace(planned, inventory=merged(planned.inventory, looked))
    return Examined(registry.host, names, support, planned, both, united(read, more))
