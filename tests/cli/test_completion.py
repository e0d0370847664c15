"""Shell completion, in a real bash: commands, options, choices and files."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import environment, run
from tests.support.controlplane import ControlPlane
from tests.support.installation import Installation
from tests.support.operator import install
from tests.support.policies import fresh_namespace, policy_spec

_BASH = """
eval "$(registry-cleanup completion bash)"
compopt() { printf '%s %s %s\n' compopt "$@"; }  # it works only while a person types
COMP_WORDS=(registry-cleanup "$@")
COMP_CWORD=$#
"$(complete -p registry-cleanup | sed 's/.* -F \\([^ ]*\\) .*/\\1/')" registry-cleanup
printf '%s\\n' "${COMPREPLY[@]}"
"""


def _completed(installed: Installation, home: Path, *words: str) -> list[str]:
    found = environment(home, PATH=f"{installed.programs}:/usr/bin:/bin")
    found.pop("PYTHONPATH", None)
    done = subprocess.run(
        ["bash", "-c", _BASH, "bash", *words], capture_output=True, text=True, check=True, env=found, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["in"], ["in-use"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["in-use", "--out"], ["--output"]),
        (["in-use", "--output", "l"], ["lines"]),
        (["in-use", "--output", "=", "l"], ["lines"]),
        (["in-use", "--output", "="], ["configmap", "lines"]),
        (["report", "--reason", "Keep"], ["KeepTags"]),
        (["report", "--outcome", "Now"], ["NowShared", "NowInUse"]),
        (["nothing", "like", "this"], [""]),
    ],
)
def test_bash_completes(installed: Installation, tmp_path: Path, words: list[str], expected: list[str]) -> None:
    assert _completed(installed, tmp_path, *words) == expected


def test_bash_completes_files_itself_where_a_file_is_wanted(installed: Installation, tmp_path: Path) -> None:
    assert _completed(installed, tmp_path, "plan", "-f", "") == ["compopt -o default", ""]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_one_that_its_shell_understands(tmp_path: Path, shell: str) -> None:
    done = run(tmp_path, "completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "registry-cleanup" in done.stdout
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True, timeout=60)


def test_another_shell_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    done = run(tmp_path, "completion", "tcsh")
    assert done.returncode == 2
    assert "'bash', 'zsh', 'fish'" in done.stderr


def test_what_goes_wrong_while_a_person_types_is_not_told(tmp_path: Path) -> None:
    """A command whose module cannot be imported would print a traceback between the words."""
    done = run(
        tmp_path,
        _REGISTRY_CLEANUP_COMPLETE="bash_complete",
        COMP_WORDS="registry-cleanup\nplan\n'unclosed",
        COMP_CWORD="many",
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


# Names that the cluster knows


def _asked(home: Path, *words: str, kubeconfig: str = "") -> list[str]:
    """Return what a shell is told that may follow `words`, the last of which is not whole."""
    done = run(
        home,
        _REGISTRY_CLEANUP_COMPLETE="bash_complete",
        COMP_WORDS="\n".join(["registry-cleanup", *words]),
        COMP_CWORD=str(len(words)),
        KUBECONFIG=kubeconfig,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.removeprefix("plain,") for line in done.stdout.splitlines() if line]


def test_the_names_of_policies_and_namespaces_are_those_of_the_cluster(
    plane: ControlPlane, typing_namespace: str, tmp_path: Path
) -> None:
    kubeconfig = str(plane.admin_kubeconfig)
    assert _asked(tmp_path, "report", "-n", typing_namespace, "bu", kubeconfig=kubeconfig) == ["builds"]
    assert _asked(tmp_path, "plan", "--kubeconfig", kubeconfig, "-n", typing_namespace, "") == ["builds", "releases"]
    # The namespace of the context is `default`, which has none.
    assert _asked(tmp_path, "report", "bu", kubeconfig=kubeconfig) == []
    assert typing_namespace in _asked(tmp_path, "report", "-n", typing_namespace[:4], kubeconfig=kubeconfig)


@pytest.fixture
def typing_namespace(plane: ControlPlane) -> Iterator[str]:
    """Return a namespace with two policies."""
    install(plane)
    with fresh_namespace(plane, "typing", []) as namespace:
        for name in ("builds", "releases"):
            namespace.apply(policy_spec("https://registry.example.com"), name)
        yield namespace.name


def test_without_a_cluster_there_are_no_names_and_no_words(tmp_path: Path) -> None:
    assert _asked(tmp_path, "report", "") == []
    assert _asked(tmp_path, "report", "-n", "") == []
    (tmp_path / "broken").write_text("{ no: [yaml")
    assert _asked(tmp_path, "report", "--kubeconfig", "broken", "") == []


def test_nobody_waits_for_a_cluster_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        file = tmp_path / "kubeconfig"
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        file.write_text(json.dumps(kubeconfig))
        assert _asked(tmp_path, "report", "-n", "team", "", kubeconfig=str(file)) == []
        # What the kubeconfig itself knows takes no cluster.
        assert _asked(tmp_path, "report", "--kubeconfig", str(file), "--context", "t") == ["test"]
