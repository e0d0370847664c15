"""What is in use is written down for `storage prune`, and read back: all that protects in a few repositories."""

import json

import pytest

from registry_cleanup.domain.in_use import ALL_TAGS, InUse, User
from registry_cleanup.domain.written_use import UnreadableUseError, read_use, write_use
from tests.support.builders import digest

_USER = User("Pod", "team", "web")


def test_what_protects_in_the_repositories_is_read_back_and_who_uses_it_is_left_out() -> None:
    ids = {digest("running"): frozenset({"team/app", "other"}), digest("elsewhere"): frozenset({"other"})}
    in_use = InUse(
        frozenset({digest("a"), *ids}),
        frozenset({("team/app", "v1"), ("team/app", ALL_TAGS), ("other", "v1")}),
        ids,
        {digest("a"): (_USER,)},
        {("team/app", "v1"): (_USER,)},
    )
    text = write_use(in_use, ["team/app"])
    assert "web" not in text
    assert read_use(text.encode()) == InUse(
        in_use.digests,
        frozenset({("team/app", "v1"), ("team/app", ALL_TAGS)}),
        {digest("running"): frozenset({"team/app"})},
    )


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"digests": [], "tags": []},
        {"digests": ["sha256:short"], "tags": [], "imageIDs": {}},
        {"digests": [], "tags": [["one"]], "imageIDs": {}},
        {"digests": [], "tags": [], "imageIDs": []},
    ],
)
def test_what_does_not_say_all_of_it_is_refused(document: object) -> None:
    with pytest.raises(UnreadableUseError):
        read_use(json.dumps(document).encode())
    with pytest.raises(UnreadableUseError):
        read_use(b"{")
