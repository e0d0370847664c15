"""The course of `undo`: the policy, the copies of its run, and what became of each thing, told as it happens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import yaml

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.explaining.reference import read_wanted
from registry_cleanup.cli.output.words import safe
from registry_cleanup.cli.plans.policies import Loaded, load
from registry_cleanup.cli.running.local_copies import LocalCopies
from registry_cleanup.cli.running.local_plans import LocalPlans
from registry_cleanup.cli.telling import tell
from registry_cleanup.cli.undoing.documents import as_document
from registry_cleanup.domain.copies import KnownCopies
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.run import Phase
from registry_cleanup.domain.trust import Endpoint
from registry_cleanup.domain.undoing import Undo, Undone, UndoOutcome
from registry_cleanup.kube.config_maps import PERSON, OwnedConfigMaps
from registry_cleanup.kube.copies import ConfigMapCopies
from registry_cleanup.kube.plans import ConfigMapPlans
from registry_cleanup.kube.status import parse_status
from registry_cleanup.logins.options import ClusterOptions, LoginOptions
from registry_cleanup.ports import CopyStore, PlanStore, RunError
from registry_cleanup.session import Session, open_session
from registry_cleanup.settings import read_settings
from registry_cleanup.undoing import UndoOrder

# Nobody waits for minutes to have something put back.
_WITHIN = 10.0
_NOT_THERE = "NothingToUndo"


@dataclass(frozen=True, slots=True)
class Call:
    """What a person typed.

    Attributes:
        name: of the policy.
        references: of what is to come back; all where there is none.
        file: with the policy; None for the cluster's.
        run: its ID; None for the last one.
        force, dry_run: as in `UndoOrder`.
        output: lines as it goes, or a document in the end.
        login, cluster: who is at work, and where.
    """

    name: str
    references: Sequence[str]
    file: Path | None
    run: str | None
    force: bool
    dry_run: bool
    output: Literal["text", "json", "yaml"]
    login: LoginOptions
    cluster: ClusterOptions


async def undo(call: Call) -> Exit:
    """Do it all, and return the exit code; raise `CommandError` or `RunError`."""
    with ExitStack() as stack:
        return await _undo(call, stack)


async def _undo(call: Call, stack: ExitStack) -> Exit:
    """Do it all; what this machine keeps of the policy is held until `stack` ends, so that no `run` works beside."""
    async with open_session(read_settings(), call.login, call.cluster, needs_cluster=call.file is None) as session:
        loaded = await load(session, call.file, call.name, call.cluster)
        policy = loaded.policy
        registry = None if policy.registry.url is None else Endpoint.of(policy.registry.url)
        wanted = [read_wanted(text, registry, policy.policy.repositories) for text in call.references]
        _refuse_running(loaded, call)
        copies, plans = _stores(session, loaded, call)
        if isinstance(plans, LocalPlans) and not call.dry_run:
            stack.enter_context(plans.held(session.clock.now()))
        order = UndoOrder(policy.uid, call.run, wanted, call.force, call.dry_run)
        try:
            told = Telling(call.dry_run).tell if call.output == "text" else _untold
            done = await session.undo(policy, order, copies, _Protecting(plans).protect, told, _known(loaded))
        except RunError as error:
            if error.failure.reason != _NOT_THERE:
                raise
            raise CommandError(error.failure.message, Exit.HELD_BACK) from error
    if call.output != "text":
        _print(as_document(policy.namespace, policy.name, done), call.output)
    tell(done.message[:1].upper() + done.message[1:])
    if not policy.policy.undo.enabled and done.count(Undo.RESTORED) and not done.dry_run:
        tell("Note: spec.undo is off by now, so the next runs plan anew what came back; the grace period starts again")
    return exit_of(done)


def _known(loaded: Loaded) -> Sequence[KnownCopies]:
    """Return where copies are, by what the operator said."""
    undo = None if loaded.resource is None else parse_status(loaded.resource.get("status")).undo
    return () if undo is None else undo.known(loaded.policy.registry.url)


def exit_of(done: Undone) -> Exit:
    """Return how the command ends."""
    if done.whole:
        return Exit.DONE
    some = done.count(Undo.RESTORED, Undo.ALREADY_THERE)
    if (
        done.failure is None
        and not done.damaged
        and not done.unfinished
        and not done.count(Undo.MISSING, Undo.TAMPERED, Undo.FAILED)
        and not (done.not_kept and some)
    ):
        return Exit.HELD_BACK
    return Exit.PARTIAL if some else Exit.FAILED


def _refuse_running(loaded: Loaded, call: Call) -> None:
    """Refuse to undo anything while a run prunes: it would take away again what comes back, or is there still."""
    last = None if loaded.resource is None else parse_status(loaded.resource.get("status")).last_run
    if last is not None and last.phase is Phase.RUNNING and not last.dry_run and not call.dry_run:
        message = f"run {last.id} is under way: nothing was done. Wait for its end, or set suspend: true, which ends it"
        raise CommandError(message, Exit.HELD_BACK)


def _stores(session: Session, loaded: Loaded, call: Call) -> tuple[CopyStore, PlanStore]:
    """Return where copies are, and where is remembered what was put back: on this machine, or in the cluster."""
    policy = loaded.policy
    if call.file is not None or session.cluster is None:
        local = LocalPlans(policy.uid, tell)
        local.intent = policy.intent
        return LocalCopies(local, policy.uid), local
    where = (session.cluster.api, policy.namespace, policy.name, policy.uid, PERSON)
    maps = OwnedConfigMaps(*where, retry_for=_WITHIN)
    plans = ConfigMapPlans(*where, intent=policy.intent, retry_for=_WITHIN)
    return ConfigMapCopies(maps, policy.uid), plans


@dataclass(frozen=True, slots=True)
class _Protecting:
    """Keeps what comes back from the next runs, and lets it come back also where that cannot be."""

    plans: PlanStore

    async def protect(self, items: Sequence[tuple[str, str, Digest]]) -> None:
        try:
            await self.plans.protect(items)
        except RunError as error:
            tell(
                "Warning: what comes back is not protected from the next runs, but for the grace period, which starts "
                f"again: {error.failure.message}"
            )


def _untold(_outcome: UndoOutcome) -> None:
    """Tell nothing yet: the document has it."""


def _print(document: dict[str, Any], output: str) -> None:
    if output == "json":
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(yaml.safe_dump(document, sort_keys=False, width=1_000_000), nl=False)


@dataclass(slots=True)
class Telling:
    """Prints what became of each thing, or would, under its repository."""

    dry_run: bool = False
    repository: str | None = None

    def tell(self, outcome: UndoOutcome) -> None:
        """Print what became of one thing."""
        if outcome.repository != self.repository:
            self.repository = outcome.repository
            click.echo(safe(outcome.repository))
        detail = f" ({outcome.detail})" if outcome.detail else ""
        word = "Restorable" if self.dry_run and outcome.result is Undo.RESTORED else outcome.result.value
        click.echo(safe(f"  {word:<12} {outcome.tag or outcome.digest}{detail}"))
