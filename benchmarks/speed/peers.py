"""The clients that the operator is measured against, in an environment of their own."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from tests.support.workshop import cache, only_one, remove, run, say

PEERS = {
    "docker-registry-client-async": "with_drca.py",
    "python-dxf": "with_dxf.py",
    "oras": "with_oras.py",
}
"""The script of each."""

_HERE = Path(__file__).parent
_REQUIREMENTS = _HERE.parent / "peers-requirements.txt"


def peers_python() -> Path:
    """Return the interpreter of the peers' environment in the parts' cache, making that first where it is missing.

    Raises `UnavailableError` where it cannot be made.
    """
    pins = hashlib.sha256(_REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    place = cache() / f"peers-{pins}"
    if not (place / "complete").exists():
        cache().mkdir(parents=True, exist_ok=True)
        with only_one(cache() / "lock"):
            say("Installing the clients that the operator is measured against, once")
            remove(place)
            run([sys.executable, "-m", "venv", "--without-pip", place], "making their environment")
            pip: list[str | Path] = [
                sys.executable,
                "-m",
                "pip",
                "--disable-pip-version-check",
                "--python",
                place / "bin/python",
            ]
            run([*pip, "install", "--quiet", "--no-deps", "-r", _REQUIREMENTS], "installing them")
            (place / "complete").touch()
    return place / "bin/python"


def script(peer: str) -> Path:
    """Return the script that reads a registry with a peer."""
    return _HERE / "peer_scripts" / PEERS[peer]
