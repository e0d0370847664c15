"""Image strings: which registry, repository, tag and digest they name, and what they protect."""

import pytest

from registry_cleanup.domain.image_reference import (
    ImageReference,
    UnparsableImageError,
    image_id,
    parse_image,
    protects,
    repositories,
)
from registry_cleanup.domain.in_use import ALL_TAGS
from tests.support.builders import digest

_A = digest("a")
_HEX = _A.removeprefix("sha256:")


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag"),
    [
        ("nginx", "docker.io", "library/nginx", "latest"),
        ("nginx:1.27", "docker.io", "library/nginx", "1.27"),
        ("team/app", "docker.io", "team/app", "latest"),
        ("docker.io/nginx", "docker.io", "library/nginx", "latest"),
        ("index.docker.io/team/app:1", "docker.io", "team/app", "1"),
        ("registry-1.docker.io/nginx", "docker.io", "library/nginx", "latest"),
        ("registry.example.com/team/app:v1", "registry.example.com", "team/app", "v1"),
        ("registry.example.com/app", "registry.example.com", "app", "latest"),
        ("registry:5000/app", "registry:5000", "app", "latest"),
        ("registry:5000/app:v1", "registry:5000", "app", "v1"),
        ("registry/app", "docker.io", "registry/app", "latest"),
        ("localhost/app", "localhost", "app", "latest"),
        ("10.0.0.1:5000/a/b/c:x", "10.0.0.1:5000", "a/b/c", "x"),
        ("[::1]:5000/team/app:x", "[::1]:5000", "team/app", "x"),
        ("[fd00::10]/team/app", "[fd00::10]", "team/app", "latest"),
        ("Registry.Example.COM:5000/team/app", "registry.example.com:5000", "team/app", "latest"),
        ("Registry/app", "registry", "app", "latest"),
        ("docker-pullable://nginx:1", "docker.io", "library/nginx", "1"),
        ("docker://registry.example.com/team/app:v1", "registry.example.com", "team/app", "v1"),
        ("team/app:UPPER_Case-1.0", "docker.io", "team/app", "UPPER_Case-1.0"),
    ],
)
def test_an_image_is_read_as_docker_reads_it(text: str, host: str, repository: str, tag: str) -> None:
    assert parse_image(text) == ImageReference(host, repository, tag)


@pytest.mark.parametrize("prefix", ["", "docker-pullable://", "docker://"])
@pytest.mark.parametrize(("tag", "expected"), [("", None), (":v1", "v1")])
def test_a_digest_wins_and_a_tag_beside_it_protects_too(prefix: str, tag: str, expected: str | None) -> None:
    found = parse_image(f"{prefix}registry:5000/team/app{tag}@{_A}")
    assert found == ImageReference("registry:5000", "team/app", expected, _A)
    assert protects(found) == ({("team/app", expected)} if expected else set())


@pytest.mark.parametrize(
    ("text", "guess"),
    [
        ("registry.example.com/team/app:${TAG}", "team/app"),
        ("registry.example.com/team/app:", "team/app"),
        ("registry.example.com/team/app:a b", "team/app"),
        ("registry.example.com/team/app@sha256:beef", "team/app"),
        ("registry.example.com/team/app:v1@latest", "team/app"),
        ("registry.example.com/team/app/", "team/app"),
        ("registry.example.com/team//app", "team"),
        ("registry.example.com/Team/App:v1", "team/app"),
        ("https://registry.example.com/team/app:v1", "team/app"),
        ("oci://registry.example.com/team/app:v1", "team/app"),
        (" team/app:v1", "team/app"),
        ("bad_host.example.com/team/app:v1", "team/app"),
        ("nginx:${TAG}", "library/nginx"),
        ("team/app@sha512:" + "a" * 64, "team/app"),
    ],
)
def test_a_damaged_image_could_mean_every_tag_of_the_path_that_it_begins_with(text: str, guess: str) -> None:
    with pytest.raises(UnparsableImageError) as caught:
        parse_image(text)
    assert caught.value.guess is not None
    assert (caught.value.guess.repository, caught.value.guess.tag) == (guess, ALL_TAGS)
    assert (guess, ALL_TAGS) in protects(caught.value.guess)


@pytest.mark.parametrize("text", ["", " ", "{{ .Values.image }}", "${IMAGE}", ":v1", "@", "registry.example.com/", "/"])
def test_what_begins_with_no_path_means_nothing(text: str) -> None:
    with pytest.raises(UnparsableImageError) as caught:
        parse_image(text)
    assert caught.value.guess is None


@pytest.mark.parametrize("text", [_A, _HEX, f"docker://{_A}", f"docker-pullable://{_A}"])
def test_an_image_id_is_of_no_repository(text: str) -> None:
    assert image_id(text) == _A
    with pytest.raises(UnparsableImageError) as caught:
        parse_image(text)
    assert caught.value.guess is None


@pytest.mark.parametrize("text", ["nginx", f"nginx@{_A}", f"docker-pullable://nginx@{_A}", "sha256:beef", ""])
def test_what_names_a_repository_is_no_image_id(text: str) -> None:
    assert image_id(text) is None


def test_a_name_longer_than_a_repository_may_have_is_not_understood() -> None:
    with pytest.raises(UnparsableImageError) as caught:
        parse_image("a/" * 127 + "ab")
    assert caught.value.guess is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one.example.com/team/app:v1", {"team/app"}),
        ("10.0.0.1:5000/team/app:v1", {"team/app"}),
        ("team/app:v1", {"team/app"}),
        ("nginx", {"nginx", "library/nginx"}),
        ("docker.io/library/nginx", {"nginx", "library/nginx"}),
        ("quay.io/library/nginx", {"library/nginx"}),
        ("quay.io/nginx", {"nginx"}),
        # Prefixes of another registry's caches and mirrors.
        ("cache.example.com/mirror/dockerhub/team/app", {"mirror/dockerhub/team/app", "team/app"}),
        (
            "cache.example.com/mirror/dockerhub/library/nginx",
            {"mirror/dockerhub/library/nginx", "library/nginx", "nginx"},
        ),
        ("mirror/dockerhub/team/app", {"mirror/dockerhub/team/app", "team/app"}),
        ("cache.example.com/other/team/app", {"other/team/app", "team/app"}),
        ("cache.example.com/others/team/app", {"others/team/app"}),
        ("cache.example.com/mirror/dockerhub", {"mirror/dockerhub"}),
    ],
)
def test_a_reference_means_a_path_whatever_host_or_alias_it_names(text: str, expected: set[str]) -> None:
    assert repositories(parse_image(text), ["mirror/dockerhub", "/other/", "", "/"]) == expected


def test_a_tag_protects_in_each_repository_that_is_meant() -> None:
    found = parse_image("cache.example.com/hub/library/nginx:1")
    assert protects(found, ["hub"]) == {("hub/library/nginx", "1"), ("library/nginx", "1"), ("nginx", "1")}
