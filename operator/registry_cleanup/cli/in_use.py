"""`in-use`: print what the cluster uses, for policies of other clusters."""

from __future__ import annotations

import asyncio
import logging

import click

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.options import cluster_options_with
from registry_cleanup.cli.streams import expect_output
from registry_cleanup.cli.telling import tell
from registry_cleanup.logins.options import ClusterOptions


@click.command("in-use")
@click.option("--name", default="in-use", show_default=True, help="Name of the ConfigMap.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["configmap", "lines"]),
    default="configmap",
    show_default=True,
    help="A ConfigMap as YAML, or plain lines.",
)
@cluster_options_with("Namespace of the ConfigMap, which is that of the policies that name it.")
def in_use(name: str, output: str, cluster: ClusterOptions) -> None:
    """Print the images that the cluster uses, for policies of other clusters.

    Clusters that pull from a registry which another one prunes are not seen from there. Apply what this prints to the
    cluster with the policy (kubectl apply --server-side -f -), and name the ConfigMap in the policy's
    inUse.referencesConfigMapRef.

    Reads the cluster of the kubeconfig, or its own in a pod, as the operator does: everything that names images,
    history included, or nothing where something cannot be read.
    """
    from registry_cleanup.application import images_in_use
    from registry_cleanup.cluster import NoClusterError
    from registry_cleanup.kube.in_use.doubt import without_verdict
    from registry_cleanup.kube.in_use.listing import TooLargeError
    from registry_cleanup.ports import RunError

    expect_output()
    logging.getLogger().addHandler(logging.NullHandler())  # what went wrong is told once, below
    try:
        found = asyncio.run(images_in_use(cluster.kubeconfig, cluster.context))
        text = found.config_map(name, cluster.namespace) if output == "configmap" else "\n".join([*found.lines(), ""])
    except NoClusterError as error:
        raise CommandError(f"no cluster: {error}", Exit.CLUSTER) from error
    except RunError as error:
        raise CommandError(without_verdict(error), Exit.CLUSTER) from error
    except TooLargeError as error:
        raise CommandError(str(error), Exit.FAILED) from error
    for note in found.notes:
        tell(f"Note: {note}")
    click.echo(text, nl=False)
