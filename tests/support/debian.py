"""Debian's packages, downloaded with this machine's own apt and unpacked: no root needed, nothing is installed."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.workshop import UnavailableError, remove, run, say, workshop

_KEYRINGS = "/usr/share/keyrings/{}-archive-keyring.gpg"


def unpack(packages: Sequence[str], target: Path, *, dependencies: bool = False) -> None:
    """Unpack the newest versions of these packages into a folder.

    Args:
        packages: their names.
        target: the folder.
        dependencies: unpack what they depend on too, as far as it is not installed on this machine.

    Raises:
        UnavailableError: This machine has no apt, or apt cannot reach its sources.
    """
    names = ", ".join(packages)
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise UnavailableError(f"no apt-get on this machine to take the Debian packages {names} from")
    folder = workshop() / "apt"
    remove(folder)
    for part in ("lists/partial", "cache/archives/partial", "download"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    # Folders of our own let apt work without root; root's apt would drop to a user that may not enter them.
    own = ["-o", f"Dir::Cache={folder}/cache"]
    if os.geteuid() == 0:
        own += ["-o", "APT::Sandbox::User=root"]
    own_lists = ["-o", f"Dir::State::lists={folder}/lists"]
    say(f"Downloading from Debian: {names} (no root needed, nothing is installed)")
    try:
        _download(packages, own, folder, dependencies=dependencies)
    except UnavailableError:
        say("  not to be had with this machine's package lists: fetching lists into a folder of our own")
        try:
            run(["apt-get", *own, *own_lists, "-q", "update"], "fetching package lists", folder)
        except UnavailableError as error:
            # One unreachable source of several: the package may well be in another one.
            say(f"  {error}")
        _download(packages, [*own, *own_lists], folder, dependencies=dependencies)
    for archive in sorted((folder / "download").glob("*.deb")):
        run(["dpkg-deb", "-x", archive, target], f"unpacking {archive.name}")


def _download(packages: Sequence[str], options: Sequence[str], folder: Path, *, dependencies: bool) -> None:
    wanted = set(packages)
    if dependencies:
        wanted |= _missing(packages, options)
    run(["apt-get", *options, "-q", "download", *sorted(wanted)], "downloading packages", folder / "download")


def _missing(packages: Sequence[str], options: Sequence[str]) -> set[str]:
    """Return the names of what an installation of `packages` would add to this machine, as apt works it out."""
    command = ["apt-get", *options, "install", "-qq", "--no-install-recommends", "--print-uris", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UnavailableError(f"apt-get does not know what {', '.join(packages)} need: {done.stderr.strip()}")
    # 'URI' package_version_architecture.deb size checksum
    return {line.split()[1].partition("_")[0] for line in done.stdout.splitlines() if line.startswith("'")}


def sources() -> list[str]:
    """Return the lines of a sources.list with the distribution's own sources as this machine has them.

    Raises:
        UnavailableError: There are none; their package lists were perhaps never fetched.
    """
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    for origin in ("Debian", "Ubuntu"):
        command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages", f"Origin: {origin}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        keyring = Path(_KEYRINGS.format(origin.lower()))
        signed = f"[signed-by={keyring}] " if keyring.exists() else ""
        if lines := sorted({f"deb {signed}{line}" for line in done.stdout.splitlines() if line}):
            return lines
    raise UnavailableError("apt knows no source of Debian or Ubuntu here; run `apt-get update` once")
