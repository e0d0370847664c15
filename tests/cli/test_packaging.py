"""The wheel is whole, and what it installs is found by a person's shell and by kubectl."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.command import environment
from tests.support.installation import Installation
from tests.support.operator import REPOSITORY_ROOT

_PACKAGE = REPOSITORY_ROOT / "operator" / "registry_cleanup"
_KUBECTL = str(Path(sys.executable).parent / "kubectl")


def _run(installed: Installation, home: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    found = environment(home, PATH=f"{installed.programs}:/usr/bin:/bin", **variables)
    # As installed, not as in the tree.
    found.pop("PYTHONPATH", None)
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=home, env=found, timeout=60)


def test_the_wheel_holds_every_file_of_the_package_and_the_crd(installed: Installation) -> None:
    names = {name for name in zipfile.ZipFile(installed.wheel).namelist() if ".dist-info/" not in name}
    tree = {
        str(path.relative_to(_PACKAGE.parent))
        for path in _PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert names == tree | {"registry_cleanup/registrycleanuppolicies.yaml"}


def test_the_installed_program_is_the_wheel(installed: Installation, tmp_path: Path) -> None:
    python = str(installed.programs / "python")
    done = _run(installed, tmp_path, python, "-c", "import registry_cleanup; print(registry_cleanup.__file__)")
    assert Path(done.stdout).is_relative_to(installed.programs.parent)


def test_kubectl_runs_it_as_a_plugin(installed: Installation, tmp_path: Path) -> None:
    done = _run(installed, tmp_path, _KUBECTL, "registry-cleanup", "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: kubectl registry-cleanup [OPTIONS] COMMAND")


def test_kubectl_passes_on_how_it_ended(installed: Installation, tmp_path: Path) -> None:
    done = _run(installed, tmp_path, _KUBECTL, "registry-cleanup", "plan", "--nope")
    assert done.returncode == 2
    assert "Try 'kubectl registry-cleanup plan --help' for help." in done.stderr


@pytest.mark.parametrize(
    ("words", "expected", "directive"),
    [
        (["com"], {"completion\tPrint the completion script of bash, zsh or fish."}, ":4"),
        (["completion", ""], {"bash", "zsh", "fish"}, ":4"),
        (["in-use", "--output", "con"], {"configmap"}, ":4"),
        (["plan", "-f", ""], set(), ":0"),
    ],
)
def test_kubectl_completes_what_a_person_types(
    installed: Installation, tmp_path: Path, words: list[str], expected: set[str], directive: str
) -> None:
    done = _run(installed, tmp_path, _KUBECTL, "__complete", "registry-cleanup", *words)
    *found, last = done.stdout.splitlines()
    assert (set(found), last) == (expected, directive), done.stderr
