"""Names of repositories, tags and digests, and the tags by which referrers are known."""

import pytest

from registry_cleanup.domain.reference import is_repository, is_tag, parse_digest, referrer_subject

_HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize("text", [f"sha256:{_HEX}", f"sha512:{_HEX}{_HEX}"])
def test_a_digest_is_an_algorithm_and_its_hexadecimal_digits(text: str) -> None:
    assert parse_digest(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        _HEX,
        "sha256:",
        f"sha256:{_HEX[:-1]}",
        f"sha256:{_HEX}0",
        f"sha256:{_HEX.upper()}",
        f"sha512:{_HEX}",
        f"md5:{_HEX[:32]}",
        f" sha256:{_HEX}",
        f"sha256:{_HEX}\n",
        "latest",
    ],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a digest"):
        parse_digest(text)


def test_a_refusal_does_not_repeat_a_text_of_any_length() -> None:
    with pytest.raises(ValueError, match="not a digest") as caught:
        parse_digest("x" * 10_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["app", "team/app", "a/b/c", "a.b_c__d-e--f", "0", "a" * 255])
def test_repositories_of_the_specification_are_repositories(text: str) -> None:
    assert is_repository(text)


@pytest.mark.parametrize(
    "text", ["", "/app", "app/", "a//b", "App", "a..b", "a___b", "-a", "a-", "a b", "a:b", "../a", "app\n", "a" * 256]
)
def test_other_texts_are_no_repositories(text: str) -> None:
    assert not is_repository(text)


@pytest.mark.parametrize("text", ["v1", "_x", "1.2.3-rc.1_build", "LATEST", "a" * 128])
def test_tags_of_the_specification_are_tags(text: str) -> None:
    assert is_tag(text)


@pytest.mark.parametrize("text", ["", ".x", "-x", "a/b", "a:b", "a b", "ä", "v1\n", "a" * 129])
def test_other_texts_are_no_tags(text: str) -> None:
    assert not is_tag(text)


@pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom"])
def test_a_tag_of_the_tag_schema_names_a_referrer_of_its_subject(suffix: str) -> None:
    assert referrer_subject(f"sha256-{_HEX}{suffix}") == f"sha256:{_HEX}"


@pytest.mark.parametrize(
    "tag",
    [
        "latest",
        "sha256",
        "sha256-",
        f"sha256-{_HEX[:-1]}",
        f"sha256-{_HEX}0",
        f"sha256-{_HEX}.zip",
        f"sha256-{_HEX}.sig.sig",
        f"sha256-{_HEX.upper()}",
        f"x-sha256-{_HEX}",
        f"md5-{_HEX}",
    ],
)
def test_any_other_tag_names_no_referrer(tag: str) -> None:
    assert referrer_subject(tag) is None
