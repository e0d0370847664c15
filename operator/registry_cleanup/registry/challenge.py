"""Parsing of `WWW-Authenticate` (RFC 9110 section 11.6.1, and the Docker registry's use of it)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_PARAMETER = re.compile(r'\s*([A-Za-z0-9_.-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]*))\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge: `scheme` in lower case, and its parameters (names in lower case)."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def realm(self) -> str:
        """The realm, empty where it is missing."""
        return self.parameters.get("realm", "")


def parse_challenge(header: str) -> Challenge | None:
    """Return the challenge that `header` holds, or None where it holds none that can be understood.

    OpenShift sends `Basic realm=openshift,error="access denied"`, with an unquoted realm.
    """
    scheme, _, rest = header.strip().partition(" ")
    if not scheme:
        return None
    parameters: dict[str, str] = {}
    for match in _PARAMETER.finditer(rest):
        value = match[2] if match[2] is not None else match[3]
        parameters[match[1].lower()] = re.sub(r"\\(.)", r"\1", value)
    return Challenge(scheme.lower(), parameters)
