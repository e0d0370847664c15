"""YAML is read as kubectl reads it; what that is, kubectl itself is asked, without a cluster."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from registry_cleanup.cli.files.yaml_scalars import resolve
from registry_cleanup.cli.files.yaml_tree import Node, documents

_HEAD = "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: x}\n"


def _kubectl(text: str, folder: Path) -> Any:  # noqa: ANN401 - whatever JSON it is
    """Return what kubectl would send of a resource, or None where it refuses to read it."""
    done = subprocess.run(
        [Path(sys.executable).parent / "kubectl", "annotate", "--local", "-f", "-", "-o", "json", "a=b"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(folder)},
    )
    return json.loads(done.stdout)["spec"] if done.returncode == 0 else None


def _ours(text: str) -> Any:  # noqa: ANN401 - whatever JSON it is
    ((node, problems),) = documents(text)
    return node.value["spec"] if node is not None and not problems else None


def _without_nulls(value: Any) -> Any:  # noqa: ANN401 - whatever JSON it is
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


_SCALARS = """
    y n Y N yes No on OFF True fALSE ~ null NULL 0o14 014 0x1F 0X1f 0b11 0b12 09 08 1_000 _1 1__0 +5 -5 -0 -0o14 +0x10
    1.5 1. .5 +.5 -.5e-3 . .. 1e3 1E5 1e+3 1.e3 1e400 -1e400 10.0 1_0.5 0.1_5 12:30 190:20:30 2026-01-01
    2026-01-01T00:00:00Z 99999999999999999999 9223372036854775807 9223372036854775808 -9223372036854775808
    18446744073709551615 0x_F 0xg 1e 1e- = 1-2 30d 0 00 000.0 0.0 5. 0x 0o 0b +0b1 -.5 -5.5e10 1.0e+20 "30" '30' "on"
    v1.10 1.10 1.2.3 0xFFFFFFFFFFFFFFFFF 077777777777777777777777 0b1111111111 1e19 9e18
