"""Crane, a client of registries that is not ours: tests read with it what the operator left."""

import base64
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.binaries import binary
from tests.support.processes import environment_without


class CraneError(Exception):
    """Crane failed; the message is what it said."""


@dataclass(frozen=True)
class Crane:
    """Crane for registries on loopback.

    Attributes:
        folder: Where it gets its Docker configuration from; none of this machine's credentials are used.
        ca_file: The authority to trust; without one, https is not verified and http is allowed.
        credentials: User and password by registry host.
    """

    folder: Path
    ca_file: Path | None = None
    credentials: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)

    def ls(self, repository: str) -> list[str]:
        """Return the tags of `host/repository`, sorted."""
        return sorted(self.run("ls", repository).split())

    def catalog(self, host: str) -> list[str]:
        """Return the repositories of a registry, sorted."""
        return sorted(self.run("catalog", host).split())

    def digest(self, reference: str) -> str:
        return self.run("digest", reference).strip()

    def manifest(self, reference: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("manifest", reference))
        return found

    def exists(self, reference: str) -> bool:
        """Tell whether a manifest is there; any other failure than its absence is an exception."""
        try:
            self.digest(reference)
        except CraneError as error:
            if "MANIFEST_UNKNOWN" in str(error) or "404 Not Found" in str(error):
                return False
            raise
        return True

    def blob(self, reference: str) -> bytes:
        """Return the content of `host/repository@digest`."""
        return self._run("blob", reference)

    def run(self, *arguments: str) -> str:
        """Run any command of crane and return what it printed."""
        return self._run(*arguments).decode()

    def _run(self, *arguments: str) -> bytes:
        self.folder.mkdir(parents=True, exist_ok=True)
        auths = {
            host: {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}
            for host, (user, password) in self.credentials.items()
        }
        (self.folder / "config.json").write_text(json.dumps({"auths": auths}))
        more = {"DOCKER_CONFIG": str(self.folder)}
        if self.ca_file is not None:
            more["SSL_CERT_FILE"] = str(self.ca_file)
        environment = environment_without("DOCKER_", "SSL_CERT_", "REGISTRY_AUTH_", **more)
        insecure = [] if self.ca_file is not None else ["--insecure"]
        done = subprocess.run(
            [binary("crane"), *arguments, *insecure],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stderr + done.stdout).decode(errors="replace")
            raise CraneError(f"crane {' '.join(arguments)}: {said}")
        return done.stdout
