"""From image strings to what they protect: a few users of each, bare image IDs, and strings that are no image."""

from registry_cleanup.domain.in_use import ALL_TAGS, User
from registry_cleanup.domain.reference import Digest
from registry_cleanup.kube.in_use.gathered import Gathered
from registry_cleanup.kube.in_use.look import listed_images
from registry_cleanup.kube.in_use.uses import Use
from tests.support.builders import digest

_A, _B, _C, _D = (User("Pod", "team", name) for name in "abcd")


def _gathered(*uses: tuple[Use, User]) -> Gathered:
    gathered = Gathered()
    for use, user in uses:
        gathered.add(use, user)
    return gathered


def test_a_tag_and_a_digest_protect_and_say_who_uses_them() -> None:
    running = digest("runs")
    gathered = _gathered((Use("r.example.com/team/app:1"), _A), (Use(f"r.example.com/team/app@{running}"), _B))
    found, notes = gathered.in_use(())
    assert (set(found.tags), set(found.digests), notes) == ({("team/app", "1")}, {running}, ())
    assert (found.tag_users, found.digest_users) == ({("team/app", "1"): (_A,)}, {running: (_B,)})
    assert found.repositories == {running: {"team/app"}}
    assert len(gathered) == 2


def test_aliases_add_what_a_mirror_serves() -> None:
    found, _ = _gathered((Use("mirror.example.com/hub/team/app:1"), _A)).in_use(("hub",))
    assert {("hub/team/app", "1"), ("team/app", "1")} <= found.tags


def test_only_a_few_users_are_remembered_and_none_twice() -> None:
    found, _ = _gathered(*((Use("r.io/app:1"), user) for user in (_A, _A, _B, _C, _D))).in_use(())
    assert found.tag_users["app", "1"] == (_A, _B, _C)


def test_a_bare_image_id_is_looked_for_where_the_specs_of_its_pods_say() -> None:
    bare = digest("config")
    beside = [frozenset({"r.io/team/app:1"}), frozenset({"r.io/team/tool:1", "no image!"})]
    found, _ = _gathered(*((Use(str(bare), each), _A) for each in beside)).in_use(())
    assert bare in found.digests
    assert {"team/app", "team/tool"} <= found.image_ids[bare]


def test_a_digest_of_which_nobody_says_where_it_is_protects_everywhere() -> None:
    bare: Digest = digest("somewhere")
    found, _ = _gathered((Use(str(bare)), _A)).in_use(())
    assert set(found.digests) == {bare}
    # Nobody names a repository of it, so it is asked for in none.
    assert found.image_ids == {bare: frozenset()}
    assert not found.repositories


def test_a_string_that_is_no_image_is_told_and_protects_what_it_could_mean() -> None:
    found, notes = _gathered((Use("r.example.com/team/app:not a tag"), _A)).in_use(())
    assert ("team/app", ALL_TAGS) in found.tags
    assert notes == ("Pod team/a names 'r.example.com/team/app:not a tag', which is no image",)


def test_of_many_strings_that_are_no_image_some_are_told() -> None:
    _, notes = _gathered(*((Use(f"r.example.com/team/app:{number} "), _A) for number in range(5))).in_use(())
    assert len(notes) == 4
    assert notes[-1] == "and 2 more"


def test_news_is_what_changes_what_is_protected() -> None:
    gathered = _gathered((Use("r.io/app:1"), _A))
    before = gathered.news
    gathered.add(Use("r.io/app:1", frozenset({"x"})), _B)
    assert gathered.news == before
    gathered.add(Use(str(digest("x")), frozenset({"r.io/app:1"})), _B)
    new = gathered.news
    gathered.add(Use(str(digest("x")), frozenset({"r.io/other:1"})), _B)
    assert before < new < gathered.news


def test_a_list_by_hand_has_one_image_a_line() -> None:
    texts = ["# all\n r.io/a:1 \n\nr.io/b:1 # why\n", "r.io/a:1\nr.io/c:1"]
    assert listed_images(texts) == ["r.io/a:1", "r.io/b:1", "r.io/c:1"]
