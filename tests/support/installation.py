"""The program as people install it: a wheel, in a virtual environment of its own, with nothing of the source tree."""

import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.support.operator import REPOSITORY_ROOT

_LIMIT = 120.0


@dataclass(frozen=True)
class Installation:
    """What was installed.

    Attributes:
        wheel: file that it came from.
        programs: folder for the PATH.
    """

    wheel: Path
    programs: Path


def installation(folder: Path) -> Installation:
    """Build the wheel and install it, without a network: its dependencies are those of the tests."""
    _pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, REPOSITORY_ROOT)
    [wheel] = folder.glob("*.whl")
    home = folder / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    [packages] = (home / "lib").glob("python*/site-packages")
    # A path is taken as it is: the .pth files there, by which the tests see the source tree, are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    _pip("--python", python, "install", "--no-deps", "--no-index", "--force-reinstall", wheel)
    return Installation(wheel, home / "bin")


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    subprocess.run(command, check=True, timeout=_LIMIT)
