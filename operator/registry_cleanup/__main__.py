"""The command line."""

from __future__ import annotations

import asyncio
import logging
import sys

import click
from typing_extensions import override


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="registry-cleanup-operator")
def main() -> None:
    """Prune the tags that a RegistryCleanupPolicy no longer needs."""


class _WithSettings(click.Command):
    """A command whose help ends with all settings, in the words of the settings themselves."""

    @override
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from registry_cleanup.settings import described

        super().format_epilog(ctx, formatter)
        with formatter.section("Settings, from the environment"):
            formatter.write_dl(list(described().items()))


@main.command(cls=_WithSettings)
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    help="See policies of this namespace only; may be given several times. Default all, or the setting "
    "REGISTRY_CLEANUP_NAMESPACES.",
)
@click.option(
    "--check", is_flag=True, help="Print every setting and where it comes from, or all that is wrong, and do no more."
)
def operator(namespaces: tuple[str, ...], check: bool) -> None:
    """Run the operator, in a cluster or with the kubeconfig."""
    from registry_cleanup.settings import WrongSettingsError, read_settings, shown

    try:
        settings = read_settings(namespaces)
    except WrongSettingsError as error:
        raise click.ClickException("wrong settings:\n" + "\n".join(error.problems)) from error
    if check:
        for line in shown(settings, namespaces):
            click.echo(line)
        return
    # kopf, kubernetes and httpx take a second to import, which no other command should pay.
    from registry_cleanup import process
    from registry_cleanup.application import NoClusterError

    _configure_logging(settings.log_format)
    try:
        code = asyncio.run(process.run(settings))
    except NoClusterError as error:
        raise click.ClickException(f"no cluster: {error}") from error
    sys.exit(code)


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
        from registry_cleanup.telemetry.plain import PlainFormatter

        handler.setFormatter(PlainFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("stamina").setLevel(logging.ERROR)  # that something was tried again is told where it failed
    for noisy in ("httpx", "httpcore", "kopf.objects", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


if __name__ == "__main__":
    main()
