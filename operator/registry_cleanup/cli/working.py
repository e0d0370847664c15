"""Running the work of a command in an event loop, with what can go wrong there told as people need it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cluster import NoClusterError, NoKubeconfigError
from registry_cleanup.domain.run import Failure
from registry_cleanup.kube.api import APIError
from registry_cleanup.kube.in_use.doubt import REASON, without_verdict
from registry_cleanup.ports import RunError

_Result = TypeVar("_Result")
_OF_THE_CLUSTER = frozenset(
    {
        "APIServerUnavailable",
        "InUseUnknown",
        "NoCluster",
        "NoInternalRegistry",
        "OtherCluster",
        "PlanStoreForbidden",
        "PlanStoreTaken",
        "PlanStoreUnavailable",
    }
)


def work(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Return what comes of `coroutine`; raise `CommandError` with what went wrong."""
    logging.getLogger().addHandler(logging.NullHandler())  # what went wrong is told once, by the command
    try:
        return asyncio.run(coroutine)
    except NoKubeconfigError as error:
        where = ", ".join(error.places)
        raise CommandError(f"no cluster: there is no kubeconfig (looked at {where}){_how()}", Exit.CLUSTER) from error
    except NoClusterError as error:
        raise CommandError(f"no cluster: {error}", Exit.CLUSTER) from error
    except APIError as error:
        raise CommandError(f"the cluster: {error}", Exit.CLUSTER) from error
    except RunError as error:
        raise told(error.failure) from error


def _how() -> str:
    """Return by which options of the command a person does better."""
    context = click.get_current_context(silent=True)
    given = {} if context is None else context.params
    if "kubeconfig" not in given:
        return ""
    # Where the policy need not be one of the cluster.
    or_file = ", or a policy file with -f" if "filename" in given and given["filename"] is None else ""
    return f": name one with --kubeconfig{or_file}"


def told(failure: Failure) -> CommandError:
    """Return what a command says that fails by a failure of its run, with whose fault it is."""
    code = Exit.CLUSTER if failure.reason in _OF_THE_CLUSTER else Exit.REGISTRY
    where = "" if failure.repository is None else f"{failure.repository}: "
    # A command that only looks prunes nothing, whatever it sees.
    message = without_verdict(RunError(failure)) if failure.reason == REASON else failure.message
    return CommandError(f"{failure.reason}: {where}{message}", code)
