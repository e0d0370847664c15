"""The command line as a person starts it: a process with a home of its own and nothing else of this machine."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.processes import environment_without

_OURS = (
    "REGISTRY_",
    "DOCKER_",
    "KUBE",
    "XDG_",
    "_REGISTRY_",
    "COMP_",
    "COLUMNS",
    "NO_COLOR",
    "FORCE_COLOR",
    "LC_",
    "LANG",
    "PYTHONIO",
    "PYTHONUNBUFFERED",
)
COMMAND: Sequence[str] = (sys.executable, "-m", "registry_cleanup")


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a person whose home is `home`, who has no kubeconfig and no login."""
    home.mkdir(parents=True, exist_ok=True)
    return environment_without(*_OURS, HOME=str(home), **more)


def run(
    home: Path, *arguments: str | Path, stdin: str | None = None, limit: float = 60.0, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end.

    Args:
        home: of the person; the working folder, too.
        arguments: of the command.
        stdin: what it reads; without one, nothing is there.
        limit: in seconds.
        variables: of the environment, besides the usual ones.
    """
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin or "",
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        env=environment(home, **variables),
        timeout=limit,
    )
