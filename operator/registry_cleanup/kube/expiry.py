"""When a token ends, by what it says itself: for people to be warned, never to decide anything."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime


def stated_expiry(secret: str) -> datetime | None:
    """Return the `exp` of a JSON Web Token (RFC 7519), read without verification; None for anything else.

    Passwords are tokens, too, where `oc whoami -t` or a robot account made them. Nothing of the token is told besides.
    """
    parts = secret.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        expires = claims["exp"]
        return datetime.fromtimestamp(expires, UTC) if type(expires) in (int, float) else None
    except (binascii.Error, ValueError, LookupError, TypeError, OverflowError, OSError, RecursionError):
        return None
