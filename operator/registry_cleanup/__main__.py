"""The command line: what commands there are, in the order in which people need them."""

from __future__ import annotations

import sys

try:
    import click

    from registry_cleanup.cli.group import LazyGroup
except KeyboardInterrupt:  # a Ctrl-C before there is a frame that tells of it
    sys.exit(130)

_COMMANDS = {
    "list": ("list_:list_", "List repositories, tags, digests, dates, platforms and sizes."),
    "plan": ("plan:plan", "Show what a policy would prune, and why everything else stays."),
    "explain": ("explain:explain", "Tell all that bears on one tag."),
    "run": ("run:run", "Plan, ask, prune, verify and report."),
    "undo": ("undo:undo", "Put back what a run pruned."),
    "report": ("report:report", "Show the full report of the last run, from the cluster."),
    "request": ("annotate:request", "Ask the operator to run a policy now."),
    "approve": ("annotate:approve", "Approve the plan that a policy waits with."),
    "validate": ("validate:validate", "Check policies in files, without a cluster."),
    "test": ("try_names:test", "Tell which rule owns which of some names, without a registry."),
    "in-use": ("in_use:in_use", "Print the images that the cluster uses, for policies of other clusters."),
    "storage": ("storage.group:storage", "Work on the files of a registry's storage, for Jobs in the cluster."),
    "completion": ("completion:completion", "Print the completion script of bash, zsh or fish."),
    "operator": ("operator:operator", "Run the operator, in a cluster or with the kubeconfig."),
}


@click.group(cls=LazyGroup, commands_in=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="registry-cleanup-operator")
@click.option("--debug", is_flag=True, help="Print Python's traceback of an error before the error.")
def main(debug: bool) -> None:
    """Prune the tags that a RegistryCleanupPolicy no longer needs."""
    del debug  # the group itself looks at it


def complete_for_kubectl() -> None:
    """Tell kubectl what may follow `kubectl registry-cleanup`."""
    from registry_cleanup.cli.completion import answer_kubectl

    answer_kubectl(main, sys.argv[1:])


if __name__ == "__main__":
    main()
