"""`storage prune` and its like as a person types them: which plans they take, what they say, and how they end."""

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from registry_cleanup.domain.in_use import InUse
from registry_cleanup.domain.written_use import write_use
from tests.support.command import run
from tests.support.storages import files_below
from tests.support.stored import APP, HandStorage, fill, report_of

DONE, FAILED, USAGE, HELD_BACK, REGISTRY, PARTIAL = 0, 1, 2, 3, 4, 6
NOW = datetime.now(UTC)


@pytest.fixture
def storage(tmp_path: Path) -> HandStorage:
    made = HandStorage(tmp_path / "root")
    fill(made)
    return made


def _report(tmp_path: Path, **head: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - values of any field
    return report_of(fill(HandStorage(tmp_path / "plan")), {"generatedAt": NOW.isoformat(), **head})


def _file(tmp_path: Path, lines: list[dict[str, Any]]) -> Path:
    file = tmp_path / "report"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def _storage(tmp_path: Path, command: str, *arguments: str | Path, stdin: str | None = None) -> tuple[int, str, str]:
    done = run(tmp_path / "home", "storage", command, "--root", tmp_path / "root", *arguments, stdin=stdin)
    return done.returncode, done.stdout, done.stderr


def test_prune_list_restore_and_empty_tell_what_they_do(storage: HandStorage, tmp_path: Path) -> None:
    plan = _file(tmp_path, _report(tmp_path))
    code, out, err = _storage(tmp_path, "prune", "--plan", plan, "--offline", "--run", "one")
    assert code == DONE, err
    assert out.splitlines()[0] == APP
    assert "  Pruned         old-1" in out.splitlines()
    assert "5 tags and 6 manifests moved to the trash" in err
    assert f"storage restore --root {storage.root} --run one" in err
    code, out, _ = _storage(tmp_path, "list-trash")
    assert (code, out.split("  ")[0]) == (DONE, "one")
    assert "5 tags, 6 manifests of registry.example.com:443, since " in out
    code, out, err = _storage(tmp_path, "restore", "--run", "one", f"registry.example.com/{APP}:old-1")
    assert (code, out.split()) == (DONE, [APP, "Restored", "old-1"])
    assert "Undo of run one: 1 put back" in err
    code, out, err = _storage(tmp_path, "empty-trash", "--run", "one")
    assert (code, "1 run deleted from the trash" in err) == (DONE, True)
    code, out, _ = _storage(tmp_path, "list-trash")
    assert (code, out) == (DONE, "The trash is empty.\n")


def test_a_packed_report_and_one_on_standard_input_are_the_same_plan(storage: HandStorage, tmp_path: Path) -> None:
    file = _file(tmp_path, _report(tmp_path))
    packed = tmp_path / "report.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert _storage(tmp_path, "prune", "--plan", packed, "--offline", "--run", "one")[0] == DONE
    assert _storage(tmp_path, "restore", "--run", "one")[0] == DONE
    assert _storage(tmp_path, "prune", "--plan", "-", "--offline", "--run", "two", stdin=file.read_text())[0] == DONE
    assert storage.tags() == {"kept"}


@pytest.mark.parametrize(
    ("head", "options", "code", "says"),
    [
        ({"unapproved": 3}, (), HELD_BACK, "3 planned tags wait for approval"),
        ({"planOnly": True}, (), HELD_BACK, "only planned"),
        ({"generatedAt": (NOW - timedelta(hours=25)).isoformat()}, (), HELD_BACK, "older than 1d"),
        ({}, ("--approve", "b" * 64), HELD_BACK, "names bbbb"),
        ({"repositoriesCut": 1}, (), USAGE, "cut off"),
        ({"spared": 1}, (), USAGE, "lacks what holds some of it back"),
        ({"plan": "b" * 64}, (), USAGE, "cut, narrowed to a part, or changed"),
        ({}, ("--registry", "https://other.example.com"), USAGE, "--offline"),
        ({}, ("--max-age", "soon"), USAGE, "is not a duration"),
        ({}, ("--run", "../x"), USAGE, "no ID of a run"),
    ],
)
def test_what_forbids_it_is_said_and_nothing_is_moved(
    storage: HandStorage, tmp_path: Path, head: Mapping[str, Any], options: tuple[str, ...], code: int, says: str
) -> None:
    plan = _file(tmp_path, _report(tmp_path, **head))
    before = files_below(storage.root / "docker")
    found, _, err = _storage(tmp_path, "prune", "--plan", plan, "--offline", *options)
    assert (found, says in err) == (code, True), err
    assert files_below(storage.root / "docker") == before


def test_a_plan_of_another_registry_is_refused_before_anybody_is_asked(storage: HandStorage, tmp_path: Path) -> None:
    plan = _file(tmp_path, _report(tmp_path))
    code, _, err = _storage(tmp_path, "prune", "--plan", plan, "--registry", "https://other.example.com")
    assert (code, "the plan is of registry registry.example.com:443, not of other.example.com" in err) == (USAGE, True)
    assert "old-1" in storage.tags()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"no JSON",
        b"\x1f\x8b\x08broken",
        b'{"type": "run"}',
        b"[" * 100_000,
        b"\xff\xfe",
        b"null\n1\n",
    ],
)
def test_a_file_that_is_no_plan_is_refused(storage: HandStorage, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "plan.json"
    file.write_bytes(content)
    code, _, err = _storage(tmp_path, "prune", "--plan", file, "--offline")
    assert (code, "holds no plan" in err or "cannot be read" in err) == (USAGE, True), err
    assert "old-1" in storage.tags()


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda s: (s.root / "docker").rename(s.root / "data"), USAGE),
        (lambda s: s.link(s.tag_folder(APP, "old-1") / "current", s.image(APP, "moved")), PARTIAL),
        (lambda s: (s.tag_folder(APP, "kept") / "current/link").write_text("no digest"), PARTIAL),
        (lambda s: (s.tag_folder(APP, "kept") / "more").mkdir(), USAGE),
    ],
)
def test_what_is_not_as_planned_ends_with_its_code(
    storage: HandStorage, tmp_path: Path, spoil: Callable[[HandStorage], object], code: int
) -> None:
    plan = _file(tmp_path, _report(tmp_path))
    spoil(storage)
    found, _, err = _storage(tmp_path, "prune", "--plan", plan, "--offline")
    assert found == code, err


