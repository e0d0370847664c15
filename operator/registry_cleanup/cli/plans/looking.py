"""What all commands have in common that only look: the order to plan, what is published, and what nobody protects."""

from __future__ import annotations

import asyncio

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.plans.policies import Loaded
from registry_cleanup.cli.plans.reports import CONFIG_MAPS_RULE
from registry_cleanup.cli.running.local_plans import published_here, put_back_here
from registry_cleanup.cli.telling import tell
from registry_cleanup.domain.published import Protected, Published
from registry_cleanup.domain.run import RunOrder, Trigger
from registry_cleanup.kube.config_maps import PERSON
from registry_cleanup.kube.plans import ConfigMapPlans
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.personal_world import LookStore
from registry_cleanup.ports import RunError
from registry_cleanup.runner import new_run_id
from registry_cleanup.session import Cluster, Session

# What is published is good to know, but no reason to wait for minutes.
_PUBLISHED_WITHIN = 10.0


def order_to_plan(session: Session) -> RunOrder:
    """Return the order of a run that only plans, now."""
    now = session.clock.now()
    return RunOrder(new_run_id(now), Trigger.REQUEST, plan_only=True, start=now)


def check_in_use(session: Session, policy: ParsedPolicy, *, in_use: bool, otherwise: str) -> None:
    """Say loudly that nothing in use is protected, where it was said not to look (`in_use` is false).

    Raises:
        CommandError: there is no cluster to look at; `otherwise` says what can be done with --no-in-use instead.
    """
    if not policy.policy.in_use.enabled:
        return
    if not in_use:
        warning = "images that run in the cluster are not protected here, and a plan's hash is not the operator's"
        tell(f"Warning: --no-in-use: {warning}")
    elif session.cluster is None:
        message = (
            "the policy protects what a cluster uses, and there is no cluster to ask: name one with --kubeconfig or "
            f"--context; or {otherwise} without looking, with --no-in-use; or write inUse: {{enabled: false}} into the "
            "policy"
        )
        raise CommandError(message, Exit.CLUSTER)


def tell_notes(session: Session) -> None:
    """Tell what could not be looked at."""
    for note in session.notes:
        _note(note)


async def published_plan(session: Session, loaded: Loaded) -> Published | None:
    """Return what the operator published of the policy, as far as the person may read it.

    Of a policy that is in a file only, it is what `run` published on this machine.
    """
    policy, resource = loaded.policy, loaded.resource
    if resource is None:
        return await asyncio.to_thread(published_here, policy.uid, _note)
    if session.cluster is None or policy.uid != resource["metadata"]["uid"]:
        return None
    try:
        return await _plans(session.cluster, policy).load()
    except RunError as error:
        right = f"; a role grants it with: {CONFIG_MAPS_RULE}" if error.failure.reason == "PlanStoreForbidden" else ""
        note = f"the published plan cannot be read ({error.failure.reason}), so every tag counts as new here{right}"
        _note(note)
        return None


async def look_store(session: Session, loaded: Loaded, published: Published | None) -> LookStore:
    """Return a store that knows what is `published`, and what was put back."""
    store = LookStore.of(loaded.policy)
    if published is not None:
        store.published = published
        store.put_back = await put_back(session, loaded)
    return store


async def put_back(session: Session, loaded: Loaded) -> Protected | None:
    """Return what runs of the policy leave alone, since an undo put it back; None where that is nothing."""
    policy = loaded.policy
    if not policy.policy.undo.enabled:
        return None
    if loaded.resource is None:
        return await asyncio.to_thread(put_back_here, policy.uid, policy.intent, _note)
    if session.cluster is None:
        return None
    try:
        return await _plans(session.cluster, policy).undone()
    except RunError as error:
        _note(f"what an undo put back cannot be read ({error.failure.reason}), so it seems to go here")
        return None


def _plans(cluster: Cluster, policy: ParsedPolicy) -> ConfigMapPlans:
    """Return what the operator keeps of the policy, read with the person's rights."""
    return ConfigMapPlans(
        cluster.api,
        policy.namespace,
        policy.name,
        policy.uid,
        PERSON,
        intent=policy.intent,
        retry_for=_PUBLISHED_WITHIN,
    )


def _note(words: str) -> None:
    tell(f"Note: {words}")
