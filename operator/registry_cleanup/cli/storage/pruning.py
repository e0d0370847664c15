"""The course of `storage prune`: the plan, what forbids it, a registry that has to stand still, and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import click

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.listing.target import read_target
from registry_cleanup.cli.output.words import count, safe
from registry_cleanup.cli.storage.options import code_of
from registry_cleanup.cli.storage.plan_file import Source, read_in_use, read_plan
from registry_cleanup.cli.telling import tell
from registry_cleanup.cli.working import work
from registry_cleanup.clock import SystemClock
from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.in_use import NOTHING_IN_USE
from registry_cleanup.domain.trust import Endpoint
from registry_cleanup.domain.verdict import KeepReason
from registry_cleanup.domain.written_plan import WrittenPlan, objection
from registry_cleanup.logins.options import ClusterOptions, LoginOptions
from registry_cleanup.ports import RunError
from registry_cleanup.registry.backend import DistributionRegistry
from registry_cleanup.session import open_session
from registry_cleanup.settings import read_settings
from registry_cleanup.storage.errors import WritableError
from registry_cleanup.storage.pruning import Pruned, PrunedRepository
from registry_cleanup.storage.pruning import prune as prune_storage
from registry_cleanup.storage.tree import Tree

# As often as a run reads its policy again while it prunes.
_ASKED_EVERY = 10.0
# Held back as planned: nothing is wrong with the storage.
_HELD = frozenset({KeepReason.GRACE_PERIOD, KeepReason.LIMIT_TRUNCATED})
_DETAILS = {
    Outcome.MOVED.value: "names something else by now, or was pushed again; it stays, with all tags on its digest",
    Outcome.NOW_SHARED.value: "something that stays needs it",
    Outcome.NOW_IN_USE.value: "it is in use by now",
    KeepReason.DANGLING.value: "the storage has lost its manifest",
}


@dataclass(frozen=True, slots=True)
class Call:
    """What a person typed.

    Attributes:
        plan: where it is.
        run: name in the trash; None for that of the run that made the plan.
        url: of the registry that is to be asked; None where it is offline.
        approve: hash of the plan that is approved.
        most_age: of the plan.
        login: at the registry.
        in_use: where the operator says what is in use; None where nobody does.
    """

    plan: Source
    run: str | None
    url: str | None
    approve: str | None
    most_age: timedelta
    login: LoginOptions
    in_use: Source | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What the command came to.

    Attributes:
        exit: how it ends.
        planned: how many tags were planned.
        pruned: what was done; None where nothing was planned.
    """

    exit: Exit
    planned: int = 0
    pruned: Pruned | None = None

    def as_json(self) -> dict[str, object]:
        """Return it for a machine: what is in the trash, how many planned tags stay, and what ended it early."""
        if self.pruned is None:
            return {"tags": 0, "manifests": 0, "stayed": 0}
        gone = (Outcome.PRUNED, Outcome.ALREADY_GONE)
        gone_tags = sum(end.why in gone for each in self.pruned.repositories for end in each.ends)
        found: dict[str, object] = {
            "run": self.pruned.run,
            "tags": self.pruned.tags,
            "manifests": self.pruned.manifests,
            "stayed": self.planned - gone_tags,
        }
        return found if self.pruned.stopped is None else {**found, "failure": str(self.pruned.stopped)}


def prune(tree: Tree, call: Call) -> Result:
    """Do it all, and say what it came to; raise `CommandError` or `StorageError`."""
    plan = read_plan(call.plan)
    in_use = NOTHING_IN_USE if call.in_use is None else read_in_use(call.in_use)
    now = SystemClock().now()
    url = None if call.url is None else _only(call.url, call.login)
    host = None if url is None else Endpoint.of(url).host_port
    if (why := objection(plan, now, call.most_age, call.approve, host)) is not None:
        raise CommandError(f"nothing was moved: {why}", Exit.HELD_BACK if host in (None, plan.registry) else Exit.USAGE)
    if not plan.planned:
        tell("Nothing is planned, so nothing was moved")
        return Result(Exit.DONE)
    run = call.run or plan.run
    if url is None:
        done = prune_storage(tree, plan, run, now, lambda: None, in_use)
    else:
        done = work(_asking(url, call.login, plan, lambda frozen: prune_storage(tree, plan, run, now, frozen, in_use)))
    _tell(tree, done)
    return Result(exit_of(done), plan.planned, done)


