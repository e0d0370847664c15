"""What people write to name a registry and repositories in it."""

import pytest

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.listing.target import read_target


@pytest.mark.parametrize(
    ("text", "urls", "wanted"),
    [
        ("registry.example.com", ["https://registry.example.com"], None),
        ("registry.example.com/", ["https://registry.example.com"], None),
        ("registry.example.com:5000/app", ["https://registry.example.com:5000"], "app"),
        ("registry", ["https://registry"], None),
        ("https://registry/team/app", ["https://registry"], "team/app"),
        ("HTTP://registry.example.com/team/app/", ["http://registry.example.com"], "team/app"),
        ("registry.example.com/team/**", ["https://registry.example.com"], "team/**"),
        ("[::1]:5000/app", ["https://[::1]:5000", "http://[::1]:5000"], "app"),
        ("localhost/app", ["https://localhost", "http://localhost"], "app"),
        ("127.0.0.1:5000", ["https://127.0.0.1:5000", "http://127.0.0.1:5000"], None),
        ("docker.io/alpine", ["https://registry-1.docker.io"], "library/alpine"),
        ("docker.io/team/app", ["https://registry-1.docker.io"], "team/app"),
    ],
)
def test_a_registry_is_named_as_in_an_image_or_by_its_url(text: str, urls: list[str], wanted: str | None) -> None:
    target = read_target(text, insecure=False)
    assert list(target.urls) == urls
    assert (target.wanted.text if target.wanted is not None else None) == wanted


def test_http_comes_after_https_where_it_is_allowed_and_nothing_is_said() -> None:
    assert read_target("registry.example.com", insecure=True).urls == (
        "https://registry.example.com",
        "http://registry.example.com",
    )
    assert read_target("https://registry.example.com", insecure=True).urls == ("https://registry.example.com",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("team/app", "'team' is no host"),
        ("registry.example.com/team/app:1.0", "leave out tag and digest"),
        ("registry.example.com/app@sha256:" + "0" * 64, "leave out tag and digest"),
        ("registry.example.com/Team/app", "contains 'T'"),
        ("registry.example.com//app", "begins or ends with '/'"),
        ("registry.example.com/team/../app", "is no repository"),
        ("user@registry.example.com/app", "give --username with --password-stdin"),
        ("registry.example.com:none/app", "is no host"),
        ("", "is no host"),
        ("ftp://registry.example.com/app", "begin with https:// or http://"),
    ],
)
def test_what_names_no_registry_is_refused_with_an_example(text: str, told: str) -> None:
    with pytest.raises(CommandError, match=r"registry-cleanup list registry\.example\.com/team/app$") as refusal:
        read_target(text, insecure=False)
    assert told in str(refusal.value)
    assert refusal.value.code is Exit.USAGE


@pytest.mark.parametrize(
    "text",
    [
        "http://alice:hunter2@registry.example.com",
        "https://alice:hunter2@registry.example.com:5000/team/app",
        "alice:hunter2@registry.example.com/app",
        "alice:hunter2@registry.example.com:5000",
        "http://alice:hunt/hunter2@registry.example.com/app",
        "http://hunter2@registry.example.com/app@sha256:" + "0" * 64,
        "ftp://alice:hunter2@registry.example.com/app",
        "alice:hunter2@localhost:5000/app:1.0",
    ],
)
def test_a_password_in_an_address_is_refused_and_never_printed(text: str) -> None:
    with pytest.raises(CommandError, match="give --username with --password-stdin") as refusal:
        read_target(text, insecure=False)
    assert "hunter2" not in str(refusal.value)
    assert "alice" not in str(refusal.value)
