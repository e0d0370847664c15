"""The cluster that a process belongs to or a person works with: its own account in a pod, or else a kubeconfig."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from kubernetes.aio import client, config

_DEFAULT_NAMESPACE = "default"
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class NoClusterError(Exception):
    """There is no cluster to talk to; the message says why."""


class NoKubeconfigError(NoClusterError):
    """There is none at any of the usual places.

    Attributes:
        places: where it was looked for.
    """

    def __init__(self, places: Sequence[str]) -> None:
        super().__init__(f"neither a cluster's own account nor a kubeconfig (looked at {', '.join(places)})")
        self.places = places


@asynccontextmanager
async def cluster_client(kubeconfig: Path | None = None, context: str | None = None) -> AsyncIterator[client.ApiClient]:
    """Open the way to the API server; raise `NoClusterError` where nothing says where that is.

    Args:
        kubeconfig: to be used, whatever else there is.
        context: of the kubeconfig; its current one where that is None.
    """
    chosen = kubeconfig is not None or context is not None
    if chosen or not _in_pod():
        if kubeconfig is None and (looked := _absent()):
            raise NoKubeconfigError(looked)
        file = None if kubeconfig is None else str(kubeconfig)
        try:
            await config.load_kube_config(file, context)  # type: ignore[no-untyped-call]  # the client leaves it untyped
        except Exception as error:  # beside its own, the client lets through whatever its parser of YAML raises
            told = " ".join(str(error).split())
            tried = "the kubeconfig cannot be used" if chosen else "neither a cluster's own account nor a kubeconfig"
            raise NoClusterError(f"{tried}: {told}") from error
    async with client.ApiClient() as api_client:
        yield api_client


def context_names(kubeconfig: Path | None = None) -> list[str]:
    """Return the contexts of a kubeconfig; raise whatever its parser raises."""
    file = None if kubeconfig is None else str(kubeconfig)
    contexts, _ = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]  # as above
    return [str(each["name"]) for each in contexts]


def default_namespace(kubeconfig: Path | None = None, context: str | None = None) -> str:
    """Return the namespace that a person means who names none: that of the context, or of the pod; else `default`."""
    try:
        if kubeconfig is None and context is None and _in_pod():
            return _OWN_NAMESPACE.read_text().strip()
        file = None if kubeconfig is None else str(kubeconfig)
        contexts, current = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]  # as above
    except Exception:  # whatever its parser of YAML raises; who opens the cluster tells of it
        return _DEFAULT_NAMESPACE
    chosen = current if context is None else next((each for each in contexts if each["name"] == context), None)
    return ((chosen or {}).get("context") or {}).get("namespace") or _DEFAULT_NAMESPACE


def _absent() -> list[str]:
    """Return the places of the usual kubeconfig where there is none at any; else nothing."""
    named = [each for each in os.environ.get("KUBECONFIG", "").split(os.pathsep) if each]
    places = named or ["~/.kube/config"]
    return [] if any(Path(each).expanduser().exists() for each in places) else places


def _in_pod() -> bool:
    """Use the account of the pod that this process runs in, if it runs in one."""
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]  # the client leaves it untyped
    except config.ConfigException:
        return False
    return True
