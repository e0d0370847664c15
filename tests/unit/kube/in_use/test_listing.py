"""What a cluster uses, written down and read again, protects the same."""

import pytest
import yaml

from registry_cleanup.domain.in_use import InUse, User
from registry_cleanup.kube.in_use.gathered import Gathered
from registry_cleanup.kube.in_use.listing import MOST_BYTES, Listing, TooLargeError
from registry_cleanup.kube.in_use.look import listed_images
from registry_cleanup.kube.in_use.uses import Use

_POD = User("Pod", "team", "app-1")
_DIGEST = "sha256:" + "a" * 64


def _gathered(*texts: str) -> Gathered:
    gathered = Gathered()
    for text in texts:
        gathered.add(Use(text), _POD)
    return gathered


def _read(manifest: str) -> InUse:
    """Return what a policy makes of a ConfigMap."""
    return _gathered(*listed_images(yaml.safe_load(manifest)["data"].values())).in_use(())[0]


@pytest.mark.parametrize(
    "text",
    [
        "app",
        "registry.example.com:5000/team/app:1",
        f"team/app@{_DIGEST}",
        f"docker-pullable://team/app:1@{_DIGEST}",
        _DIGEST,
        # No images, which protect all tags of what they could mean.
        "team/app:1 #2",
        "team/app:1#2",
        "team/app:1\nteam/other:2",
        " team/app:1",
        "team/app:1\t",
        "team/app:tägg",
        "#team/app",
        "team/app: a",
        " ",
    ],
)
def test_what_is_listed_protects_what_the_cluster_uses(text: str) -> None:
    gathered = _gathered(text)
    expected, _ = gathered.in_use(())
    found = _read(Listing.of(gathered).config_map("in-use"))
    assert (found.digests, found.tags) == (expected.digests, expected.tags)


def test_each_image_has_a_line_with_who_uses_it() -> None:
    gathered = _gathered("team/b:1", "team/a:1")
    gathered.add(Use("team/b:1"), User("Deployment", "team", "app"))
    assert Listing.of(gathered).lines() == [
        "team/a:1  # Pod team/app-1",
        "team/b:1  # Pod team/app-1, Deployment team/app",
    ]


def test_a_user_of_an_odd_name_ends_no_line() -> None:
    gathered = Gathered()
    gathered.add(Use("team/app:1"), User("Odd", "", "a\nteam/other:1"))
    assert Listing.of(gathered).lines() == ["team/app:1  # Odd a?team/other:1"]


def test_names_that_yaml_takes_for_something_else_stay_names() -> None:
    metadata = yaml.safe_load(Listing({}).config_map("1.0", "on"))["metadata"]
    assert metadata == {"name": "1.0", "namespace": "on"}


def test_what_uses_nothing_is_an_empty_list() -> None:
    assert listed_images(yaml.safe_load(Listing({}).config_map("in-use"))["data"].values()) == []


def test_where_the_users_do_not_fit_the_images_are_listed_alone() -> None:
    texts = [f"registry.example.com/team/app:{number:020}" for number in range(MOST_BYTES // 60)]
    found = yaml.safe_load(Listing.of(_gathered(*texts)).config_map("in-use"))["data"]["images"]
    assert len(found) <= MOST_BYTES
    assert "# Pod" not in found
    assert listed_images([found]) == texts


def test_what_no_config_map_holds_is_refused() -> None:
    texts = [f"registry.example.com/team/app:{number:020}" for number in range(MOST_BYTES // 40)]
    with pytest.raises(TooLargeError, match=r"^26214 images take"):
        Listing.of(_gathered(*texts)).config_map("in-use")


def test_what_is_no_image_is_told() -> None:
    assert Listing.of(_gathered("team/app:1 #2"), ["odd"]).notes == (
        "odd",
        "Pod team/app-1 names 'team/app:1 #2', which is no image",
    )