"""
_TAGGED = [
    "!!str 30",
    "!!str on",
    '!!int "3"',
    "!!int 3",
    "!!float 3",
    "!!float 3.5",
    "!!bool yes",
    "!!binary aGVsbG8=",
    "!foo 1",
    "! 3",
    "!!timestamp 2026-01-01",
]


def _random_scalars(number: int) -> list[str]:
    chance = random.Random(9)  # noqa: S311 - the same examples each time, and no secret
    parts = [*"+-._0123456789eExobynf:~", "on", "true", "null", "0x", "0o", "0b", "inf", "2026-01-01"]
    made = {"".join(chance.choices(parts, k=chance.randint(1, 6))) for _ in range(number)}
    # What is no plain scalar, or one that neither reads, is for the tests below.
    return sorted(
        text for text in made if not text.endswith(":") and text != "-" and text[:1] != ":" and _readable(text)
    )


def _readable(text: str) -> bool:
    try:
        resolve(text, None, plain=True)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("scalars", [[*_SCALARS.split(), *_TAGGED], _random_scalars(4000)], ids=["known", "random"])
def test_a_scalar_stands_for_what_kubectl_takes_it_for(scalars: list[str], tmp_path: Path) -> None:
    text = _HEAD + "spec:\n" + "".join(f"  k{number}: {scalar}\n" for number, scalar in enumerate(scalars))
    theirs, ours = _kubectl(text, tmp_path), _ours(text)
    assert theirs is not None
    different = {
        scalar: (ours.get(f"k{number}"), theirs[f"k{number}"])
        for number, scalar in enumerate(scalars)
        if _json(ours.get(f"k{number}")) != _json(theirs[f"k{number}"])
    }
    assert different == {}


def _json(value: object) -> str:
    return json.dumps(float(value) if isinstance(value, int) and abs(value) >= 2**53 else value)


@pytest.mark.parametrize(
    "spec",
    [
        "{on: 1, n: [a, {b: c}], 3: d, 1.5: e, x: ~}",
        "{a: &m {x: 1, y: {z: 2}}, b: {<<: *m, x: 3}, c: {<<: [{p: 1, q: 1}, {q: 2}], r: ~}}",
        "{a: \"\\u00e9\\t\\x41\", b: 'it''s', c: \"x\\\n  y\"}",
        "\n  a: |\n    one\n    two\n  b: >-\n    one\n    two\n  c: |+\n    x\n\n",
        "\n  a:\n  - 1\n  -\n  - - 2\n",
        "{a:\t1}",
        "{\n\ta: 1\n}",
        '{"a":1,"b":[true,null,1.0,"x"]}',
        "{a: !!set {x, y}, b: !!omap [c: 1]}",
        "[a, b, &x [c], *x]",
    ],
)
def test_a_document_holds_what_kubectl_takes_it_for(spec: str, tmp_path: Path) -> None:
    text = f"{_HEAD}spec: {spec}\n"
    theirs = _kubectl(text, tmp_path)
    assert theirs is not None
    assert _ours(text) == _without_nulls(theirs)


@pytest.mark.parametrize(
    ("spec", "line", "words"),
    [
        ("{a: .inf}", 4, "is not a number that JSON has"),
        ("{a: -.INF}", 4, "is not a number that JSON has"),
        ("{a: .NaN}", 4, "is not a number that JSON has"),
        ("{a: !!int 1.5}", 4, "is tagged !!int, and '1.5' is none"),
        ("{a: !!int x}", 4, "is tagged !!int, and 'x' is none"),
        ("{a: !!bool 3}", 4, "is tagged !!bool"),
        ("{a: !!binary '*'}", 4, "is tagged !!binary"),
        ("{~: a}", 4, "has an entry without a key"),
        ("{[a]: b}", 4, "has a key that is not a string"),
        ("{a: *b}", 4, "refers to the anchor 'b', which is not above it"),
        ("&a [*a]", 4, "the anchor 'a' contains itself"),
        ("{<<: 3}", 4, "<< takes a mapping"),
        ("{<<: [3]}", 4, "<< takes a mapping"),
        ("\n  a:\n\tb: 1", 6, "is indented with a tab"),
        ("\n\ta: 1", 5, "is indented with a tab"),
        ("{a: 1", 5, "is not YAML: did not find expected ',' or '}'"),
        ("a: b: c", 4, "is not YAML: mapping values are not allowed"),
        ("'open", 5, "is not YAML: found unexpected end of stream"),
        ("a\x01", 4, "holds a control character"),
        ("\n  a: 1\n b: 2", 6, "is not YAML"),
    ],
)
def test_what_kubectl_cannot_read_is_told_with_its_line(spec: str, line: int, words: str, tmp_path: Path) -> None:
    text = f"{_HEAD}spec: {spec}\n"
    assert _kubectl(text, tmp_path) is None
    ((node, (problem,)),) = documents(text)
    assert node is None
    assert (problem.line, words in problem.message) == (line, True), problem


@pytest.mark.parametrize("text", ["a: " + "[" * 100_000, "- " * 100_000 + "a", "a: " + "[" * 50_000 + "]" * 50_000])
def test_a_bottomless_document_is_refused(text: str) -> None:
    ((node, (problem,)),) = documents(text)
    assert node is None
    assert "nested more than 64 levels deep" in problem.message


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    ((node, (problem,)),) = documents("\n".join(lines))
    assert node is None
    assert "aliases counted in full" in problem.message


def test_documents_after_one_that_cannot_be_read_are_not_lost() -> None:
    found = list(documents("a: [\n---\nb: 1\n--- # with a comment\nc: {\n---\n---\n# nothing\n---\n~\n--- x\nd: 1\n"))
    assert [(None if node is None else node.value, [p.line for p in problems]) for node, problems in found] == [
        (None, [2]),
        ({"b": 1}, []),
        (None, [6]),
        (None, [11]),
    ]


def _node(text: str) -> Node:
    ((node, _),) = documents(text)
    assert node is not None
    return node


def test_a_key_that_is_there_twice_is_told_with_both_lines() -> None:
    text = "a: 1\nb:\n  - c: 1\n    d: 2\n    c: 3\ntrue: 1\non: 2\n"
    ((node, problems),) = documents("---\n" + text)
    assert [tuple(problem)[:2] for problem in problems] == [(6, "b[0].c"), (8, "true")]
    assert "first in line 4" in problems[0].message
    assert node is not None


def test_the_line_of_a_field_is_that_of_its_key_or_of_what_it_would_stand_in() -> None:
    node = _node("a:\n  b: 1\n  c:\n    - d: 1\n    - e:\n        f.g/h: 2\n  i: [\n    1,\n    2]\n")
    for path, line in {
        "": 1,
        "a": 1,
        "a.b": 2,
        "a.b.c": 2,
        "a.c[0].d": 4,
        "a.c[1]": 5,
        "a.c[1].e.f.g/h": 6,
        "a.c[1].e.x": 5,
        "a.c[9]": 3,
        "a.c[x": 3,
        "a.i[1]": 9,
        "z": 1,
    }.items():
        assert node.line_of(path) == line, path


def test_a_key_with_dots_is_found_before_one_that_is_its_beginning() -> None:
    assert _node("a: {b: {\n c: 1},\n  b.c: 2}\n").line_of("a.b.c") == 3
