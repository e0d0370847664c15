"""buildah without a daemon and without an installation: Debian's package, unpacked, and a base image made of others."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.support.debian import sources, unpack
from tests.support.workshop import UnavailableError, cache, only_one, remove, run, say, this_platform, workshop

# What buildah needs of other packages; the rest of its libraries belongs to every Debian.
_BUILDAH = (
    "buildah",
    "golang-github-containers-common",
    "golang-github-containers-image",
    "libassuan0",
    "libdevmapper1.02.1",
    "libgpgme11",
    "libseccomp2",
    "libsubid4",
    "mmdebstrap",
)
# What the public python image, which the base stands for, has of Debian; and Python, which it has from elsewhere.
_VARIANT = "apt"
_BASE = ("ca-certificates", "netbase", "python3", "python3-venv", "tzdata")
# That image's own pip belongs to no package.
_OWN_PIP = (
    "rm -f /usr/lib/python3*/EXTERNALLY-MANAGED && wheel=$(echo /usr/share/python-wheels/pip-*.whl) && "
    'PYTHONPATH="$wheel" python3 -m pip install --quiet --no-index --root-user-action=ignore "$wheel"'
)
_NO_DOCUMENTATION = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
)
_BASE_LIMIT = 600.0
_REPORT_EVERY = 15.0

# buildah starts itself anew without LD_LIBRARY_PATH: the loader's cache names the unpacked libraries, in a mount
# namespace of its own, with which every mount ends, too.
_WITH_LIBRARIES = 'mount --bind "$1" /etc/ld.so.cache && shift && exec "$@"'


class BuildahError(Exception):
    """buildah failed or was not done in time; the message ends with what it said last."""


@dataclass(frozen=True)
class Parts:
    """What the cache keeps.

    Attributes:
        tools: Folder with the unpacked packages.
        base: Tar file of the base's root file system.
    """

    tools: Path
    base: Path


def parts() -> Parts:
    """Return the tools and the base, obtaining them first where the cache does not have them.

    Raises:
        UnavailableError: They cannot be obtained here.
    """
    pins = sha256(repr((_BUILDAH, _VARIANT, _BASE, _OWN_PIP, _NO_DOCUMENTATION)).encode()).hexdigest()[:16]
    folder = cache() / f"image-{this_platform()}-{pins}"
    found = Parts(folder / "tools", folder / "base.tar")
    if not (found.tools.exists() and found.base.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        with only_one(cache() / "lock"):
            if not found.tools.exists():
                _obtain_tools(found.tools)
            if not found.base.exists():
                _assemble_base(found)
            remove(workshop())
    return found


def _obtain_tools(target: Path) -> None:
    new = workshop() / "image-tools"
    remove(new)
    unpack(_BUILDAH, new)
    libraries = sorted({str(target / file.parent.relative_to(new)) for file in new.rglob("*.so.*")})
    # Renamed into place when whole; the loader's cache is made there, since it holds full paths.
    new.rename(target)
    configuration = target / "ld.so.conf"
    configuration.write_text("\n".join(["include /etc/ld.so.conf", *libraries, ""]))
    try:
        run(["ldconfig", "-X", "-C", target / "ld.so.cache", "-f", configuration], "finding libraries")
    except BaseException:
        remove(target)
        raise


def _assemble_base(found: Parts) -> None:
    say("Assembling a base image from Debian packages, once")
    workshop().mkdir(parents=True, exist_ok=True)
    new, list_ = workshop() / "base.tar", workshop() / "sources.list"
    list_.write_text("\n".join([*sources(), ""]))
    environment = {
        **os.environ,
        "PATH": f"{found.tools / 'usr' / 'bin'}:{os.environ['PATH']}",
        "TMPDIR": str(workshop()),
    }
    options = [f"--dpkgopt={option}" for option in _NO_DOCUMENTATION]
    command: list[str | Path] = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        found.tools / "usr" / "bin" / "mmdebstrap",
    ]
    command += ["--mode=root", f"--variant={_VARIANT}", f"--include={','.join(_BASE)}", *options]
    command += [f"--customize-hook=chroot \"$1\" sh -c '{_OWN_PIP}'", "", new, list_]
    run(command, "assembling the base", environment=environment, limit=_BASE_LIMIT)
    new.rename(found.base)


@dataclass(frozen=True)
class Buildah:
    """buildah with a storage of its own.

    Attributes:
        tools: Folder with the unpacked packages.
        folder: Storage, temporary files and logs, all of which may go when nobody works in it any more.
    """

    tools: Path
    folder: Path

    def run(self, *arguments: str | Path, doing: str, limit: float = 120.0) -> str:
        """Run a command of buildah and return what it printed.

        Raises:
            BuildahError: It failed or took longer than `limit` seconds.
        """
        temporary = self.folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        settings = self.tools / "etc" / "containers"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(temporary),
            "TMPDIR": str(temporary),
            "BUILDAH_ISOLATION": "chroot",
            "CONTAINERS_CONF": str(self.tools / "usr" / "share" / "containers" / "containers.conf"),
        }
        private = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _WITH_LIBRARIES, "sh"]
        program: list[str | Path] = [
            self.tools / "ld.so.cache",
            self.tools / "usr" / "bin" / "buildah",
            "--storage-driver",
            "vfs",
        ]
        storage: list[str | Path] = ["--root", self.folder / "storage", "--runroot", self.folder / "run"]
        registries: list[str | Path] = ["--registries-conf", settings / "registries.conf"]
        command: list[str | Path] = [*private, *program, *storage, *registries, *arguments]
        return _bounded(command, doing, self.folder / "log", environment, limit)

    def import_base(self, archive: Path, name: str) -> None:
        """Make an image of a root file system."""
        container = self.run("from", "scratch", doing="beginning the base").strip()
        self.run("add", "--quiet", container, archive, "/", doing="importing the base")
        self.run("config", "--env", "LANG=C.UTF-8", "--cmd", "python3", container, doing="configuring the base")
        self.run("commit", "--quiet", "--rm", *self._policy(), container, name, doing="committing the base")

    def build(self, context: Path, name: str, *options: str | Path, limit: float) -> str:
        """Build an image and return what the build printed."""
        fixed = ("build", "--isolation", "chroot", "--pull-never", *self._policy(), "--tag", name)
        return self.run(*fixed, *options, context, doing=f"building {name}", limit=limit)

    def root(self, name: str) -> Path:
        """Return a new copy of an image's root file system, which may be written to."""
        container = self.run("from", "--pull-never", *self._policy(), name, doing=f"copying {name}").strip()
        return Path(self.run("mount", container, doing=f"finding {name}").strip())

    def inspect(self, name: str) -> Mapping[str, Any]:
        """Return all that buildah knows of an image."""
        found: Mapping[str, Any] = json.loads(self.run("inspect", "--type", "image", name, doing=f"inspecting {name}"))
        return found

    def pushed(self, name: str) -> Mapping[str, Any]:
        """Return the manifest that a push would send; its layers are compressed."""
        target = self.folder / "pushed"
        self.run("push", "--quiet", *self._policy(), name, f"dir:{target}", doing=f"compressing {name}", limit=300)
        manifest: Mapping[str, Any] = json.loads((target / "manifest.json").read_text())
        return manifest

    def _policy(self) -> Sequence[str]:
        return ("--signature-policy", str(self.tools / "etc" / "containers" / "policy.json"))


