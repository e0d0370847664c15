"""Names that the cluster knows, for somebody who is typing: quickly, or none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from registry_cleanup.kube.raw import Kind

# A person waits for as long.
_SECONDS = 2.0


def policy_names(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the policies of the namespace that stands on the command line so far, or else of the context's."""

    async def names() -> Sequence[str]:
        from registry_cleanup.cluster import default_namespace
        from registry_cleanup.kube.raw import Kind
        from registry_cleanup.kube.spec import GROUP, KIND, PLURAL, VERSION

        # The kubeconfig is read once more, by somebody else: in a thread, since the limit holds for all of it.
        where = ctx.params.get("namespace") or await asyncio.to_thread(
            default_namespace, ctx.params.get("kubeconfig"), ctx.params.get("context")
        )
        return await _listed(ctx, Kind(f"{GROUP}/{VERSION}", KIND, PLURAL), where)

    return _quickly(names(), incomplete)


def namespaces(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the namespaces of the cluster."""

    async def names() -> Sequence[str]:
        from registry_cleanup.kube.raw import Kind

        return await _listed(ctx, Kind("v1", "Namespace", "namespaces", namespaced=False))

    return _quickly(names(), incomplete)


def contexts(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the contexts of the kubeconfig."""

    async def names() -> Sequence[str]:
        from registry_cleanup.cluster import context_names

        return await asyncio.to_thread(context_names, ctx.params.get("kubeconfig"))

    return _quickly(names(), incomplete)


def reasons(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the reasons of all verdicts."""
    from registry_cleanup.domain.verdict import KeepReason, PruneReason

    return [each.value for each in (*PruneReason, *KeepReason) if each.value.startswith(incomplete)]


def outcomes(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return all that a planned tag may come to."""
    from registry_cleanup.domain.deletion import Outcome

    return [each.value for each in Outcome if each.value.startswith(incomplete)]


async def _listed(ctx: click.Context, kind: Kind, namespace: str | None = None) -> Sequence[str]:
    from contextlib import aclosing

    from registry_cleanup.cluster import cluster_client
    from registry_cleanup.kube.raw import RawAPI

    async with (
        cluster_client(ctx.params.get("kubeconfig"), ctx.params.get("context")) as api_client,
        aclosing(RawAPI(api_client).pages(kind, namespace=namespace)) as pages,
    ):
        # Of more than a page nobody chooses.
        async for page in pages:
            return [str(item["metadata"]["name"]) for item in page.items]
    return []


def _quickly(names: Coroutine[Any, Any, Sequence[str]], incomplete: str) -> list[str]:
    """Return those of `names` that go on from `incomplete`; none where anything goes wrong, or takes too long."""
    logging.getLogger().addHandler(logging.NullHandler())  # what is told would stand between the words
    with suppress(Exception):
        return [name for name in asyncio.run(asyncio.wait_for(names, _SECONDS)) if name.startswith(incomplete)]
    return []
