"""`operator`: run the operator, or check its settings."""

from __future__ import annotations

import asyncio
import logging
import sys

import click
from typing_extensions import override

from registry_cleanup.cli.exits import CommandError, Exit


class _WithSettings(click.Command):
    """A command whose help ends with all settings, in the words of the settings themselves."""

    @override
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from registry_cleanup.settings import described

        super().format_epilog(ctx, formatter)
        with formatter.section("Settings, from the environment"):
            formatter.write_dl(list(described().items()))


@click.command(cls=_WithSettings)
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
    from registry_cleanup.settings import read_settings, shown

    settings = read_settings(namespaces)
    if check:
        for line in shown(settings, namespaces):
            click.echo(line)
        return
    # kopf, kubernetes and httpx take a second to import, which no other command should pay.
    from registry_cleanup import process
    from registry_cleanup.cluster import NoClusterError

    _configure_logging(settings.log_format)
    try:
        code = asyncio.run(process.run(settings))
    except NoClusterError as error:
        raise CommandError(f"no cluster: {error}", Exit.CLUSTER) from error
    sys.exit(code)


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
