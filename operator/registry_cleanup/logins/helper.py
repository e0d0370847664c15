"""Credential helpers: programs `docker-credential-NAME` that keep logins for Docker, Podman and others."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Mapping

from registry_cleanup.domain.docker_config import Helper, StoredLogin, parse_helper_answer

# Some ask their person for a passphrase.
SECONDS = 60.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# What the helpers of Docker's own say, on standard output, with exit code 1.
_NOT_FOUND = "credentials not found"
_LONGEST = 200


class HelperError(Exception):
    """A credential helper is of no use; the message says why, and holds nothing secret."""


async def ask(helper: Helper, environment: Mapping[str, str], seconds: float = SECONDS) -> StoredLogin | None:
    """Return the login that `helper` has; None if it says that it has none. Raises `HelperError`."""
    if not _NAME.fullmatch(helper.name):
        raise HelperError("a credential helper's name holds other signs than letters, digits, dots and dashes")
    program = f"docker-credential-{helper.name}"
    path = shutil.which(program, path=environment.get("PATH"))
    if path is None:
        raise HelperError(f"the credential helper {program} is not on the PATH; install it")
    return await asyncio.to_thread(_ask, path, program, helper.server, environment, seconds)


def _ask(path: str, program: str, server: str, environment: Mapping[str, str], seconds: float) -> StoredLogin | None:
    try:
        # In a thread and not by asyncio, which may wait for what a killed helper has left running.
        done = subprocess.run(  # noqa: S603 - a program of the person's own PATH, without a shell
            [path, "get"], input=server.encode(), capture_output=True, env=environment, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise HelperError(f"{program} did not answer within {seconds:g} seconds") from None  # it would hold the output
    except OSError as error:
        raise HelperError(f"{program} cannot be started: {error.strerror}") from error
    text = done.stdout.decode(errors="replace").strip()
    if done.returncode != 0:
        if text.startswith(_NOT_FOUND):
            return None
        raise HelperError(f"{program} failed (exit code {done.returncode}){_said(text)}")
    try:
        return parse_helper_answer(text)
    except ValueError as error:
        raise HelperError(f"{program} answers {error}") from error


def _said(text: str) -> str:
    """Return what a helper says of its failure: one line, and never what may be a login."""
    line = text.splitlines()[0] if text else ""
    printable = "".join(sign for sign in line if sign.isprintable())[:_LONGEST]
    return f": {printable}" if printable and "{" not in printable else ""
