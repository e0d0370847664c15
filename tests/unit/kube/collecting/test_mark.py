"""What stands on a frozen workload is read again as it was written, or not at all."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from registry_cleanup.domain.collection import Mark, Strategy, Variable
from registry_cleanup.kube.collecting.mark import MARK_ANNOTATION, DamagedMarkError, mark_of, mark_text, parse_mark
from tests.support.builders import NOW

_MARK = Mark(
    policy="uid",
    policy_name="policy",
    id="c1",
    registry="registry:5000",
    strategy=Strategy.READ_ONLY,
    replicas=2,
    container="registry",
    variable=Variable(1, '{"name": "X", "value": "1"}'),
    start=NOW,
    timeout=timedelta(hours=1),
)
_OFFLINE = Mark("uid", "policy", "c1", "r", Strategy.OFFLINE, 3, None, None, NOW, timedelta(minutes=5))


@pytest.mark.parametrize("mark", [_MARK, _OFFLINE], ids=["read-only", "offline"])
def test_a_mark_is_read_as_it_was_written(mark: Mark) -> None:
    assert parse_mark(mark_text(mark)) == mark
    assert mark_of({"metadata": {"annotations": {MARK_ANNOTATION: mark_text(mark)}}}) == mark


def test_most_workloads_bear_none() -> None:
    assert mark_of({"metadata": {}}) is None
    assert mark_of({"metadata": {"annotations": {"other": "x"}}}) is None


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", mark_text(_MARK).replace("ReadOnly", "Other"), "{"])
def test_a_damaged_mark_is_no_mark(text: str) -> None:
    with pytest.raises(DamagedMarkError):
        parse_mark(text)


@pytest.mark.parametrize(
    ("field", "forged"),
    [
        ("timeoutSeconds", "1" + 20 * "0"),
        ("timeoutSeconds", "100000000000"),
        ("timeoutSeconds", "-1"),
        ("replicas", "1e999"),
        ("replicas", "-1"),
        ("replicas", "4294967296"),
        ("startTime", '"0001-01-01T00:00:00+14:00"'),
        ("startTime", '"9999-12-31T23:59:59+00:00"'),
        ("container", "null"),
        ("variable", 100_000 * "[" + 100_000 * "]"),
    ],
)
def test_a_forged_mark_is_damaged_whatever_it_says(field: str, forged: str) -> None:
    text = mark_text(_MARK)
    written = json.dumps(json.loads(text)[field], separators=(",", ":"))
    with pytest.raises(DamagedMarkError):
        parse_mark(text.replace(f'"{field}":{written}', f'"{field}":{forged}'))
