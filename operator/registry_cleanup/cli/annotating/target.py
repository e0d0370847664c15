"""The policy that a person asks something of: read and annotated with their own rights."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.plans.policies import from_cluster
from registry_cleanup.kube.api import ForbiddenError, KubernetesAPI, NotThereError, RefusedError
from registry_cleanup.kube.spec import GROUP, PLURAL
from registry_cleanup.kube.status import PlanStatus, PolicyStatus, parse_status
from registry_cleanup.logins.options import ClusterOptions
from registry_cleanup.session import open_cluster

_RULE = f"{{apiGroups: [{GROUP}], resources: [{PLURAL}], verbs: [get, patch]}}"
# Somebody else may write to the policy at the same time, such as the operator its progress.
_ATTEMPTS = 5

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """A policy of the cluster, as it was when it was read last.

    Attributes:
        api: to read and write it.
        namespace, name: of it.
        body: the resource.
    """

    api: KubernetesAPI
    namespace: str
    name: str
    body: Resource

    @property
    def status(self) -> PolicyStatus:
        """Return what the operator says of it."""
        return parse_status(self.body.get("status"))

    @property
    def plan(self) -> PlanStatus | None:
        """Return its published plan; None before there is one."""
        return self.status.plan

    @property
    def dry_run(self) -> bool:
        """Say whether its runs only plan."""
        return (self.body.get("spec") or {}).get("dryRun", True) is True

    @property
    def suspended(self) -> bool:
        """Say whether it does not run for now."""
        return bool((self.body.get("spec") or {}).get("suspend"))

    @property
    def who(self) -> str:
        """Return what a person calls it."""
        return f"policy {self.namespace}/{self.name}"

    def command(self, name: str) -> str:
        """Return what a person types to give another command for this policy."""
        return f"registry-cleanup {name} {self.name} -n {self.namespace}"

    async def again(self) -> Target:
        """Return it as it is now; raise `CommandError` where it is gone, or another one."""
        try:
            body = (await self.api.policy(self.namespace, self.name)).body
        except NotThereError as error:
            raise CommandError(f"{self.who} was deleted", Exit.CLUSTER) from error
        if body["metadata"]["uid"] != self.body["metadata"]["uid"]:
            raise CommandError(f"{self.who} was deleted, and another one is called so now", Exit.CLUSTER)
        return Target(self.api, self.namespace, self.name, body)

    async def annotate(self, annotation: str, value: str | None, plan: str | None = None) -> None:
        """Write an annotation, if the policy still has the `plan`; raise `CommandError`."""
        now = self
        for attempt in range(_ATTEMPTS):
            try:
                await self.api.annotate(self.namespace, now.body, annotation, value, plan=plan)
            except ForbiddenError as error:
                message = f"you may not do that: {error}"
                if "admission" not in str(error).lower():
                    message += f"; ClusterRole registry-cleanup-edit grants it with: {_RULE}"
                raise CommandError(message, Exit.CLUSTER) from error
            except RefusedError as error:
                # One of the tests of the patch failed, or the API server wants something else: the policy says which.
                now = await self.again()
                if plan is not None and (now.plan is None or now.plan.hash != plan):
                    current = "gone" if now.plan is None else f"now {now.plan.hash}"
                    message = f"the plan changed meanwhile: {plan} was shown, and it is {current}; nothing was approved"
                    raise CommandError(message, Exit.HELD_BACK) from error
                if attempt + 1 == _ATTEMPTS:
                    raise
            else:
                return


@asynccontextmanager
async def opened(name: str, options: ClusterOptions) -> AsyncIterator[Target]:
    """Read the policy `name` with the person's own rights; raise `CommandError`, or `NoClusterError`."""
    async with open_cluster(options) as cluster:
        namespace, name, body = await from_cluster(cluster, name, options)
        yield Target(cluster.api, namespace, name, body)
