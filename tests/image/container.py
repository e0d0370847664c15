"""A root file system run as the cluster would run it: read-only, an arbitrary user, no capability, /tmp alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The namespace of mounts ends with the process, which keeps its number: signals reach it.
_START = """set -eu
root=$1 user=$2; shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=1777,size=64m,nosuid,nodev tmpfs "$root/tmp"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
exec setpriv --no-new-privs chroot --userspec="$user" --groups= "$root" "$@"
"""
_KUBECONFIG = "run/secrets/kubeconfig"


@dataclass(frozen=True)
class Container:
    """An image's root file system and configuration, ready to run.

    Attributes:
        root: A copy of the root file system of its own.
        config: The `config` of the image's configuration.
    """

    root: Path
    config: Mapping[str, Any]

    def command(
        self, arguments: Sequence[str], user: str, *, entrypoint: Sequence[str] | None = None
    ) -> Sequence[str | Path]:
        """Return the command that runs it, with the image's environment to be handed in by `environment`.

        Args:
            arguments: After the entry point; the image's own where there are none.
            user: Number of user and group, as `65532:65532`.
            entrypoint: Instead of the image's.
        """
        inside = [*(entrypoint or self.config["Entrypoint"]), *(arguments or self.config["Cmd"])]
        private = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _START, "sh"]
        return [*private, self.root, user, *inside]

    def environment(self, **more: str) -> Mapping[str, str]:
        """Return the image's environment, with what a cluster adds: a home of / for a user without a name."""
        own = dict(entry.split("=", 1) for entry in self.config["Env"])
        return {**own, "HOME": "/", "HOSTNAME": "image-check", **more}

    def mount_kubeconfig(self, content: str) -> str:
        """Put a kubeconfig where a Secret could be mounted; return its path inside."""
        file = self.root / _KUBECONFIG
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return f"/{_KUBECONFIG}"
