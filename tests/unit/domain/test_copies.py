"""Copies come back exactly as they were written, or not at all, in an order in which a registry takes them."""

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from registry_cleanup.domain.copies import (
    CopiedManifest,
    CopiedTag,
    Copies,
    Outline,
    Undoable,
    Wanted,
    chosen,
    copy_name,
    expired,
    is_copy_name,
    is_of_the_future,
    kept_until,
    parse_copy_name,
    undo_levels,
    without,
)
from registry_cleanup.domain.ownership import ownership
from registry_cleanup.domain.published import Protected
from registry_cleanup.domain.reference import Digest, is_tag
from registry_cleanup.domain.run import Failure
from registry_cleanup.domain.undoing import Undo, Undone, UndoOutcome, tag_result
from tests.support.builders import NOW, policy, rule

_APP, _RUN, _UID = "team/app", "20260615-030000-abcdef", "a-uid"
_TYPE = "application/vnd.oci.image.manifest.v1+json"


def _manifest(content: bytes | dict[str, Any], repository: str = _APP) -> CopiedManifest:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return CopiedManifest(repository, Digest(f"sha256:{hashlib.sha256(body).hexdigest()}"), _TYPE, body)


def _index(*children: CopiedManifest, subject: CopiedManifest | None = None) -> CopiedManifest:
    body: dict[str, Any] = {"manifests": [{"digest": child.digest} for child in children]}
    return _manifest(body if subject is None else {**body, "subject": {"digest": subject.digest}})


_IMAGE, _ODD = _manifest({"layers": []}), _manifest(b'{ "spaces":1,\n"\xc3\xa4":"\\u00e4" }\r\n')


def test_content_that_was_tampered_with_is_not_genuine() -> None:
    assert _IMAGE.genuine
    assert not CopiedManifest(_APP, _IMAGE.digest, _TYPE, b"{}").genuine


