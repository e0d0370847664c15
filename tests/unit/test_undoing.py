"""What an undo reads of the copies of a run, before anything is put back: bounded, and none of it in vain."""

import hashlib
import tracemalloc
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import cast

import pytest
from typing_extensions import override

from registry_cleanup.cli.exits import Exit
from registry_cleanup.cli.undoing.course import exit_of
from registry_cleanup.copying import RunCopies, copies_with, remove_expired
from registry_cleanup.domain.copies import (
    CopiedManifest,
    CopiedTag,
    Copies,
    KnownCopies,
    Undoable,
    Wanted,
    run_time,
)
from registry_cleanup.domain.copy_parts import Part, decode, encode
from registry_cleanup.domain.deletion import ItemOutcome, Outcome
from registry_cleanup.domain.policy import RepositoryGlob, RepositorySelector, TagPattern
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.undoing import Undo, Undone, UndoOutcome
from registry_cleanup.ports import Contents, Registry, RunError
from registry_cleanup.undoing import UndoOrder, undo, within
from tests.support import builders
from tests.support.builders import REPOSITORY
from tests.support.undo import RUN, MemoryCopies

_TYPE = "application/vnd.oci.image.index.v1+json"
_MIB = 1024 * 1024


@dataclass
class _Restoring:
    """That of a registry which takes everything, and notes what it was given."""

    given: list[Undoable] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    history_is_lost = False
    claimed_as = "here:5000"

    async def restore(
        self, copies: Undoable, contents: Contents, *, force: bool, dry_run: bool
    ) -> AsyncGenerator[UndoOutcome, None]:
        assert not force
        assert not dry_run
        self.given.append(copies)
        for each in copies.manifests:
            manifest = (await contents(each.part))[each.repository, each.digest]
            self.sizes.append(len(manifest.content))
            yield UndoOutcome(each.repository, None, each.digest, Undo.RESTORED)


def _manifest(content: bytes, repository: str = "team/app") -> CopiedManifest:
    return CopiedManifest(repository, Digest(f"sha256:{hashlib.sha256(content).hexdigest()}"), _TYPE, content)


async def _undo(registry: _Restoring, store: MemoryCopies, *wanted: Wanted) -> Undone:
    return await undo(UndoOrder("uid", RUN, wanted), cast("Registry", registry), store)


def _store(*held: Copies, closed: bool = True, registry: str | None = None) -> MemoryCopies:
    parts = [Part(copies, number, number - 1, registry) for number, copies in enumerate(held, start=1)]
    if closed:
        parts.append(Part(Copies("uid", RUN), len(held) + 1, len(held), last=True))
    return MemoryCopies({RUN: {part.number: encode(part) for part in parts}})


async def test_no_more_content_is_held_than_that_of_a_part() -> None:
    manifests = [_manifest(bytes([number]) * 4 * _MIB) for number in range(16)]
    store = _store(*(Copies("uid", RUN, (), (each,)) for each in manifests))
    registry = _Restoring()
    del manifests
    tracemalloc.start()
    try:
        done = await _undo(registry, store)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done.whole
    assert registry.sizes == [4 * _MIB] * 16
    assert peak < 24 * _MIB


async def test_of_what_nobody_could_hold_one_repository_after_the_other_is_put_back() -> None:
    entry = b'{"digest":"sha256:' + b"1" * 64 + b'"}'
    indexes = [b'{"manifests":[' + b",".join([entry] * 200_000) + b"]," + f'"n":{n}}}'.encode() for n in range(3)]
    held = [_manifest(index, f"team/app-{n}") for n, index in enumerate(indexes)]
    store, registry = _store(*(Copies("uid", RUN, (), (each,)) for each in held)), _Restoring()
    with pytest.raises(RunError) as caught:
        await _undo(registry, store)
    assert caught.value.failure.reason == "UndoTooLarge"
    assert not registry.given
    done = await _undo(registry, store, Wanted("team/app-1"))
    assert (done.whole, registry.sizes) == (True, [len(held[1].content)])


@pytest.mark.parametrize("order", [1, -1])
async def test_of_two_copies_of_a_manifest_the_genuine_one_is_used(order: int) -> None:
    good = _manifest(b"{}")
    bad = CopiedManifest(good.repository, good.digest, _TYPE, b"[1]")
    store, registry = _store(*(Copies("uid", RUN, (), (each,)) for each in [good, bad][::order])), _Restoring()
    assert (await _undo(registry, store)).whole
    assert registry.sizes == [2]