def test_what_the_plan_holds_back_stays_and_is_told(storage: HandStorage, tmp_path: Path) -> None:
    held = [{"type": "held", "repository": APP, "tag": tag, "reason": "GracePeriod"} for tag in ("old-1", "old-2")]
    plan = _file(tmp_path, [*_report(tmp_path, spared=len(held)), *held])
    code, out, _ = _storage(tmp_path, "prune", "--plan", plan, "--offline")
    assert (code, "  GracePeriod    old-1" in out.splitlines()) == (HELD_BACK, True)
    assert storage.tags() == {"kept", "old-1", "old-2"}


def test_nothing_is_emptied_unless_it_is_said_what(tmp_path: Path) -> None:
    code, _, err = _storage(tmp_path, "empty-trash")
    assert (code, "say which runs" in err) == (USAGE, True)


def test_a_run_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    fill(HandStorage(tmp_path / "root"))
    _storage(tmp_path, "prune", "--plan", _file(tmp_path, _report(tmp_path)), "--offline", "--run", "one")
    for command in ("restore", "empty-trash"):
        code, _, err = _storage(tmp_path, command, "--run", "two")
        assert (code, "no run two; there are: one" in err) == (USAGE, True)


# For the Job of a collection


def _told(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_a_termination_log_gets_the_result_and_what_stays_is_no_error(storage: HandStorage, tmp_path: Path) -> None:
    plan, log = _file(tmp_path, _report(tmp_path)), tmp_path / "log"
    storage.link(storage.tag_folder(APP, "old-1") / "current", storage.image(APP, "moved"))
    code, _, err = _storage(tmp_path, "prune", "--plan", plan, "--offline", "--run", "one", "--termination-log", log)
    assert code == DONE, err
    told = _told(log)
    assert (told["run"], told["tags"] + told["stayed"]) == ("one", 5)
    assert told["stayed"] > 0
    assert "failure" not in told


@pytest.mark.parametrize(
    ("head", "says"),
    [({"unapproved": 3}, "wait for approval"), ({"plan": "b" * 64}, "changed")],
)
def test_a_termination_log_gets_what_went_wrong(
    storage: HandStorage, tmp_path: Path, head: Mapping[str, Any], says: str
) -> None:
    plan, log = _file(tmp_path, _report(tmp_path, **head)), tmp_path / "log"
    before = files_below(storage.root / "docker")
    code, _, err = _storage(tmp_path, "prune", "--plan", plan, "--offline", "--termination-log", log)
    assert (code, says in err) == (DONE, True)
    told = _told(log)
    assert says in told.pop("failure")
    assert told == {"tags": 0, "manifests": 0}
    assert files_below(storage.root / "docker") == before


def test_a_result_that_nobody_can_be_told_is_an_error(storage: HandStorage, tmp_path: Path) -> None:
    plan = _file(tmp_path, _report(tmp_path))
    code, _, err = _storage(tmp_path, "prune", "--plan", plan, "--offline", "--termination-log", tmp_path / "no/log")
    assert (code, "cannot be written" in err) == (FAILED, True)
    assert storage.tags() == {"kept"}


def test_what_is_in_use_by_now_stays_and_is_told(storage: HandStorage, tmp_path: Path) -> None:
    plan, use = _file(tmp_path, _report(tmp_path)), tmp_path / "in-use.gz"
    use.write_bytes(gzip.compress(write_use(InUse(tags=frozenset({(APP, "old-1")})), [APP]).encode()))
    code, out, _ = _storage(tmp_path, "prune", "--plan", plan, "--offline", "--in-use", use)
    assert code == PARTIAL
    assert any(line.startswith("  NowInUse       old-1") for line in out.splitlines())
    assert "old-1" in storage.tags()


@pytest.mark.parametrize("content", [b"", b"{}", b"\x1f\x8bbroken", None])
def test_what_does_not_say_what_is_in_use_is_refused(
    storage: HandStorage, tmp_path: Path, content: bytes | None
) -> None:
    use = tmp_path / "in-use"
    if content is not None:
        use.write_bytes(content)
    code, _, err = _storage(
        tmp_path, "prune", "--plan", _file(tmp_path, _report(tmp_path)), "--offline", "--in-use", use
    )
    assert (code, "in-use" in err) == (USAGE, True)
    assert "old-1" in storage.tags()


@pytest.mark.parametrize("changed", ["plan", "in-use"])
def test_a_file_that_somebody_changed_since_the_operator_wrote_it_is_refused(
    storage: HandStorage, tmp_path: Path, changed: str
) -> None:
    files = {"plan": _file(tmp_path, _report(tmp_path)), "in-use": tmp_path / "use.gz"}
    files["in-use"].write_bytes(gzip.compress(write_use(InUse(tags=frozenset({(APP, "old-1")})), [APP]).encode()))
    arguments: list[str | Path] = ["--offline"]
    for name, file in files.items():
        arguments += [f"--{name}", file, f"--{name}-sha256", hashlib.sha256(file.read_bytes()).hexdigest()]
    before = storage.tags()
    files[changed].write_bytes(files[changed].read_bytes() + b"\n")
    code, _, err = _storage(tmp_path, "prune", *arguments)
    assert (code, "is not the file" in err) == (USAGE, True), err
    assert storage.tags() == before
    files[changed].write_bytes(files[changed].read_bytes()[:-1])
    assert _storage(tmp_path, "prune", *arguments)[0] == PARTIAL


@pytest.mark.usefixtures("storage")
def test_the_trash_of_one_policy_is_emptied_and_that_of_others_left(tmp_path: Path) -> None:
    lines = _report(tmp_path)
    assert _storage(tmp_path, "prune", "--plan", _file(tmp_path, lines), "--offline", "--run", "one")[0] == DONE
    _storage(tmp_path, "empty-trash", "--older-than", "0s", "--policy", "another")
    assert _storage(tmp_path, "list-trash")[1].startswith("one")
    _storage(tmp_path, "empty-trash", "--older-than", "1d", "--policy", lines[0]["policy"])
    assert _storage(tmp_path, "list-trash")[1].startswith("one")
    assert _storage(tmp_path, "empty-trash", "--older-than", "0s", "--policy", lines[0]["policy"])[0] == DONE
    assert _storage(tmp_path, "list-trash")[1] == "The trash is empty.\n"
