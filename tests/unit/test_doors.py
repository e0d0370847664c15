"""No run is where garbage is collected, and the other way round."""

import pytest

from registry_cleanup.doors import Doors, registry_key


def test_who_comes_while_the_door_is_shut_stays_outside_and_who_is_inside_is_seen() -> None:
    doors = Doors()
    with doors.inside("r") as first:
        assert first
        with doors.shut("r"):
            assert not doors.is_empty("r")
            with doors.inside("r") as second:
                assert not second
            with doors.inside("other") as elsewhere:
                assert elsewhere
    assert doors.is_empty("r")
    assert not doors.is_shut("r")


def test_a_door_that_two_keep_shut_opens_with_the_last() -> None:
    doors = Doors()
    with doors.shut("r"):
        with doors.shut("r"):
            pass
        assert doors.is_shut("r")
    assert not doors.is_shut("r")


def test_all_doors_are_shut_while_nobody_knows_what_was_left_frozen() -> None:
    doors = Doors()
    doors.all_shut = True
    with doors.inside("r") as inside:
        assert not inside
    assert doors.is_empty("r")


def test_what_goes_wrong_inside_leaves_nobody_there() -> None:
    doors = Doors()
    with pytest.raises(ValueError, match="broken"), doors.inside("r"):
        raise ValueError("broken")
    assert doors.is_empty("r")


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://registry.example.com", "registry.example.com:443"),
        ("https://registry.example.com:443", "registry.example.com:443"),
        ("http://registry:5000", "registry:5000"),
        (None, ""),
    ],
)
def test_a_registry_is_known_by_host_and_port(url: str | None, key: str) -> None:
    assert registry_key(url) == key


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://registry.team:5000", "registry.team:5000"),
        ("http://registry.team.svc:5000", "registry.team:5000"),
        ("http://registry.team.svc.cluster.local.:5000", "registry.team:5000"),
        ("http://registry.team.svc.cluster.local", "registry.team:80"),
        ("https://registry.example.com", "registry.example.com:443"),
        ("http://registry:5000", "registry:5000"),
        ("http://[fd00::1]:5000", "[fd00::1]:5000"),
        (None, ""),
    ],
)
def test_all_names_of_a_service_are_one_registry(url: str | None, key: str) -> None:
    assert registry_key(url) == key


def test_a_collection_keeps_others_from_its_registry_and_from_its_workload() -> None:
    doors = Doors()
    with doors.collecting("r", "w"):
        assert doors.is_collected("r", "v")
        assert doors.is_collected("s", "w")
        assert not doors.is_collected("s", "v")
    assert not doors.is_collected("r", "w")
