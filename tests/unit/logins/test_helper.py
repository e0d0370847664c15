"""Credential helpers are asked as Docker asks them, bounded in time, and tell nothing secret when they fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from registry_cleanup.domain.docker_config import Helper, StoredKind, StoredLogin
from registry_cleanup.logins.helper import HelperError, ask

_OWN = Helper("own", "registry.example:5000")


def _write(folder: Path, body: str, name: str = "own") -> dict[str, str]:
    """Write a helper, and return an environment in which it is found."""
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!{sys.executable}\nimport os, sys, time\n{body}\n")
    program.chmod(0o700)
    return {"PATH": str(folder)}


async def test_the_server_comes_on_standard_input_and_the_command_as_the_only_argument(tmp_path: Path) -> None:
    script = "import json; print(json.dumps(dict(Username='/'.join(sys.argv[1:]), Secret=sys.stdin.read())))"
    assert await ask(_OWN, _write(tmp_path, script)) == StoredLogin(StoredKind.PASSWORD, "get", "registry.example:5000")


async def test_nothing_of_a_server_is_read_by_a_shell(tmp_path: Path) -> None:
    script = "import json; print(json.dumps(dict(Username='x', Secret=sys.stdin.read())))"
    server = "$(touch pwned);`touch pwned`"
    found = await ask(Helper("own", server), _write(tmp_path, script))
    assert found is not None
    assert found.secret == server


async def test_a_helper_that_has_no_login_says_so(tmp_path: Path) -> None:
    body = "print('credentials not found in native keychain'); sys.exit(1)"
    assert await ask(_OWN, _write(tmp_path, body)) is None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("print('locked'); print('s3cret'); sys.exit(3)", "docker-credential-own failed (exit code 3): locked"),
        ('print(\'{"Secret": "s3cret"}\'); sys.exit(1)', "docker-credential-own failed (exit code 1)"),
        ("sys.exit(1)", "docker-credential-own failed (exit code 1)"),
        ("print('\\x1b[31mred\\x07'); sys.exit(1)", "docker-credential-own failed (exit code 1): [31mred"),
        ("print('x' * 1000); sys.exit(1)", "docker-credential-own failed (exit code 1): " + "x" * 200),
        ("print('s3cret')", "docker-credential-own answers no JSON with Username and Secret"),
        ("sys.stdout.buffer.write(b'\\xff')", "docker-credential-own answers no JSON with Username and Secret"),
    ],
    ids=["says-why", "secret", "silent", "control-characters", "long", "no-json", "no-text"],
)
async def test_a_helper_that_fails_is_told_without_a_secret(tmp_path: Path, body: str, told: str) -> None:
    with pytest.raises(HelperError) as caught:
        await ask(_OWN, _write(tmp_path, body))
    assert str(caught.value) == told


async def test_a_helper_that_hangs_is_given_up_with_what_it_started(tmp_path: Path) -> None:
    # A child that keeps the pipe open must not hold up the end.
    body = "import subprocess; subprocess.Popen(['/bin/sleep', '20']); time.sleep(20)"
    with pytest.raises(HelperError, match=r"did not answer within 0\.5 seconds"):
        await ask(_OWN, _write(tmp_path, body), seconds=0.5)


async def test_a_helper_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HelperError, match="docker-credential-own is not on the PATH"):
        await ask(_OWN, {"PATH": str(tmp_path)})


async def test_a_helper_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    environment = _write(tmp_path, "")
    (tmp_path / "docker-credential-own").write_text("#!/not/there\n")
    with pytest.raises(HelperError, match="docker-credential-own cannot be started: No such file"):
        await ask(_OWN, environment)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "-x", "a b", "a;b"])
async def test_a_helper_is_never_looked_for_outside_the_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "evil").write_text(json.dumps({}))
    with pytest.raises(HelperError, match="credential helper's name"):
        await ask(Helper(name, "x"), {"PATH": str(tmp_path)})