@pytest.mark.parametrize(
    ("content", "media_type", "readable", "typed"),
    [
        ({"mediaType": _TYPE, "layers": []}, _TYPE, True, True),
        ({"layers": []}, _TYPE, True, False),
        ({"mediaType": None, "layers": []}, _TYPE, True, False),
        ({"mediaType": _TYPE}, "application/octet-stream", False, True),
        ({"mediaType": 7}, _TYPE, False, True),
        ({"mediaType": ""}, "", False, True),
        ({"layers": []}, "no type", False, False),
        ({"mediaType": "application/vnd.example!v1"}, "application/vnd.example!v1", True, True),
        (b"[]", _TYPE, False, False),
        (b"[" * 100_000, _TYPE, False, False),
        (b'{"a":[' + b"[]," * 600_000 + b"[]]}", _TYPE, False, False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_manifest_is_readable_where_it_does_not_contradict_what_it_is_called(
    content: bytes | dict[str, Any], media_type: str, *, readable: bool, typed: bool
) -> None:
    manifest = replace(_manifest(content), media_type=media_type)
    assert (manifest.readable, manifest.typed) == (readable, typed)


def test_what_is_of_a_few_repositories_is_told_from_the_rest() -> None:
    tags = (CopiedTag(_APP, "v1", _IMAGE.digest), CopiedTag("b", "v1", _ODD.digest))
    whole = Copies(_UID, _RUN, tags, (_IMAGE, replace(_ODD, repository="b")))
    assert whole.within({"b"}) == Copies(_UID, _RUN, tags[1:], (replace(_ODD, repository="b"),))
    assert whole.within({"b", _APP}) == whole


# Names


def test_a_name_is_that_of_one_policy_and_a_tag() -> None:
    name = copy_name(_RUN, 12, _UID)
    assert is_tag(name)
    assert is_copy_name(name)
    assert parse_copy_name(name, _UID) == (_RUN, 12)
    assert parse_copy_name(name, "another") is None
    assert not any(map(is_copy_name, ["copies", "copies.1", f"x{name}", f"{name}0", "copies.a.0.12345678"]))


@pytest.mark.parametrize("part", [1, 9_999, 10_000, 999_999_999])
def test_a_copy_has_a_name_that_is_known_as_one_however_many_there_are(part: int) -> None:
    name = copy_name(_RUN, part, _UID)
    assert is_tag(name)
    assert is_copy_name(name)
    assert parse_copy_name(name, _UID) == (_RUN, part)


@pytest.mark.parametrize(("run", "part"), [("../x", 1), ("", 1), (_RUN, 0), (_RUN, -1), (_RUN, 10**9)])
def test_what_nobody_would_know_as_a_copy_gets_no_name(run: str, part: int) -> None:
    with pytest.raises(ValueError, match="no ID"):
        copy_name(run, part, _UID)


def test_no_rule_of_any_policy_owns_copies() -> None:
    greedy = policy(rule(".*", most_recent=0))
    assert ownership(greedy, "any/where", copy_name(_RUN, 1, "whoever")).kept == "KeepTags"
    assert ownership(greedy, "any/where", "copies.mine").kept is None


def test_copies_go_once_their_window_is_over_and_never_where_nobody_knows_their_age() -> None:
    runs = ["20260615-110000-aaaaaa", "20260614-115959-bbbbbb", "20260614-120000-cccccc", "run", "20269999-000000-d"]
    assert expired(runs, timedelta(days=1), NOW) == ["20260614-115959-bbbbbb", "20260614-120000-cccccc"]


def test_a_run_whose_time_no_date_can_follow_is_kept_and_hinders_nothing() -> None:
    """Whoever may push where copies are can write such a name."""
    runs = ["20260614-120000-cccccc", "99991231-235959-aaaaaa"]
    assert expired(runs, timedelta(days=1), NOW) == ["20260614-120000-cccccc"]
    assert kept_until("99991231-235959-aaaaaa", timedelta(days=1)) is None


def test_a_run_of_the_future_is_none_that_can_be_undone() -> None:
    names = ["20260615-120400-aaaaaa", "20260615-120600-bbbbbb", "run"]
    assert [run for run in names if is_of_the_future(run, NOW)] == ["20260615-120600-bbbbbb"]


# Order and choice


def test_what_is_listed_goes_back_before_what_lists_it_and_subjects_before_referrers() -> None:
    images = [_manifest({"n": n}) for n in range(6)]
    inner = _index(*images[:3])
    outer = _index(inner, *images[2:5])
    signature = _manifest({"layers": [], "subject": {"digest": outer.digest}})
    about = _index(images[5], subject=signature)
    all_ = [*images, inner, outer, signature, about]
    for seed in range(20):
        shuffled = Random(seed).sample(all_, len(all_))  # noqa: S311 - the same each time
        levels = undo_levels(Outline.of(each, 1) for each in shuffled)
        assert sorted(each.digest for level in levels for each in level) == sorted(each.digest for each in all_)
        assert [len(level) for level in levels] == [6, 1, 1, 1, 1]
        place = {each.digest: number for number, level in enumerate(levels) for each in level}
        for each in all_:
            before = [*each.children, *([each.subject] if each.subject is not None else [])]
            assert all(place[digest] < place[each.digest] for digest in before)


def test_manifests_that_need_each_other_as_only_tampered_ones_can_go_back_all_the_same() -> None:
    one, two = (CopiedManifest(_APP, Digest("sha256:" + digit * 64), _TYPE, b"") for digit in "12")
    circle = [
        replace(one, content=json.dumps({"manifests": [{"digest": two.digest}]}).encode()),
        replace(two, content=json.dumps({"manifests": [{"digest": one.digest}]}).encode()),
    ]
    outlines = [Outline.of(each, 1) for each in circle]
    assert sorted(each.digest for level in undo_levels(outlines) for each in level) == [one.digest, two.digest]
    assert undo_levels([]) == []


def test_a_choice_holds_what_it_lists_and_what_refers_to_it() -> None:
    child, other = _manifest({"n": 1}), _manifest({"n": 2})
    index = _index(child)
    signature = _manifest({"subject": {"digest": index.digest}})
    by_name = _manifest({"n": 3})
    tags = {
        "v1": index,
        "v2": other,
        "sbom": signature,
        index.digest.replace(":", "-") + ".sig": by_name,
    }
    copies = Undoable(
        tuple(CopiedTag(_APP, tag, each.digest) for tag, each in tags.items()),
        tuple(Outline.of(each, 1) for each in (child, other, index, signature, by_name)),
    )
    for wanted in (Wanted(_APP, "v1"), Wanted(_APP, digest=index.digest)):
        part = chosen(copies, [wanted])
        assert {tag.tag for tag in part.tags} == tags.keys() - {"v2"}
        assert {each.digest for each in part.manifests} == {each.digest for each in (child, index, signature, by_name)}
    assert chosen(copies, [Wanted(_APP)]) == chosen(copies, []) == copies
    assert chosen(copies, [Wanted("other")]) == Undoable()
    assert chosen(copies, [Wanted(_APP, "v2")]).tags == (CopiedTag(_APP, "v2", other.digest),)


def test_what_a_run_left_is_taken_out_with_all_that_it_alone_needs() -> None:
    shared, own = _manifest({"n": 1}), _manifest({"n": 2})
    left, gone = _index(shared, own), _index(shared)
    referrer = _manifest({"subject": {"digest": left.digest}})
    tags = [CopiedTag(_APP, tag, each.digest) for tag, each in (("left", left), ("gone", gone))]
    elsewhere = CopiedTag("other", "left", left.digest)
    manifests = tuple(Outline.of(each, 1) for each in (shared, own, left, gone, referrer))
    others = (Outline.of(replace(left, repository="other"), 1),)
    copies = Undoable((*tags, elsewhere), manifests + others)
    part = without(copies, {tags[0]})
    assert set(part.tags) == {tags[1], elsewhere}
    assert {each.digest for each in part.manifests if each.repository == _APP} == {shared.digest, gone.digest}
    assert set(others) < set(part.manifests)
    assert without(copies, ()) is copies
    # What stands on the same digest under a name that went is needed.
    again = replace(tags[0], tag="gone-too")
    assert set(without(replace(copies, tags=(*copies.tags, again)), {tags[0]}).manifests) == {*copies.manifests}


# What came of it


@pytest.mark.parametrize(
    ("current", "force", "result"),
    [
        (None, False, Undo.RESTORED),
        (_IMAGE.digest, False, Undo.ALREADY_THERE),
        (_IMAGE.digest, True, Undo.ALREADY_THERE),
        (_ODD.digest, False, Undo.REFUSED),
        (_ODD.digest, True, Undo.RESTORED),
    ],
)
def test_a_tag_that_names_something_else_is_left_alone_unless_forced(
    current: Digest | None, *, force: bool, result: Undo
) -> None:
    assert tag_result(current, _IMAGE.digest, force=force) is result


def _outcome(result: Undo, **more: Any) -> UndoOutcome:  # noqa: ANN401 - fields of an outcome
    return UndoOutcome(_APP, "v1", _IMAGE.digest, result, **more)


@pytest.mark.parametrize(
    ("undone", "words", "whole"),
    [
        (Undone(_RUN, []), "nothing to put back", True),
        (Undone(_RUN, [_outcome(Undo.RESTORED)] * 2), "2 put back", True),
        (Undone(_RUN, [_outcome(Undo.RESTORED)] * 2, dry_run=True), "a dry run: 2 would be put back", True),
        (Undone(_RUN, [_outcome(Undo.ALREADY_THERE)]), "1 already there, nothing to do", True),
        (Undone(_RUN, [_outcome(Undo.RESTORED)], history_lost=True), "named before is lost", True),
        (Undone(_RUN, [_outcome(Undo.RESTORED)], dry_run=True), "nothing was done, since it is a dry run", True),
        (Undone(_RUN, [_outcome(Undo.REFUSED)]), "1 refused", False),
        (Undone(_RUN, [_outcome(Undo.MISSING)]), "1 lack blobs", False),
        (Undone(_RUN, [_outcome(Undo.TAMPERED)]), "tampered", False),
        (Undone(_RUN, [_outcome(Undo.FAILED)]), "1 failed", False),
        (Undone(_RUN, [_outcome(Undo.FAILED, code="DENIED")] * 2), "2 failed (DENIED)", False),
        (Undone(_RUN, [_outcome(Undo.RESTORED)], failure=Failure("Unreachable", "no answer")), "no answer", False),
        (Undone(_RUN, [_outcome(Undo.RESTORED)], damaged=1), "1 parts of the copies are damaged", False),
        (Undone(_RUN, [_outcome(Undo.RESTORED)], unfinished=True), "may have pruned more or less than this", False),
    ],
)
def test_an_undo_is_told_in_a_sentence(undone: Undone, words: str, *, whole: bool) -> None:
    assert undone.message.startswith(f"undo of run {_RUN}: ")
    assert words in undone.message
    assert undone.whole is whole


def test_what_did_not_come_back_is_told_with_why() -> None:
    assert _outcome(Undo.REFUSED, current=_ODD.digest).detail == f"names {_ODD.digest} by now"
    assert _outcome(Undo.MISSING, missing=(_ODD.digest,)).detail == f"gone from the registry: {_ODD.digest}"
    assert "no copy" in _outcome(Undo.MISSING).detail
    assert _outcome(Undo.FAILED, code="DENIED").detail == "DENIED"
    assert _IMAGE.digest in _outcome(Undo.TAMPERED).detail
    assert _outcome(Undo.RESTORED).detail == ""
    assert _outcome(Undo.RESTORED).reference == f"{_APP}:v1"


# What came back is left alone


def test_what_was_put_back_is_remembered_and_in_doubt_everything_is() -> None:
    item = (_APP, "v1", _IMAGE.digest)
    some = Protected(_UID).with_more([item])
    assert some.holds(*item)
    assert not some.holds(_APP, "v1", _ODD.digest)
    assert Protected.decode(_UID, some.encode()) == some
    assert Protected.decode(_UID, b"damaged").holds(_APP, "v9", _ODD.digest)
    assert Protected.decode(_UID, Protected(_UID, None).encode()).holds(*item)
    many = some.with_more((_APP, f"v{n}", _IMAGE.digest) for n in range(50_001))
    assert many.holds("whatever", "v1", _ODD.digest)
    assert many.with_more([item]) == many
