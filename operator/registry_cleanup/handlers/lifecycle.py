"""Start and stop of the operator: login, settings of kopf, and the application that the handlers share."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import AsyncExitStack

import kopf

from registry_cleanup.application import open_application
from registry_cleanup.handlers import policies
from registry_cleanup.kube.api import KubernetesAPI, NoAnswerError
from registry_cleanup.settings import Settings
from registry_cleanup.supervisor import Supervisor

_log = logging.getLogger(__name__)

_COMPONENT = "registry-cleanup"
_CRD_PAUSE = 1.0


def build(settings: Settings) -> kopf.OperatorRegistry:
    """Return the registry of all handlers of the operator."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(kopf.login_with_service_account)
    kopf.on.login(registry=registry)(kopf.login_with_kubeconfig)
    stack = AsyncExitStack()

    async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: object) -> None:
        # Cluster-wide by ClusterRole: kopf need not watch namespaces and CRDs to find out where it works. It ends
        # with an error when the CRD is deleted, and starts anew to wait for it.
        settings.scanning.disabled = True
        settings.posting.loggers = False  # Events are for finished runs, not for log lines
        settings.posting.reporting_component = _COMPONENT
        settings.posting.reporting_instance = socket.gethostname()
        settings.posting.event_name_prefix = f"{_COMPONENT}-"
        application = await stack.enter_async_context(open_application(operator_settings))
        await _crd_is_there(application.api)
        supervisor = memo["supervisor"] = Supervisor(application, policies.notify)
        stack.push_async_callback(supervisor.stop)

    async def stop(**_: object) -> None:
        await stack.aclose()

    operator_settings = settings
    kopf.on.startup(registry=registry)(start)
    kopf.on.cleanup(registry=registry)(stop)
    policies.register(registry)
    return registry


async def _crd_is_there(api: KubernetesAPI) -> None:
    """Wait for the CRD: kopf, which looks once, would serve nothing for ever, and be healthy."""
    told = False
    while True:
        try:
            if await api.lists_policies():
                return
            problem = "the CRD registrycleanuppolicies.registrycleanup.dev is not installed"
        except NoAnswerError as error:
            problem = str(error)
        if not told:
            _log.warning("%s; waiting for it", problem)
            told = True
        await asyncio.sleep(_CRD_PAUSE)
