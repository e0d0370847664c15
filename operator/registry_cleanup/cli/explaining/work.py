"""The work of `explain`: the policy, one repository of its registry, and what follows for the tags in question."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.explaining.reference import Reference, read_reference
from registry_cleanup.cli.plans.looking import check_in_use, order_to_plan, published_plan, put_back, tell_notes
from registry_cleanup.cli.plans.policies import load
from registry_cleanup.cli.progress import progress
from registry_cleanup.domain.closer_look import closer_look
from registry_cleanup.domain.explanation import Explanation, explain, tags_on
from registry_cleanup.domain.inventory import Needs
from registry_cleanup.domain.namings import Selection
from registry_cleanup.domain.published import Published
from registry_cleanup.domain.situation import Situation
from registry_cleanup.domain.trust import Endpoint
from registry_cleanup.examination import Examined
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.logins.options import ClusterOptions, LoginOptions
from registry_cleanup.session import open_session
from registry_cleanup.settings import read_settings


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asks of `explain`.

    Attributes:
        reference: of a tag or digest, as it was written.
        filename: of the policy; None for the cluster's.
        name: of the policy.
        in_use: whether what the cluster uses is looked at, where the policy wants that.
        login: at the registry.
        cluster: which.
    """

    reference: str
    filename: Path | None
    name: str | None
    in_use: bool
    login: LoginOptions
    cluster: ClusterOptions


@dataclass(frozen=True, slots=True)
class Found:
    """What `explain` tells.

    Attributes:
        policy: whose verdicts.
        reference: what was asked about.
        selection: whether the policy selects the repository, and by which globs.
        examined: what was read; None where the policy does not select the repository.
        published: the plan that the operator published; None where nobody knows.
        tags: an explanation of each.
    """

    policy: ParsedPolicy
    reference: Reference
    selection: Selection
    examined: Examined | None = None
    published: Published | None = None
    tags: tuple[Explanation, ...] = ()

    @property
    def known(self) -> Situation | None:
        """All that is known of the repository."""
        return None if self.examined is None else self.examined.known

    @property
    def present(self) -> bool | None:
        """Whether the registry has what was asked about; None where nobody looked."""
        if self.known is None:
            return None
        digest, inventory = self.reference.digest, self.known.inventory
        if digest is None:
            return any(told.verdict is not None for told in self.tags)
        return digest in inventory.manifests or digest in inventory.tags.values()


async def examined(asked: Asked) -> Found:
    """Return all that bears on what was asked; raise `CommandError` or `RunError`."""
    if asked.filename is None and asked.name is None:
        raise CommandError("name the policy: a file with -f, or one of the cluster with --policy", Exit.USAGE)
    async with open_session(
        read_settings(), asked.login, asked.cluster, needs_cluster=asked.filename is None
    ) as session:
        loaded = await load(session, asked.filename, asked.name, asked.cluster)
        policy = loaded.policy
        registry = None if policy.registry.url is None else Endpoint.of(policy.registry.url)
        selector = policy.policy.repositories
        reference = read_reference(asked.reference, registry, selector)
        selection = Selection.of(selector, reference.repository)
        if not selection.selected:
            return Found(policy, reference, selection)
        check_in_use(session, policy, in_use=asked.in_use, otherwise="explain")
        tags: tuple[str, ...] = () if reference.tag is None else (reference.tag,)

        def closer(planned: Situation, read: Needs) -> Needs:
            return closer_look(planned, read, tags, reference.digest)

        found = await session.examine(
            policy, order_to_plan(session), reference.repository, closer, progress(), in_use=asked.in_use
        )
        tell_notes(session)
        planned, known = found.planned, found.known
        if planned is None or known is None:
            raise _no_repository(reference, found)
        if reference.digest is not None:
            tags = tags_on(known.inventory, reference.digest)
        published = await published_plan(session, loaded)
        undone = await put_back(session, loaded) if published is not None else None
        told = await asyncio.to_thread(explain, planned, known, found.read, tags, published, undone)
        return Found(policy, reference, selection, found, published, told)


def _no_repository(reference: Reference, found: Examined) -> CommandError:
    similar = get_close_matches(reference.repository, found.names, 3)
    hint = f"; similar: {', '.join(similar)}" if similar else ""
    return CommandError(f"there is no repository {reference.repository} at {found.host}{hint}", Exit.REGISTRY)