def exit_of(done: Pruned) -> Exit:
    """Return how the command ends."""
    if done.stopped is not None:
        return code_of(done.stopped)
    ends = {end.why for each in done.repositories for end in each.ends}
    if ends - _HELD - {Outcome.PRUNED, Outcome.ALREADY_GONE} or any(each.doubt for each in done.repositories):
        return Exit.PARTIAL
    return Exit.HELD_BACK if ends & _HELD else Exit.DONE


def _only(url: str, login: LoginOptions) -> str:
    """Return the registry's URL: of a host alone the first that is tried."""
    target = read_target(url, insecure=login.insecure)
    if target.wanted is not None:
        raise CommandError(f"--registry {url}: name the registry alone, without a repository", Exit.USAGE)
    return target.urls[0]


async def _asking(
    url: str, login: LoginOptions, plan: WrittenPlan, do: Callable[[Callable[[], None]], Pruned]
) -> Pruned:
    """Let a thread `do` the work, and answer it from here whether the registry stands still."""
    loop = asyncio.get_running_loop()
    async with (
        open_session(read_settings(), login, ClusterOptions(), needs_cluster=False) as session,
        session.listers().open_plain(url) as registry,
    ):
        repository = plan.repositories[0].name
        asked_at = -_ASKED_EVERY

        def frozen() -> None:
            nonlocal asked_at
            if time.monotonic() - asked_at < _ASKED_EVERY:
                return
            asyncio.run_coroutine_threadsafe(_expect_frozen(registry, repository), loop).result()
            asked_at = time.monotonic()

        return await asyncio.to_thread(do, frozen)


async def _expect_frozen(registry: DistributionRegistry, repository: str) -> None:
    """Raise `WritableError` unless the registry refuses pushes."""
    try:
        takes = await registry.takes_pushes(repository)
    except RunError as error:
        raise WritableError(
            f"registry {registry.host} does not say whether it takes pushes ({error.failure.message}); stop it, and "
            "say --offline"
        ) from error
    if takes:
        raise WritableError(
            f"registry {registry.host} takes pushes: make it read-only "
            "(REGISTRY_STORAGE_MAINTENANCE_READONLY={enabled: true}), or stop it and say --offline"
        )


def _tell(tree: Tree, done: Pruned) -> None:
    for each in done.repositories:
        _tell_repository(each)
    if done.stopped is not None:
        tell(f"Error: stopped: {done.stopped}")
    what = f"{count(done.tags, 'tag')} and {count(done.manifests, 'manifest')}"
    root = safe(str(tree.path))
    tell(f"Run {done.run}: {what} moved to the trash. Nothing is deleted, and no space is free yet.")
    if done.tags or done.manifests:
        tell(f"To put it back: registry-cleanup storage restore --root {root} --run {done.run}")
        tell("Run no garbage collection before the trash is emptied: it would take what is in there.")


def _tell_repository(repository: PrunedRepository) -> None:
    click.echo(safe(repository.name))
    if repository.doubt is not None:
        click.echo(safe(f"  all of it stays: {repository.doubt}"))
    for end in sorted(repository.ends):
        detail = f" ({_DETAILS[end.why]})" if end.why in _DETAILS else ""
        click.echo(safe(f"  {end.why:<14} {end.tag}{detail}"))
    if repository.manifests:
        click.echo(f"  {count(repository.manifests, 'manifest')} too")
