"""What stands for an image: a program of this machine, with the files and defaults that the image would have."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.binaries import Name, binary
from tests.support.kubelet.containers import Mount
from tests.support.registries import Version

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FILES_OF_THE_MACHINE = ("/usr", "/etc/ssl", "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
_DEVICES = ("null", "zero", "full", "random", "urandom")
# Debian and its like: /bin, /lib and so on are links into /usr.
_LINKS = ("lib", "lib32", "lib64", "sbin")
_ETC = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "/etc/resolv.conf": "",
}


@dataclass(frozen=True)
class Image:
    """What a container of an image is made of.

    Attributes:
        entrypoint: As an image has it.
        arguments: What an image calls CMD.
        environment: Its variables.
        programs: Programs of this machine by what they are called in the image's /bin.
        files: Text by absolute path; one that begins with `#!` can be executed.
        folders: Folders of this machine that are seen under their own paths, and cannot be written to.
        work_folder: Where its program begins to work.
    """

    entrypoint: Sequence[str]
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, Path] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    folders: Sequence[Path] = ()
    work_folder: str = "/"

    @property
    def digest(self) -> str:
        """Return what tells it from other images."""
        return f"sha256:{hashlib.sha256(repr(self).encode()).hexdigest()}"

    @property
    def variables(self) -> dict[str, str]:
        return {"PATH": _PATH, "HOME": "/root", **self.environment}

    def lay_out(self, root: Path) -> list[Mount]:
        """Make a container's own folder, and return what is to be seen in it besides."""
        for name in ("bin", "dev", "etc", "proc", "root", "run", "tmp", "var/tmp"):
            (root / name).mkdir(parents=True)
        for name in _LINKS:
            if Path("/", name).is_symlink():
                (root / name).symlink_to(Path("/", name).readlink())
        for path, text in {**_ETC, **self.files}.items():
            file = root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o755 if text.startswith("#!") else 0o644)
        for program in Path("/bin").iterdir():
            if program.name not in self.programs:
                (root / "bin" / program.name).symlink_to(f"/usr/bin/{program.name}")
        seen = [(path, path) for path in _FILES_OF_THE_MACHINE if Path(path).exists()]
        seen += [(str(folder), str(folder)) for folder in self.folders]
        seen += [(str(program), f"/bin/{name}") for name, program in self.programs.items()]
        devices = [Mount(f"/dev/{name}", f"/dev/{name}") for name in _DEVICES]
        return [*devices, *(Mount(source, target, read_only=True) for source, target in seen)]


# As the entrypoint of the official image: its arguments are a configuration, or a command of the registry.
_ENTRYPOINT = """\
#!/bin/sh
case "$1" in
  *.yml | *.yaml) exec registry serve "$@" ;;
  serve | garbage-collect | help | -*) exec registry "$@" ;;
  *) exec "$@" ;;
esac
"""
_CONFIGURATION = {
    "version": "0.1",
    "log": {"fields": {"service": "registry"}},
    "storage": {
        "cache": {"blobdescriptor": "inmemory"},
        "filesystem": {"rootdirectory": "/var/lib/registry"},
    },
    "http": {"addr": ":5000", "headers": {"X-Content-Type-Options": ["nosniff"]}},
    "health": {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}},
}

_DISTRIBUTION: Mapping[Version, tuple[Name, str, Mapping[str, str]]] = {
    "2": ("registry-2", "/etc/docker/registry/config.yml", {}),
    "3": ("registry-3", "/etc/distribution/config.yml", {"OTEL_TRACES_EXPORTER": "none"}),
}


def distribution_image(version: Version) -> Image:
    """Return what stands for the official image of Distribution 2.8 or 3.1."""
    program, configuration, environment = _DISTRIBUTION[version]
    return Image(
        entrypoint=["/entrypoint.sh"],
        arguments=[configuration],
        environment=environment,
        programs={"registry": binary(program)},
        # JSON is YAML too.
        files={"/entrypoint.sh": _ENTRYPOINT, configuration: json.dumps(_CONFIGURATION, indent=2)},
    )


def shell_image() -> Image:
    """Return an image with a shell and the usual programs; what it runs is up to the pod."""
    return Image(entrypoint=[], arguments=["/bin/sh"])


def python_image(*folders: Path, entrypoint: Sequence[str] = ("python",), **environment: str) -> Image:
    """Return an image with this interpreter and its packages, which sees `folders` too."""
    own = dict.fromkeys([Path(sys.prefix), Path(sys.base_prefix)])
    return Image(
        entrypoint=list(entrypoint),
        # The interpreter finds its packages by the path that it is called by.
        environment={"PATH": f"{Path(sys.executable).parent}:{_PATH}", "PYTHONUNBUFFERED": "1", **environment},
        folders=[folder for folder in (*own, *folders) if not folder.is_relative_to("/usr")],
    )
