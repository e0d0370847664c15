"""kopf's own part of the operator: login, settings, and the supervisor that its handlers wake."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection

import kopf

from registry_cleanup.handlers import policies
from registry_cleanup.supervisor import Supervisor

_COMPONENT = "registry-cleanup"
_CHUNK = 100


async def watch(
    supervisor: Supervisor,
    namespaces: Collection[str],
    stop: asyncio.Event,
    ready: asyncio.Event,
    end: Callable[[], Awaitable[None]],
) -> None:
    """Pass the events of all policies to `supervisor` until told to stop; raise whatever ends that before.

    Args:
        supervisor: that is woken.
        namespaces: whose policies are watched; none for those of all.
        stop: ends the watch.
        ready: set once kopf has begun, and has taken the signals to itself.
        end: awaited when the watch has ended, before kopf cancels whatever still goes on.
    """
    registry = _registry()

    @kopf.on.cleanup(registry=registry)
    async def _end(**_: object) -> None:
        await end()

    await kopf.operator(
        registry=registry,
        settings=_settings(),
        memo=kopf.Memo(supervisor=supervisor),
        clusterwide=not namespaces,
        namespaces=namespaces,
        standalone=True,
        stop_flag=stop,
        ready_flag=ready,
    )


def _registry() -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(kopf.login_with_service_account)
    kopf.on.login(registry=registry)(kopf.login_with_kubeconfig)
    policies.register(registry)
    return registry


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    # It is told where to work: kopf need not watch namespaces and CRDs to find that out. It ends with an
    # error when the CRD is deleted, and is begun anew once that is there again.
    settings.scanning.disabled = True
    settings.watching.chunk_size = _CHUNK  # a thousand policies at a time would take 100 MiB, and never give them back
    settings.posting.loggers = False  # Events are for finished runs, not for log lines
    settings.posting.reporting_component = _COMPONENT
    settings.posting.reporting_instance = socket.gethostname()
    settings.posting.event_name_prefix = f"{_COMPONENT}-"
    # Ten minutes after kopf has ended it would kill the process, which may have begun anew by then.
    settings.process.ultimate_exiting_timeout = None
    return settings
