"""Of stored logins that one is found which was stored for exactly this host and port, and nothing secret is told."""

from __future__ import annotations

import base64
import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_cleanup.domain.docker_config import (
    Helper,
    LoginFile,
    StoredKind,
    StoredLogin,
    bare,
    names,
    parse_helper_answer,
    parse_login_file,
)
from registry_cleanup.domain.trust import Endpoint

_HTTPS = Endpoint.of("https://registry.example")
_PORT = Endpoint.of("https://registry.example:5000")
_HUB = Endpoint.of("https://registry-1.docker.io")


def _auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def _password(user: str, password: str) -> StoredLogin:
    return StoredLogin(StoredKind.PASSWORD, user, password)


@pytest.mark.parametrize(
    ("key", "endpoint", "found"),
    [
        ("registry.example", _HTTPS, True),
        ("registry.example:443", _HTTPS, True),
        ("https://registry.example", _HTTPS, True),
        ("https://registry.example/v1/", _HTTPS, True),
        ("http://registry.example/v2/", _HTTPS, True),
        ("registry.example/", _HTTPS, True),
        ("Registry.Example", _HTTPS, True),
        ("registry.example", _PORT, False),
        ("registry.example:5000", _PORT, True),
        ("registry.example:5000", _HTTPS, False),
        ("registry.example:5000", Endpoint.of("http://registry.example:5000"), True),
        ("registry.example", Endpoint.of("http://registry.example"), True),
        ("registry.example:443", Endpoint.of("http://registry.example"), False),
        ("registry.example.evil", _HTTPS, False),
        ("sub.registry.example", _HTTPS, False),
        ("*.example", _HTTPS, False),
        ("registry.example/team", _HTTPS, False),
        ("registry.example/team/app", _HTTPS, False),
        ("[::1]:5000", Endpoint.of("https://[::1]:5000"), True),
        ("user@registry.example", _HTTPS, False),
        ("", _HTTPS, False),
        ("https://index.docker.io/v1/", _HUB, True),
        ("docker.io", _HUB, True),
        ("docker.io", Endpoint.of("https://registry-1.docker.io:5000"), False),
        ("docker.io", Endpoint.of("http://registry-1.docker.io"), False),
    ],
)
def test_a_login_is_for_exactly_its_host_and_port(key: str, endpoint: Endpoint, found: bool) -> None:
    login = LoginFile({key: _auth("alice", "secret")}).login(endpoint)
    assert login == (_password("alice", "secret") if found else None)
    assert (LoginFile({}, {key: "helper"}).helper(endpoint) == Helper("helper", key)) == found


@pytest.mark.parametrize(
    ("entry", "login"),
    [
        (_auth("alice", "pass:word ü"), _password("alice", "pass:word ü")),
        (_auth("alice", ""), _password("alice", "")),
        ({"username": "alice", "password": "secret"}, _password("alice", "secret")),
        ({**_auth("bob", "other"), "username": "alice", "password": "secret"}, _password("bob", "other")),
        ({}, None),
        ({"auth": ""}, None),
        ({"email": "alice@example.com"}, None),
        ({**_auth("000", ""), "identitytoken": "id"}, StoredLogin(StoredKind.IDENTITY_TOKEN, "", "id")),
        (_auth("<token>", "id"), StoredLogin(StoredKind.IDENTITY_TOKEN, "", "id")),
        ({"registrytoken": "bearer"}, StoredLogin(StoredKind.REGISTRY_TOKEN, "", "bearer")),
    ],
)
def test_an_entry_holds_a_login_in_one_of_its_forms(entry: dict[str, Any], login: StoredLogin | None) -> None:
    assert LoginFile({"registry.example": entry}).login(_HTTPS) == login


@pytest.mark.parametrize(
    "entry",
    [
        {"auth": "???"},
        {"auth": base64.b64encode(b"s3cret-without-colon").decode()},
        {"auth": base64.b64encode(b"\xff\xfe:x").decode()},
        {"auth": 1},
        {"username": "s3cret"},
    ],
)
def test_an_entry_that_cannot_be_read_is_an_error_that_tells_nothing_of_it(entry: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="its auth is not base64") as caught:
        LoginFile({"registry.example": entry}).login(_HTTPS)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_the_key_that_is_written_like_the_registry_comes_first() -> None:
    file = LoginFile({"https://registry.example/v1/": _auth("old", "x"), "registry.example": _auth("new", "x")})
    assert file.login(_HTTPS) == _password("new", "x")


