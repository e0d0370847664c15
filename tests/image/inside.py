"""What an image says of itself: run by the image's own Python, with its standard library only; prints JSON."""

import base64
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
from pathlib import Path

_MODULES = ("pip", "ensurepip", "setuptools", "wheel", "hatchling", "pytest", "mypy")
_PROGRAMS = ("pip", "pip3", "gcc", "cc", "ld", "make", "git", "go", "curl", "wget", "hatchling")


def _distribution(found: importlib.metadata.Distribution) -> dict[str, object]:
    wrong = []
    for file in found.files or []:
        path = Path(str(found.locate_file(file)))
        if not path.exists():
            wrong.append(f"{file} is missing")
        elif file.hash is not None:
            content = hashlib.new(file.hash.mode, path.read_bytes()).digest()
            if base64.urlsafe_b64encode(content).rstrip(b"=").decode() != file.hash.value:
                wrong.append(f"{file} has another hash")
    return {
        "name": found.metadata["Name"],
        "version": found.version,
        "licensed": found.metadata["License-Expression"],
        "files": sorted(str(file) for file in found.files or []),
        "wrong": wrong,
        "direct_url": found.read_text("direct_url.json"),
    }


def _uncompiled() -> list[str]:
    """Return the installed sources whose compiled code Python would not take, or only after a look at the source."""
    found = []
    for source in (Path(sys.prefix) / "lib").rglob("*.py"):
        compiled = Path(importlib.util.cache_from_source(str(source)))
        # PEP 552: the flags of code that bears the hash of its source, which is not compared.
        expected = (1).to_bytes(4, "little") + importlib.util.source_hash(source.read_bytes())
        if not compiled.exists() or compiled.read_bytes()[4:16] != expected:
            found.append(str(source))
    return found


def _writable() -> list[str]:
    """Return the folders, /tmp apart, in which this user may write."""
    found = []
    for path, folders, _ in os.walk("/"):
        if path in ("/", "/dev"):
            folders[:] = [name for name in folders if name not in ("proc", "sys", "tmp", "shm", "pts", "mqueue")]
        if os.access(path, os.W_OK):
            found.append(path)
    return found


def main() -> None:
    """Print it."""
    temporary = Path("/tmp/inside")  # noqa: S108 - the one folder that the cluster lets it write to
    temporary.write_text("")
    facts = {
        "distributions": [_distribution(found) for found in importlib.metadata.distributions()],
        "markers": {
            "implementation_name": sys.implementation.name,
            "implementation_version": platform.python_version(),
            "os_name": os.name,
            "platform_machine": platform.machine(),
            "platform_python_implementation": platform.python_implementation(),
            "platform_release": platform.release(),
            "platform_system": platform.system(),
            "platform_version": platform.version(),
            "python_full_version": platform.python_version(),
            "python_version": ".".join(platform.python_version_tuple()[:2]),
            "sys_platform": sys.platform,
        },
        "user": os.getuid(),
        "group": os.getgid(),
        "groups": sorted(set(os.getgroups()) - {os.getgid()}),
        "safe_path": bool(sys.flags.safe_path),
        "modules": [name for name in _MODULES if importlib.util.find_spec(name)],
        "programs": [name for name in _PROGRAMS if shutil.which(name)],
        "uncompiled": _uncompiled(),
        "writable": _writable(),
    }
    sys.stdout.write(json.dumps(facts))


main()
