"""The command line."""

from __future__ import annotations

import asyncio
import logging

import click
from pydantic import ValidationError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="registry-cleanup-operator")
def main() -> None:
    """Prune the tags that a RegistryCleanupPolicy no longer needs."""


@main.command()
def operator() -> None:
    """Run the operator, in a cluster or with the kubeconfig.

    Settings come from the environment: REGISTRY_CLEANUP_TRUSTED_TOKEN_HOSTS, REGISTRY_CLEANUP_CONCURRENT_RUNS,
    REGISTRY_CLEANUP_CONCURRENT_REQUESTS, REGISTRY_CLEANUP_HEALTH_PORT, REGISTRY_CLEANUP_LOG_FORMAT (json or text),
    REGISTRY_CLEANUP_SERVICE_ACCOUNT (namespace:name), REGISTRY_CLEANUP_STOP_SECONDS.
    """
    # kopf, kubernetes and httpx take a second to import, which no other command should pay.
    import kopf

    from registry_cleanup.handlers.lifecycle import build
    from registry_cleanup.settings import Settings

    try:
        settings = Settings()
    except ValidationError as error:
        problems = [f"REGISTRY_CLEANUP_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
        raise click.ClickException("; ".join(problems)) from error
    _configure_logging(settings.log_format)
    health = f"http://0.0.0.0:{settings.health_port}/healthz" if settings.health_port else None
    asyncio.run(kopf.operator(registry=build(settings), clusterwide=True, standalone=True, liveness_endpoint=health))


@main.command()
@click.option("--name", default="in-use", show_default=True, help="Name of the ConfigMap.")
@click.option("--namespace", help="Namespace of the ConfigMap, which is that of the policies that name it.")
@click.option(
    "--output",
    type=click.Choice(["configmap", "lines"]),
    default="configmap",
    show_default=True,
    help="A ConfigMap as YAML, or plain lines.",
)
def in_use(name: str, namespace: str | None, output: str) -> None:
    """Print the images that the cluster uses, for policies of other clusters.

    Clusters that pull from a registry which another one prunes are not seen from there. Apply what this prints to the
    cluster with the policy (kubectl apply --server-side -f -), and name the ConfigMap in the policy's
    inUse.referencesConfigMapRef.

    Reads the cluster of the kubeconfig, or its own in a pod, as the operator does: everything that names images,
    history included, or nothing where something cannot be read.
    """
    from registry_cleanup.application import NoClusterError, images_in_use
    from registry_cleanup.kube.in_use.doubt import without_verdict
    from registry_cleanup.kube.in_use.listing import TooLargeError
    from registry_cleanup.ports import RunError

    logging.getLogger().addHandler(logging.NullHandler())  # what went wrong is told once, below
    try:
        found = asyncio.run(images_in_use())
        text = found.config_map(name, namespace) if output == "configmap" else "\n".join([*found.lines(), ""])
    except NoClusterError as error:
        raise click.ClickException(f"no cluster: {error}") from error
    except RunError as error:
        raise click.ClickException(without_verdict(error)) from error
    except TooLargeError as error:
        raise click.ClickException(str(error)) from error
    for note in found.notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(text, nl=False)


def _configure_logging(log_format: str) -> None:
    """Send everything to stderr; httpx's line for each request is left out, since it names URLs."""
    handler = logging.StreamHandler()
    if log_format == "json":
        from pythonjsonlogger.json import JsonFormatter

        handler.setFormatter(
            JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields={"levelname": "level"})
        )
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("stamina").setLevel(logging.ERROR)  # that something was tried again is told where it failed
    for noisy in ("httpx", "httpcore", "kopf.objects", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


if __name__ == "__main__":
    main()
