"""`storage prune`: move what a plan lets go to a trash folder on the volume."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import click

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.options import login_options
from registry_cleanup.cli.storage.options import duration, opened, root_option
from registry_cleanup.logins.options import LoginOptions


@click.command()
@root_option
@click.option(
    "--plan",
    "file",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    required=True,
    help="File with the plan, as plan -o json or report -o json writes it, or a full report; - for standard input.",
)
@click.option("--run", metavar="ID", help="Name of the run in the trash; default that of the run that made the plan.")
@click.option(
    "--registry",
    "url",
    metavar="URL",
    help="The registry that serves the storage: it is asked, before and meanwhile, whether it takes pushes.",
)
@click.option(
    "--offline",
    is_flag=True,
    help="Say that no registry serves the storage now: it is scaled to zero. Nobody is asked.",
)
@click.option("--approve", metavar="HASH", help="Let the plan of this hash through past limits and approval.required.")
@click.option(
    "--max-age",
    "most_age",
    metavar="DURATION",
    default="1d",
    show_default=True,
    callback=duration,
    help="Refuse a plan that is older: what is in use since is not known of it.",
)
@click.option(
    "--in-use",
    "use_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File in which the operator says what is in use by now; that stays, too.",
)
@click.option("--plan-sha256", metavar="HEX", help="SHA-256 of the plan's file; another one is refused.")
@click.option("--in-use-sha256", "use_sha256", metavar="HEX", help="The same of the file of --in-use.")
@click.option(
    "--termination-log",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that gets the result as JSON, as a pod's termination message. What stayed or went wrong is told there "
    "too, and the exit code is 0 for it.",
)
@login_options
def prune(
    root: Path,
    file: Path,
    run: str | None,
    url: str | None,
    offline: bool,
    approve: str | None,
    most_age: timedelta,
    use_file: Path | None,
    plan_sha256: str | None,
    use_sha256: str | None,
    termination_log: Path | None,
    login: LoginOptions,
) -> None:
    """Move what a plan lets go to a trash folder on the volume.

    For registries that answer 405 to DELETE. The registry has to be read-only, which --registry proves, or stopped,
    which --offline says. The links of planned tags, and those of manifests that go with them, are moved to
    ROOT/registry-cleanup-trash/runs/ID, where no registry looks. Nothing is deleted; storage restore puts it back.

    A tag that names another digest than in the plan stays, and with it all tags on the digest (exit code 6). What the
    plan holds back stays (3). The journal is written first: a run that was killed is repeated, or restored.

    No garbage collection may run before `storage empty-trash`, or what it takes cannot come back.
    """
    from registry_cleanup.cli.storage.plan_file import Source
    from registry_cleanup.cli.storage.pruning import Call
    from registry_cleanup.cli.storage.pruning import prune as do

    if offline == (url is not None):
        raise click.UsageError("say either --registry URL, of a registry that is read-only, or --offline")
    approved = None if approve is None else approve.strip().lower()
    use = None if use_file is None else Source(use_file, use_sha256)
    call = Call(Source(file, plan_sha256), run, url, approved, most_age, login, use)
    if termination_log is None:
        with opened(root) as tree:
            sys.exit(do(tree, call).exit)
    try:
        with opened(root) as tree:
            result: Mapping[str, object] = do(tree, call).as_json()
    except CommandError as error:
        # What is raised was raised before anything was moved.
        _leave(termination_log, {"tags": 0, "manifests": 0, "failure": str(error)})
        raise CommandError(str(error), Exit.DONE) from error
    _leave(termination_log, result)


def _leave(file: Path, result: Mapping[str, object]) -> None:
    try:
        file.write_text(json.dumps(result))
    except OSError as error:
        raise CommandError(f"the result cannot be written: {error}", Exit.FAILED) from error
