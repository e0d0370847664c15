"""Sizes, dates, ages and referrers in a few words."""

from datetime import UTC, datetime, timedelta

import pytest

from registry_cleanup.cli.listing.words import age_text, date_text, kind_text, rfc3339, size_text, tag_text
from registry_cleanup.domain.inventory import Format
from registry_cleanup.domain.listing import ListedManifest
from registry_cleanup.domain.reference import parse_digest

NOW = datetime(2026, 3, 1, tzinfo=UTC)
_DIGITS = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "unknown"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (150 * 1024**2, "150 MiB"),
        (2**63, "8192 PiB"),
    ],
)
def test_sizes(size: int | None, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("date", "text"),
    [
        (None, "unknown"),
        (datetime(2026, 2, 3, 4, tzinfo=UTC), "2026-02-03"),
        (datetime(2013, 3, 20, tzinfo=UTC), "2013-03-20"),
        (datetime(2013, 3, 19, tzinfo=UTC), "2013-03-19 (unknown)"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01 (unknown)"),
        (NOW + timedelta(minutes=6), "2026-03-01 (unknown)"),
    ],
)
def test_a_date_that_cannot_be_true_is_shown_and_marked(date: datetime | None, text: str) -> None:
    assert date_text(date, NOW) == text


def test_a_whole_time_is_written_as_in_json() -> None:
    moment = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
    assert date_text(moment, NOW, whole=True) == rfc3339(moment) == "2026-02-03T04:05:06Z"


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=-30), "0s"),
        (timedelta(seconds=119), "119s"),
        (timedelta(minutes=119), "119m"),
        (timedelta(hours=47), "47h"),
        (timedelta(days=400), "400d"),
    ],
)
def test_ages(ago: timedelta, text: str) -> None:
    assert age_text(NOW - ago, NOW) == text


def test_an_unknown_date_has_no_age() -> None:
    assert age_text(None, NOW) == age_text(datetime(1970, 1, 1, tzinfo=UTC), NOW) == "-"


def test_a_tag_made_of_a_digest_is_shortened_like_one() -> None:
    assert tag_text(f"sha256-{_DIGITS}.sig", whole=False) == "sha256-0123456789ab….sig"
    assert tag_text(f"sha256-{_DIGITS}", whole=False) == "sha256-0123456789ab…"
    assert tag_text(f"sha256-{_DIGITS}.sig", whole=True) == f"sha256-{_DIGITS}.sig"
    assert tag_text(f"build-{_DIGITS}", whole=False) == f"build-{_DIGITS}"


def test_what_refers_to_an_image_is_called_by_its_type_or_its_tag() -> None:
    plain = ListedManifest(parse_digest(f"sha256:{_DIGITS}"), Format.IMAGE)
    typed = ListedManifest(plain.digest, Format.IMAGE, artifact_type="application/spdx+json")
    listing = ListedManifest(plain.digest, Format.INDEX)
    assert kind_text(plain, (f"sha256-{_DIGITS}.att",)) == "attestation"
    assert kind_text(typed, ()) == "application/spdx+json"
    assert kind_text(plain, ()) == "referrer"
    assert kind_text(listing, (f"sha256-{_DIGITS}",)) == "referrers"
    assert kind_text(None, ()) == "missing"
