"""When tokens end, by what they say themselves."""

import base64
import json
from datetime import UTC, datetime

import pytest

from registry_cleanup.kube.expiry import stated_expiry


def _token(payload: bytes) -> str:
    return f"e30.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.c2ln"


@pytest.mark.parametrize("filler", ["", "a", "ab", "abc"])
def test_a_token_says_when_it_ends(filler: str) -> None:
    # Of any length: base64 without its padding.
    token = _token(json.dumps({"exp": 1_900_000_000, "sub": filler}).encode())
    assert stated_expiry(token) == datetime.fromtimestamp(1_900_000_000, UTC)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "correct-horse-battery",
        "pass.with.dots",
        "a.b.c.d",
        "ü.ü.ü",
        _token(b""),
        _token(b"{}"),
        _token(b"[1]"),
        _token(b"null"),
        _token(b'{"exp": "tomorrow"}'),
        _token(b'{"exp": true}'),
        _token(b'{"exp": null}'),
        _token(b'{"exp": 1e400}'),
        _token(b'{"exp": NaN}'),
        _token(b'{"exp": 99999999999999999999}'),
        _token(b'{"exp": -99999999999999999999}'),
        _token(b"[" * 100_000),
        _token(b"\xff\xfe"),
    ],
)
def test_anything_else_says_nothing(secret: str) -> None:
    assert stated_expiry(secret) is None
