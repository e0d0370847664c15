"""The composition root: the only place that builds clients."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from kubernetes.aio import client, config
from typing_extensions import override

from registry_cleanup.domain.policy import RegistryType
from registry_cleanup.domain.run import RunOrder, RunReport
from registry_cleanup.kube.api import KubernetesAPI
from registry_cleanup.kube.credentials import PolicyCredentials
from registry_cleanup.kube.guard import PolicyGuard
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.ports import Clock, Registry, RegistryAddress
from registry_cleanup.registry.backend import open_registry
from registry_cleanup.runner import Runner
from registry_cleanup.settings import Settings
from registry_cleanup.telemetry import LogAudit

_log = logging.getLogger(__name__)


class SystemClock(Clock):
    """The machine's clock."""

    @override
    def now(self) -> datetime:
        return datetime.now(UTC)


class Application:
    """Everything that one process shares: settings, clock, and the way to the API server."""

    def __init__(self, settings: Settings, api: KubernetesAPI, clock: Clock) -> None:
        self.settings = settings
        self.api = api
        self.clock = clock

    async def run(self, policy: ParsedPolicy, order: RunOrder, halt: Callable[[], str | None]) -> RunReport:
        """Run `policy` once; whatever goes wrong is told in the report.

        Args:
            policy: which.
            order: what to do.
            halt: says why the run must stop, as soon as it must.
        """
        audit = LogAudit(policy.namespace, policy.name, policy.policy.registry, order)
        guard = PolicyGuard(self.api, policy, self.clock, halt)
        runner = Runner(policy.policy, lambda: self._connect(policy), guard, audit, self.clock)
        return await runner.run(order)

    @asynccontextmanager
    async def _connect(self, policy: ParsedPolicy) -> AsyncIterator[Registry]:
        spec = policy.registry
        credentials = PolicyCredentials(
            self.api, policy, self.clock, self.settings.token_hosts, self.settings.service_account
        )
        address = RegistryAddress(
            spec.url,
            RegistryType(spec.type),
            spec.insecure,
            await credentials.ca_bundle(),
            spec.token_url,
            policy.policy.repositories.literals,
        )
        async with open_registry(address, credentials, self.clock, self.settings.concurrent_requests) as registry:
            yield registry


@asynccontextmanager
async def open_application(settings: Settings) -> AsyncIterator[Application]:
    """Build the application with the cluster's own configuration, or else with the kubeconfig."""
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]  # the client leaves it untyped
    except config.ConfigException:
        await config.load_kube_config()  # type: ignore[no-untyped-call]  # the client leaves it untyped
    async with client.ApiClient() as api_client:
        yield Application(settings, KubernetesAPI(api_client), SystemClock())