async def test_a_run_whose_copies_have_no_end_may_have_pruned_more() -> None:
    tags = (CopiedTag("team/app", "v1", _manifest(b"{}").digest),)
    for closed in (True, False):
        done = await _undo(_Restoring(), _store(Copies("uid", RUN, tags), closed=closed))
        assert (done.unfinished, done.whole, done.damaged) == (not closed, closed, 0)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted("v1"), "no copies of v1: it has some of team/app, team/web; name one as REPOSITORY, REPOSITORY:TAG or"),
        (Wanted("team/app", "v9"), "no copies of team/app:v9, so it did not prune that: of team/app it has v1, v2"),
    ],
)
async def test_what_a_run_did_not_prune_is_told_with_what_it_did(wanted: Wanted, words: str) -> None:
    digest = _manifest(b"{}").digest
    tags = [CopiedTag(*name, digest) for name in (("team/app", "v2"), ("team/app", "v1"), ("team/web", "v3"))]
    store = _store(Copies("uid", RUN, tuple(tags)))
    with pytest.raises(RunError) as caught:
        await _undo(_Restoring(), store, wanted)
    assert f"run {RUN} has {words}" in caught.value.failure.message


async def test_what_was_pruned_from_one_registry_is_not_put_back_into_another() -> None:
    held = Copies("uid", RUN, (), (_manifest(b"{}"),))
    registry = _Restoring()
    assert (await _undo(registry, _store(held, registry="here:5000"))).whole
    with pytest.raises(RunError, match="pruned from there:5000, and the policy is about here:5000 now") as caught:
        await _undo(registry, _store(held, registry="there:5000"))
    assert caught.value.failure.reason == "NothingToUndo"
    assert len(registry.given) == 1


async def test_what_is_named_and_not_kept_is_told_besides_what_is() -> None:
    """One slip among many names must not pass for done."""
    manifest = _manifest(b"{}")
    tags = (CopiedTag("team/app", "v1", manifest.digest),)
    wanted = [
        Wanted("team/app", "v1"),
        Wanted("team/app", "nosuch"),
        Wanted("team/app", digest=manifest.digest),
        Wanted("team/app", digest=_manifest(b"[]").digest),
        Wanted("team/app"),
        Wanted("team/web"),
    ]
    done = await _undo(_Restoring(), _store(Copies("uid", RUN, tags, (manifest,))), *wanted)
    assert done.not_kept == ["team/app:nosuch", f"team/app@{_manifest(b'[]').digest}", "team/web"]
    assert not done.whole
    assert "1 put back, nothing is kept of team/app:nosuch, " in done.message
    assert exit_of(done) is Exit.PARTIAL
    named = replace(done, outcomes=[replace(done.outcomes[0], result=Undo.REFUSED)])
    assert exit_of(named) is Exit.HELD_BACK
    many = replace(done, not_kept=[f"team/app:{number}" for number in range(7)])
    assert "team/app:4 and 2 more (is that its name?)" in many.message


_LATER, _EARLIER = "20260102-030000-abcdef", "20251231-030000-abcdef"
_THERE = "https://there.example.com"


async def _refused(store: MemoryCopies, run: str | None, *known: KnownCopies) -> str:
    with pytest.raises(RunError) as caught:
        await undo(UndoOrder("uid", run), cast("Registry", _Restoring()), store, known=known)
    assert (caught.value.failure.reason, caught.value.failure.mendable) == ("NothingToUndo", True)
    return caught.value.failure.message


async def test_of_a_run_at_a_registry_that_the_policy_names_no_more_is_told_where_it_pruned() -> None:
    known = KnownCopies(_LATER, "ops/undo", _THERE)
    for run in (None, _LATER):
        told = await _refused(MemoryCopies(), run, known)
        assert told.startswith(f"run {_LATER} pruned from {_THERE}, and the policy is about here:5000 now: only there")
        assert "Set spec.registry to what it was then, which touches no data" in told
    told = await _refused(MemoryCopies(), _EARLIER, known)
    assert told.startswith(f"there are no copies of run {_EARLIER}")
    assert told.endswith(f"what was pruned from {_THERE} can be undone while spec.registry names that")


async def test_an_earlier_run_is_not_undone_in_place_of_the_last_one_which_pruned_elsewhere() -> None:
    store = _store(Copies("uid", RUN, (CopiedTag("team/app", "v1", _manifest(b"{}").digest),)))
    told = await _refused(store, None, KnownCopies(_LATER, "ops/undo", _THERE))
    assert told.startswith(f"run {_LATER} pruned from {_THERE}")
    assert told.endswith(f"with --run {RUN}")
    for known in (KnownCopies(_EARLIER, "ops/undo", _THERE), KnownCopies(_LATER, "ops/undo")):
        order = UndoOrder("uid")
        assert (await undo(order, cast("Registry", _Restoring()), store, known=[known])).run == RUN


# Where the copies are


@dataclass
class _Kept(MemoryCopies):
    repository: str | None = None


@dataclass
class _Repositories:
    """A registry that holds copies of these runs, by repository."""

    runs: dict[str, list[str]]

    def copies_in(self, repository: str, _uid: str) -> _Kept:
        return _Kept({run: {} for run in self.runs.get(repository, [])}, repository)