def _bounded(command: Sequence[str | Path], doing: str, log: Path, environment: Mapping[str, str], limit: float) -> str:
    """Run a command in a session of its own and return what it printed, on stdout first and then on stderr."""
    start = time.monotonic()
    with (
        log.with_suffix(".out").open("w+", errors="replace") as output,
        log.with_suffix(".err").open("w+", errors="replace") as errors,
        subprocess.Popen(command, stdout=output, stderr=errors, env=environment, start_new_session=True) as process,
    ):
        try:
            while process.poll() is None:
                try:
                    process.wait(_REPORT_EVERY)
                except subprocess.TimeoutExpired:
                    say(f"  {doing}: {time.monotonic() - start:.0f} s")
                    if time.monotonic() - start > limit:
                        raise BuildahError(f"{doing} was not done after {limit:g} s:\n{_tail(log)}") from None
        except BaseException:
            # All that it started: a build runs pip in a process of its own.
            os.killpg(process.pid, signal.SIGKILL)
            raise
        if process.returncode != 0:
            raise BuildahError(f"{doing} failed with code {process.returncode}:\n{_tail(log)}")
        output.seek(0)
        return output.read()


def _tail(log: Path) -> str:
    lines = [line for suffix in (".out", ".err") for line in log.with_suffix(suffix).read_text().splitlines()[-25:]]
    return "\n".join(lines)


def needs() -> str | None:
    """Return why this machine cannot build images, if it cannot."""
    if os.geteuid() != 0:
        return "image-check mounts and changes owners, which only root may: run `sudo make image-check`"
    try:
        subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "this machine allows no mount namespaces (`unshare --mount`), as in a container without CAP_SYS_ADMIN"
    return None


__all__ = ["Buildah", "BuildahError", "Parts", "UnavailableError", "needs", "parts"]
