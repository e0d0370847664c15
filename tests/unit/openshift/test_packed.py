"""What is packed comes out as it went in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from registry_cleanup.domain.reference import Digest, short_number
from registry_cleanup.openshift.packed import PackedStream, without
from registry_cleanup.openshift.streams import Stream, StreamTag
from tests.support.builders import digest

_PUSHED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def _stream(**tags: StreamTag) -> Stream:
    references = frozenset({("team", "base", "v1")})
    return Stream("team", "app", tags, frozenset({"v1"}), "keep-.*", references, "a-uid", "7")


def _tag(*words: str, pushed: datetime | None = _PUSHED) -> StreamTag:
    history = tuple(map(digest, words))
    return StreamTag(history[0] if history else None, pushed, history)


def test_a_stream_is_unpacked_as_it_was() -> None:
    long = Digest("sha512:" + "0123456789abcdef" * 8)
    stream = _stream(
        v1=_tag("new", "old", "older"),
        undated=_tag("a", pushed=None),
        failed=_tag(pushed=None),
        elsewhere=_tag("a", pushed=datetime(2026, 1, 1, 0, 0, 0, 5, tzinfo=timezone(timedelta(hours=5)))),
        long=StreamTag(long, _PUSHED, (long,)),
    )
    unpacked = PackedStream.of(stream).unpacked()
    assert unpacked == stream
    assert unpacked is not None
    assert list(unpacked.tags) == list(stream.tags)


def test_a_stream_without_tags_is_none_whose_tags_were_left_out() -> None:
    assert PackedStream.of(_stream()).unpacked() == _stream()
    left_out = PackedStream.of(_stream(v1=_tag("a")), tags=False)
    assert left_out.unpacked() is None
    assert left_out.bare == _stream()


def test_a_tag_takes_a_few_dozen_bytes() -> None:
    """All streams of a registry are held at once: as objects, a tag of them takes some 350 bytes."""
    tags = {f"build-{number:05}": _tag(str(number), pushed=_PUSHED + timedelta(hours=number)) for number in range(1000)}
    assert PackedStream.of(_stream(**tags)).size < 70 * len(tags)


def test_what_is_lost_is_what_no_history_of_any_stream_has() -> None:
    streams = [PackedStream.of(_stream(v1=_tag("a", "b"))), PackedStream.of(_stream(v2=_tag("c")), tags=False)]
    lost = {short_number(digest(word)) for word in ("a", "b", "c", "d", "e")}
    assert without(lost, streams) == 2
    assert len(lost) == 5
