"""Start and stop of the operator: login, settings of kopf, and the application that the handlers share."""

from __future__ import annotations

from contextlib import AsyncExitStack

import kopf

from registry_cleanup.application import open_application
from registry_cleanup.handlers import policies
from registry_cleanup.settings import Settings
from registry_cleanup.supervisor import Supervisor


def build(settings: Settings) -> kopf.OperatorRegistry:
    """Return the registry of all handlers of the operator."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(kopf.login_with_service_account)
    kopf.on.login(registry=registry)(kopf.login_with_kubeconfig)
    stack = AsyncExitStack()

    async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: object) -> None:
        # Cluster-wide by ClusterRole: kopf need not watch namespaces and CRDs to find out where it works.
        settings.scanning.disabled = True
        settings.posting.loggers = False  # Events are for finished runs, not for log lines
        application = await stack.enter_async_context(open_application(operator_settings))
        supervisor = memo["supervisor"] = Supervisor(application, policies.notify)
        stack.push_async_callback(supervisor.stop)

    async def stop(**_: object) -> None:
        await stack.aclose()

    operator_settings = settings
    kopf.on.startup(registry=registry)(start)
    kopf.on.cleanup(registry=registry)(stop)
    policies.register(registry)
    return registry
