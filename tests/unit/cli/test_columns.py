"""Columns that fit a terminal, and are never cut elsewhere."""

from registry_cleanup.cli.output.columns import Column, fit

_DIGEST = "0123456789ab"


def columns(tag: str = "1.0") -> list[Column]:
    return [
        Column("TAG", [tag, "latest"]),
        Column("DIGEST", [_DIGEST, _DIGEST], rank=1),
        Column(
            "PLATFORMS", ["linux/amd64 linux/arm64", "linux/amd64"], short=["linux/amd64 +1", "linux/amd64"], rank=2
        ),
        Column("SIZE", ["9 B", "100 B"], right=True),
        Column("REFERRERS", ["1", ""], right=True, rank=3),
    ]


def test_what_has_room_is_shown_whole() -> None:
    expected = (
        "TAG     DIGEST        PLATFORMS                 SIZE  REFERRERS",
        "1.0     0123456789ab  linux/amd64 linux/arm64    9 B          1",
        "latest  0123456789ab  linux/amd64              100 B",
    )
    assert fit(columns(), None).lines == expected
    assert fit(columns(), 80).lines == expected


def test_cells_get_shorter_before_columns_go() -> None:
    found = fit(columns(), 60)
    assert found.left_out == ()
    assert found.lines[1] == "1.0     0123456789ab  linux/amd64 +1    9 B          1"


def test_the_least_important_columns_go_first() -> None:
    assert fit(columns(), 46).left_out == ("REFERRERS",)
    assert fit(columns(), 40).left_out == ("PLATFORMS", "REFERRERS")
    assert fit(columns(), 20).left_out == ("DIGEST", "PLATFORMS", "REFERRERS")


def test_a_long_name_is_folded_and_never_cut() -> None:
    name = "a-very-long-name-of-a-branch-that-somebody-has-pushed-a-build-of"
    found = fit(columns(name), 50)
    assert all(len(line) <= 50 for line in found.lines)
    folded = "".join(line[:29].strip() for line in found.lines[1:-1])
    assert folded == name
    assert fit(columns(name), None).lines[1].startswith(f"{name}  {_DIGEST}")


def test_a_long_name_is_folded_before_columns_go() -> None:
    assert fit(columns("a" * 60), 81).left_out == ()
    assert fit(columns("a" * 60), 79).left_out == ("REFERRERS",)


def test_no_rows_are_titles_alone() -> None:
    assert fit([Column("REPOSITORY", []), Column("TAGS", [], right=True)], 60).lines == ("REPOSITORY  TAGS",)
