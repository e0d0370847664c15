"""What a cluster uses as text: lines, or the ConfigMap with them that a policy of another cluster names. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry_cleanup.domain.in_use import User
from registry_cleanup.kube.in_use.gathered import Gathered

# The API server takes no more data in a ConfigMap.
MOST_BYTES = 1024 * 1024
_KEY = "images"
_HEAD = "# What a cluster uses (registry-cleanup in-use), for inUse.referencesConfigMapRef."
# No image has other characters. One of these would end the line, begin a comment or be no YAML: what such a text could
# mean (`UnparsableImageError.guess`) is the same with another character that no image has.
_NO_IMAGE = re.compile(r"[^!-~]|#")
_NO_COMMENT = re.compile(r"[^ -~]")


class TooLargeError(Exception):
    """No ConfigMap holds so many images."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The images that a cluster uses.

    Attributes:
        users: a few users of each.
        notes: what a person should know of it.
    """

    users: Mapping[str, Sequence[User]]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, gathered: Gathered, notes: Sequence[str] = ()) -> Listing:
        """Return what was gathered, and what of it is no image."""
        _, odd = gathered.in_use(())
        return cls(gathered.users, (*notes, *odd))

    def lines(self, *, comments: bool = True) -> list[str]:
        """Return an image a line, in the order of the alphabet; who uses it stands behind `#`."""
        found: dict[str, list[User]] = {}
        for text, users in self.users.items():
            if written := _written(text):
                found.setdefault(written, []).extend(users)
        return [
            f"{image}  # {_NO_COMMENT.sub('?', ', '.join(map(str, users)))}" if comments else image
            for image, users in sorted(found.items())
        ]

    def config_map(self, name: str, namespace: str | None = None) -> str:
        """Return a ConfigMap as YAML; raise `TooLargeError` where it does not fit even without comments."""
        lines = self.lines()
        if _size(lines) > MOST_BYTES:
            lines = self.lines(comments=False)
        if _size(lines) > MOST_BYTES:
            raise TooLargeError(
                f"{len(lines)} images take {_size(lines) / MOST_BYTES:.1f} MiB, and a ConfigMap holds 1 MiB; "
                "--output lines prints them"
            )
        where = [f"  namespace: {json.dumps(namespace)}"] if namespace is not None else []
        head = ["apiVersion: v1", "kind: ConfigMap", "metadata:", f"  name: {json.dumps(name)}", *where]
        return "\n".join([*head, "data:", f"  {_KEY}: |", *(f"    {line}" for line in (_HEAD, *lines))]) + "\n"


def _size(lines: Sequence[str]) -> int:
    """Return how large the data of a ConfigMap with these lines is."""
    return len(_KEY) + sum(len(line) + 1 for line in (_HEAD, *lines))


def _written(text: str) -> str:
    """Return an image so that who reads the line takes it for what it is, and no image for none."""
    plain = text.strip()
    # White space around it, which makes it no image, would be lost.
    return _NO_IMAGE.sub("?", plain) + ("?" if plain and plain != text else "")
