"""What a build needs of this machine, as secrets: pip's settings and the authorities that sign for its index."""

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Of pip's settings those that say where the index is and how to reach it; others, and paths, are this machine's own.
_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")
_AUTHORITIES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True)
class BuildSecrets:
    """Files for the build, and what of them must be in no image.

    Attributes:
        pip: A pip.conf.
        authorities: PEM file, None where this machine names none of its own.
        forbidden: Each text that must not be seen, by what it is.
    """

    pip: Path
    authorities: Path | None
    forbidden: Mapping[str, str]

    def options(self) -> Sequence[str]:
        """Return the options of the build."""
        found = ["--secret", f"id=pip.conf,src={self.pip}"]
        return found if self.authorities is None else [*found, "--secret", f"id=ca.crt,src={self.authorities}"]

    def seen_in(self, content: bytes) -> list[str]:
        """Return what of the secrets is to be seen in a file."""
        return [what for what, text in self.forbidden.items() if text.encode() in content]


def build_secrets(folder: Path) -> BuildSecrets:
    """Write down what pip and the environment say here; a mark in each file shows whether it got anywhere."""
    settings = {name: value for name, value in _pip_settings().items() if name in _SETTINGS}
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    if proxy and "proxy" not in settings:
        settings["proxy"] = proxy
    mark = secrets.token_hex(16)
    authorities = _authorities(folder, mark)
    if authorities is not None:
        settings["cert"] = "/run/secrets/ca.crt"
    pip = folder / "pip.conf"
    lines = [f"{name} = {value}" for name, value in settings.items()]
    pip.write_text("\n".join([f"# {mark}", "[global]", *lines, ""]))
    # Where nothing is set, the mark alone tells.
    addresses = {f"pip's {name}": value for name, value in settings.items() if "://" in value}
    return BuildSecrets(pip, authorities, {"the mark of the secrets": mark, **addresses})


def _pip_settings() -> Mapping[str, str]:
    """Return what pip's files and variables set, the latter first."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        name = key.removeprefix(":env:.").removeprefix("global.").removeprefix("install.")
        if name not in found or key.startswith(":env:"):
            found[name] = value.strip("'\"").replace("\\n", " ")
    return found


def _authorities(folder: Path, mark: str) -> Path | None:
    for name in _AUTHORITIES:
        file = Path(os.environ.get(name, ""))
        if file.is_file():
            target = folder / "ca.crt"
            # What stands outside of the certificates is not read.
            target.write_text(f"{mark}\n{file.read_text()}")
            return target
    return None