@pytest.mark.parametrize(
    ("file", "endpoint", "helper"),
    [
        (LoginFile({}, {"registry.example": "own"}, "all"), _HTTPS, Helper("own", "registry.example")),
        (LoginFile({}, {"registry.example": "own"}, "all"), _PORT, Helper("all", "registry.example:5000")),
        (LoginFile({}, {}, "all"), _HTTPS, Helper("all", "registry.example")),
        (LoginFile({"https://registry.example": {}}, {}, "all"), _HTTPS, Helper("all", "https://registry.example")),
        (LoginFile({}, {}, "all"), _HUB, Helper("all", "https://index.docker.io/v1/")),
        (LoginFile({}, {}, "all"), Endpoint.of("https://[::1]"), Helper("all", "[::1]")),
        (LoginFile({}, {"other.example": "own"}), _HTTPS, None),
    ],
)
def test_the_helper_of_a_registry_comes_before_the_one_for_all(
    file: LoginFile, endpoint: Endpoint, helper: Helper | None
) -> None:
    assert file.helper(endpoint) == helper


def test_logins_for_parts_of_a_registry_are_known_and_not_used() -> None:
    file = LoginFile({"registry.example/team": _auth("a", "b")}, {"registry.example/other": "own", "elsewhere/x": "y"})
    assert file.login(_HTTPS) is None
    assert file.helper(_HTTPS) is None
    assert file.parts(_HTTPS) == ["registry.example/other", "registry.example/team"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"s3cret"',
        '{"auths": []}',
        '{"auths": {"x": "s3cret"}}',
        '{"credHelpers": {"x": 1}}',
        '{"credHelpers": "s3cret"}',
        '{"credsStore": 7}',
        "[" * 100_000,
    ],
)
def test_a_file_of_another_shape_is_an_error_that_tells_nothing_of_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse_login_file(text)
    assert "s3cret" not in str(caught.value)


def test_a_file_without_logins_holds_none() -> None:
    for text in ("{}", '{"auths": null, "credHelpers": null, "credsStore": null}', '{"HttpHeaders": {}}'):
        file = parse_login_file(text)
        assert (file.login(_HTTPS), file.helper(_HTTPS), file.parts(_HTTPS)) == (None, None, [])


def test_what_a_helper_prints_is_a_login() -> None:
    text = json.dumps({"ServerURL": "x", "Username": "alice", "Secret": "secret"})
    assert parse_helper_answer(text) == _password("alice", "secret")
    text = json.dumps({"Username": "<token>", "Secret": "id"})
    assert parse_helper_answer(text) == StoredLogin(StoredKind.IDENTITY_TOKEN, "", "id")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s3cret",
        "{}",
        "[1]",
        "null",
        '{"Username": "s3cret"}',
        '{"Username": "a", "Secret": ""}',
        '{"Username": 1, "Secret": 2}',
    ],
)
def test_what_is_no_answer_of_a_helper_is_an_error_that_tells_nothing_of_it(text: str) -> None:
    with pytest.raises(ValueError, match="no JSON with Username and Secret") as caught:
        parse_helper_answer(text)
    assert "s3cret" not in str(caught.value)


def test_a_login_is_never_printed() -> None:
    file = LoginFile({"registry.example": _auth("alice", "s3cret")})
    assert "s3cret" not in repr(file.login(_HTTPS))
    assert "auth" not in repr(file).partition("helpers")[0].replace("auths", "")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_KEYS = st.sampled_from(["registry.example", "registry.example:5000", "https://registry.example/v1/", "x/y", ""])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "auths": st.dictionaries(_KEYS, st.fixed_dictionaries({}, optional={"auth": _JSON, "username": _JSON}))
            | _JSON,
            "credHelpers": st.dictionaries(_KEYS, _JSON) | _JSON,
            "credsStore": _JSON,
        },
    )
)
def test_whatever_a_file_holds_it_is_read_or_refused(content: dict[str, Any]) -> None:
    try:
        file = parse_login_file(json.dumps(content))
        file.login(_HTTPS)
        file.helper(_HTTPS)
        file.parts(_HTTPS)
    except ValueError:
        pass


_LABEL = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=6)
_HOST = st.lists(_LABEL, min_size=1, max_size=3).map(".".join).filter(lambda host: not host[-1].isdigit())


@given(_HOST, st.none() | st.integers(1, 65535), _HOST, st.none() | st.integers(1, 65535))
def test_a_name_means_a_registry_only_if_host_and_port_are_equal(
    host: str, port: int | None, other: str, other_port: int | None
) -> None:
    endpoint = Endpoint.of(f"https://{host}" + (f":{port}" if port else ""))
    key = other + (f":{other_port}" if other_port else "")
    assert names(key, endpoint) == (other == host and (other_port or 443) == (port or 443))
    for written in (key, f"https://{key}", f"http://{key}/v1/"):
        assert bare(written) == key