@pytest.mark.parametrize("run", [None, RUN])
@pytest.mark.parametrize(
    ("now", "then"), [("ops/undo", "ops/former"), (None, "ops/former"), ("ops/undo", None)], ids=str
)
async def test_copies_are_found_where_status_says_that_they_are(
    run: str | None, now: str | None, then: str | None
) -> None:
    registry = cast("Registry", _Repositories({then: [_EARLIER, RUN]} if then is not None else {}))
    elsewhere = _Kept({RUN: {}} if then is None else {})
    policy = builders.policy(builders.rule(days=30))
    policy = replace(policy, undo=replace(policy.undo, repository=now))
    known = [KnownCopies(RUN, then)]
    assert (await copies_with(run, policy, registry, elsewhere, known)).repository == then
    place = await copies_with(run, policy, registry, _Kept())
    assert place.repository == now


async def test_the_last_run_is_found_whichever_place_has_it() -> None:
    registry = cast("Registry", _Repositories({"ops/undo": [RUN], "ops/former": [_EARLIER]}))
    policy = builders.policy(builders.rule(days=30))
    policy = replace(policy, undo=replace(policy.undo, repository="ops/undo"))
    assert (await copies_with(None, policy, registry, None, [KnownCopies(RUN, "ops/former")])).repository == "ops/undo"
    policy = replace(policy, undo=replace(policy.undo, repository="ops/former"))
    assert (await copies_with(None, policy, registry, None, [KnownCopies(RUN, "ops/undo")])).repository == "ops/undo"


async def test_copies_say_which_registry_they_are_of_unless_they_are_in_it() -> None:
    class There(MemoryCopies):
        repository = "ops/undo"

    for store, registry in ((MemoryCopies(), "here:5000"), (There(), None)):
        copies = RunCopies(store, "uid", RUN, "here:5000")
        await copies.keep((), [_manifest(b"{}")])
        await copies.close()
        assert [decode(part, "uid", RUN, number).registry for number, part in store.parts[RUN].items()] == [
            registry
        ] * 2


def test_what_a_policy_could_not_have_pruned_is_not_put_back_for_it() -> None:
    """Whoever may write where the copies are must gain no more by it than the policy has."""
    tags = [
        CopiedTag(repository, tag, Digest(f"sha256:{number:064}"))
        for number, (repository, tag) in enumerate(
            [(REPOSITORY, "v1"), (REPOSITORY, "precious"), ("platform/base", "v9"), ("team/secret", "v1")]
        )
    ]
    own = replace(
        builders.policy(builders.rule(days=30)),
        repositories=RepositorySelector((RepositoryGlob("team/**"),)),
        protected_repositories=(RepositoryGlob("team/secret"),),
        protected_tags=(TagPattern("precious"),),
    )
    left, foreign = within(own, Undoable(tuple(tags), ()))
    assert list(left.tags) == tags[:1]
    assert list(foreign) == tags[1:]


async def test_a_copy_that_is_read_back_as_another_whole_one_is_none() -> None:
    class Odd(MemoryCopies):
        @override
        async def write(self, run: str, part: int, content: bytes) -> bytes:
            found = decode(content, "uid", run, part)
            return encode(replace(found, copies=replace(found.copies, tags=())))

    copies = RunCopies(Odd(), "uid", RUN)
    manifest = _manifest(b"{}")
    await copies.keep((), [manifest])
    with pytest.raises(RunError) as caught:
        await copies.keep([CopiedTag("team/app", "v1", manifest.digest)], [manifest])
    assert (caught.value.failure.reason, caught.value.code) == ("NoCopy", "NotStored")


async def test_a_name_of_the_future_is_not_told_as_a_run_that_can_be_undone() -> None:
    """Its window would never pass, and all collections of garbage at the registry wait for it."""
    store = MemoryCopies({RUN: {1: b"ours"}, "20990101-000000-ffffff": {1: b"anything"}})
    began = run_time(RUN)
    assert began is not None
    assert (await remove_expired(store, timedelta(days=1), began)).runs == [RUN]


@dataclass
class _Small(MemoryCopies):
    """A store whose parts hold little, as ConfigMaps do."""

    @property
    @override
    def most_bytes(self) -> int:
        return 1000


@pytest.mark.parametrize("lost", [False, True])
async def test_all_that_a_run_copied_and_left_is_put_back_only_by_name_however_much_it_is(*, lost: bool) -> None:
    """Somebody may have deleted it since."""
    manifest = _manifest(b"{}")
    tags = [CopiedTag("team/app", f"build-{number}", manifest.digest) for number in range(100)]
    copies = RunCopies(store := _Small(), "uid", RUN)
    await copies.keep(tags, [manifest])
    copies.note("team/app", ItemOutcome("build-7", manifest.digest, Outcome.PRUNED))
    await copies.close()
    if lost:
        del store.parts[RUN][max(store.parts[RUN])]
    registry = _Restoring()
    done = await _undo(registry, store)
    assert done.unfinished is lost
    put_back = {tag.tag for tag in registry.given[0].tags}
    assert "build-7" in put_back
    assert lost or put_back == {"build-7"}
