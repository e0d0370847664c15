"""The course of `run`: what a person was shown is what is pruned."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from registry_cleanup.cli.running import course
from registry_cleanup.kube.spec import parse_policy
from tests.support.builders import minimal_spec

_BODY = {
    "metadata": {
        "namespace": "team",
        "name": "nightly",
        "uid": "u",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    },
    "spec": {**minimal_spec(), "repositories": {"include": ["team/**"]}},
}


def _plan(*unread: str, url: str | None = "https://registry.example.com", server: str | None = None) -> Any:  # noqa: ANN401 - what the functions read of a plan
    policy = parse_policy(_BODY)
    policy = replace(policy, registry=policy.registry.model_copy(update={"url": url}))
    lines = [{"type": "incomplete", "repository": name} for name in unread]
    lines.append({"type": "tag", "repository": "team/read"})
    return SimpleNamespace(policy=policy, shown=SimpleNamespace(lines=lines), server=server)


def test_a_repository_that_could_not_be_read_for_the_plan_is_left_alone() -> None:
    policy = course._as_shown(cast("Any", _plan("team/unread"))).policy  # noqa: SLF001 - the whole is tested on registries
    assert policy.repositories.selects("team/read")
    assert not policy.repositories.selects("team/unread")


def test_a_registry_has_one_name_however_its_address_is_written() -> None:
    spelled = ["https://registry.example.com", "https://registry.example.com:443", "https://registry.example.com/"]
    assert {course._registry(_plan(url=url)) for url in spelled} == {"registry.example.com:443"}  # noqa: SLF001 - as above
    of_clusters = {course._registry(_plan(url=None, server=server)) for server in ("https://a", "https://b")}  # noqa: SLF001 - as above
    assert len(of_clusters) == 2


def test_a_plan_that_was_shown_long_ago_is_not_pruned(monkeypatch: Any) -> None:  # noqa: ANN401 - pytest's
    monkeypatch.setattr(course, "says_yes", lambda _question: True)
    monkeypatch.setattr(course, "_question", lambda _plan: "Prune?")
    monkeypatch.setattr(course, "_now", lambda: datetime(2026, 3, 1, 12, 11, tzinfo=UTC))
    shown = _plan()
    shown.made = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    hold = course._answer(shown)  # noqa: SLF001 - as above
    assert hold is not None
    assert "more than 10 minutes ago" in hold.message
    shown.made = datetime(2026, 3, 1, 12, 5, tzinfo=UTC)
    assert course._answer(shown) is None  # noqa: SLF001 - as above
