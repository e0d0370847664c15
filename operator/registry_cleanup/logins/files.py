"""Where logins are stored: the files of Docker and Podman, and the credential helpers that they name."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from registry_cleanup.domain.docker_config import Helper, LoginFile, StoredLogin, parse_login_file
from registry_cleanup.domain.run import Failure
from registry_cleanup.domain.trust import Endpoint
from registry_cleanup.logins.helper import SECONDS, HelperError, ask
from registry_cleanup.ports import RunError

_MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """What the search for a stored login came to.

    Attributes:
        login: None if there is none.
        where: it is from, for messages.
        searched: every place that has none, for messages.
    """

    login: StoredLogin | None
    where: str = ""
    searched: tuple[str, ...] = ()


class StoredLogins:
    """The logins that a person has stored."""

    def __init__(self, named: Path | None, environment: Mapping[str, str], helper_seconds: float = SECONDS) -> None:
        """Search the file that is `named`, or else the usual places of `environment`.

        A credential helper may take so many seconds.
        """
        self._named = named
        self._environment = environment
        self._helper_seconds = helper_seconds

    async def find(self, endpoint: Endpoint) -> Found:
        """Return the first login for the registry as a whole; raise `RunError` where one may be, and cannot be read."""
        searched: list[str] = []
        for path in self.places():
            file = await asyncio.to_thread(self._read, path)
            if file is None:
                searched.append(f"{path} (not there)")
                continue
            helper = file.helper(endpoint)
            if helper is not None:
                if (login := await self._asked(helper, path)) is not None:
                    return Found(login, f"docker-credential-{helper.name}, named by {path}")
                searched.append(f"docker-credential-{helper.name}")
            try:
                login = file.login(endpoint)
            except ValueError as error:
                raise _unusable(path, f"its entry for {endpoint.host_port} cannot be read: {error}") from error
            if login is not None:
                return Found(login, str(path))
            parts = file.parts(endpoint)
            # The whole registry is looked at, and a login for one of its namespaces does not list the others.
            note = f" (logins for parts of it, such as {parts[0]}, are not used)" if parts else ""
            searched.append(f"{path}{note}")
        return Found(None, searched=tuple(searched))

    def places(self) -> Iterator[Path]:
        """Yield the files that may hold logins, in the order in which they are searched."""
        if self._named is not None:
            yield self._named
            return
        environment = self._environment
        home = Path(environment.get("HOME") or "~").expanduser()
        yield Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
        runtime = environment.get("XDG_RUNTIME_DIR")
        yield (Path(runtime) if runtime else Path(f"/run/containers/{os.getuid()}")) / (
            "containers/auth.json" if runtime else "auth.json"
        )
        yield Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "containers" / "auth.json"

    def _read(self, path: Path) -> LoginFile | None:
        """Read one file; None if it is not there, which is an error of the one that is named."""
        try:
            with path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError) as error:
            if path == self._named:
                raise _unusable(path, "there is no such file") from error
            return None
        except OSError as error:
            raise _unusable(path, error.strerror or type(error).__name__) from error
        if len(content) > _MOST_BYTES:
            raise _unusable(path, f"it has more than {_MOST_BYTES} bytes")
        if path == self._named and not content.strip():
            return LoginFile({})  # /dev/null, as a way to say that no login is wanted
        try:
            return parse_login_file(content.decode())
        except ValueError as error:
            raise _unusable(path, str(error) if not isinstance(error, UnicodeDecodeError) else "no UTF-8") from error

    async def _asked(self, helper: Helper, path: Path) -> StoredLogin | None:
        try:
            return await ask(helper, self._environment, self._helper_seconds)
        except HelperError as error:
            message = (
                f"{error}; {path} names it: correct that, name another file with --registry-config, or give --username "
                "with --password-stdin"
            )
            raise RunError(Failure("CredentialHelperFailed", message, mendable=True)) from error


def _unusable(path: Path, why: str) -> RunError:
    message = f"the logins of {path} cannot be read: {why}; correct it, or name another file with --registry-config"
    return RunError(Failure("LoginFileInvalid", message, mendable=True))
