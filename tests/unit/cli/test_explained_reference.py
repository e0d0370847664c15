"""References as people write them: what is a host, what a repository, and whose host it is."""

from __future__ import annotations

import pytest

from registry_cleanup.cli.exits import CommandError
from registry_cleanup.cli.explaining.reference import Reference, read_reference
from registry_cleanup.domain.policy import RepositoryGlob, RepositorySelector
from registry_cleanup.domain.reference import parse_digest
from registry_cleanup.domain.trust import Endpoint

_DIGEST = f"sha256:{'a' * 64}"


def _read(text: str, url: str | None, glob: str) -> Reference:
    registry = None if url is None else Endpoint.of(url)
    return read_reference(text, registry, RepositorySelector((RepositoryGlob(glob),)))


@pytest.mark.parametrize("glob", ["**", "shop/*"])
@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:5000"),
        ("127.0.0.1:5000/", "http://127.0.0.1:5000"),
        ("localhost:5000/", "http://localhost:5000"),
        ("localhost/", "https://localhost"),
        ("[::1]:5000/", "http://[::1]:5000"),
        ("registry.example.com/", "https://registry.example.com"),
        ("Registry.Example.com:443/", "https://registry.example.com"),
        ("registry:5000/", "http://registry:5000"),
        ("image-registry.openshift-image-registry.svc:5000/", None),
        ("registry.apps.example.com/", None),
    ],
)
def test_the_registrys_own_host_before_a_repository_is_a_host_whatever_the_policy_selects(
    host: str, url: str | None, glob: str
) -> None:
    assert _read(f"{host}shop/web:build-8", url, glob) == Reference("shop/web", "build-8", None)
    assert _read(f"{host}shop/web@{_DIGEST}", url, glob) == Reference("shop/web", None, parse_digest(_DIGEST))


@pytest.mark.parametrize("glob", ["**", "shop/*"])
@pytest.mark.parametrize(
    "host", ["other.example.com:5000", "localhost:5001", "127.0.0.1:5001", "127.0.0.1", "127.0.0.1:x"]
)
@pytest.mark.parametrize("what", [":build-8", f"@{_DIGEST}"])
def test_another_host_is_told_as_such_and_not_as_a_repository(host: str, what: str, glob: str) -> None:
    with pytest.raises(CommandError) as caught:
        _read(f"{host}/shop/web{what}", "http://127.0.0.1:5000", glob)
    told = str(caught.value)
    assert told.startswith(f"{host} is not the registry of the policy, which is 127.0.0.1:5000")


def test_what_looks_like_a_host_without_a_port_and_is_selected_is_a_repository_of_a_mirror() -> None:
    mirrored = _read("docker.io/library/nginx:1", "http://127.0.0.1:5000", "docker.io/**")
    assert mirrored == Reference("docker.io/library/nginx", "1", None)


def test_a_scheme_is_no_host() -> None:
    with pytest.raises(CommandError, match="names no repository: write REPOSITORY:TAG"):
        _read("http://127.0.0.1:5000/shop/web:1", "http://127.0.0.1:5000", "**")
