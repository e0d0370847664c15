"""`run` prunes exactly what it showed and was told to, holds back what the operator would, and tells what it did."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.command import COMMAND, environment, run
from tests.support.crane import Crane
from tests.support.faulty import FaultyRegistry, before, drops_the_connection, faulty_registry
from tests.support.images import push_image
from tests.support.policies import GROUP, Gate, days_ago, policy_spec, push_builds
from tests.support.processes import wait_until
from tests.support.registries import RegistryServer
from tests.support.schemas import validate
from tests.support.terminal import terminal

_LIMIT = 60.0
_ALL = [f"build-{build}" for build in range(1, 6)]
_KEPT = ["build-4", "build-5"]
DONE, USAGE, HELD_BACK, REGISTRY, CLUSTER, PARTIAL, INTERRUPTED, BROKEN_PIPE = 0, 2, 3, 4, 5, 6, 130, 141


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def proxy(registry3: RegistryServer) -> Iterator[FaultyRegistry]:
    """Run a proxy before a registry with twelve builds, of which ten go."""
    push_builds(registry3.url, number=12)
    with faulty_registry(registry3.url) as running:
        yield running


def _write(home: Path, url: str, name: str = "policy", **changes: Any) -> Path:  # noqa: ANN401 - values of any field
    """Write a policy that prunes at once, and looks at no cluster."""
    spec = policy_spec(url, **{"dryRun": False, "inUse": {"enabled": False}, **changes})
    body = {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "RegistryCleanupPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }
    file = home / f"{name}.yaml"
    file.write_text(yaml.safe_dump(body))
    return file


def _run(home: Path, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run(home, "run", "-f", file, *options, limit=120)


def _json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _hash(home: Path, file: Path) -> str:
    """Return the hash of the plan of now, as `plan` tells it."""
    plan: str = _json(run(home, "plan", "-f", file, "-o", "json", limit=120))["plan"]["hash"]
    return plan


def _store(home: Path) -> Path:
    (folder,) = [each for each in (home / ".local/state/registry-cleanup").iterdir() if each.name != "registries"]
    return folder


def _tags(crane: Crane, server: RegistryServer, repository: str = "team/app") -> list[str]:
    return crane.ls(f"{server.host}/{repository}")


# At a terminal


def test_who_answers_yes_prunes_exactly_what_was_shown(registry: RegistryServer, crane: Crane, home: Path) -> None:
    going = push_builds(registry.url)
    push_builds(registry.url, "other/app")
    push_image(registry.url, "team/app", ["release"], created=days_ago(90), seed="no rule owns it")
    before_ = {tag: crane.digest(f"{registry.host}/team/app:{tag}") for tag in _tags(crane, registry)}
    with terminal(home, "run", "-f", _write(home, registry.url)) as shown:
        shown.wait_for(f"Prune 3 tags in 1 repository of {registry.url}? Type yes to go on:")
        assert _tags(crane, registry) == sorted(before_)
        assert all(tag in shown.text for tag in going)
        shown.type("yes")
        assert shown.end() == DONE
    assert shown.text.count("Pruned") >= len(going)
    assert "3 of 3 planned tags are pruned" in shown.text
    after = {tag: crane.digest(f"{registry.host}/team/app:{tag}") for tag in _tags(crane, registry)}
    assert after == {tag: digest for tag, digest in before_.items() if tag not in going}
    assert _tags(crane, registry, "other/app") == _ALL


@pytest.mark.parametrize("answer", ["no", "y", ""])
def test_any_other_answer_prunes_nothing(registry3: RegistryServer, crane: Crane, home: Path, answer: str) -> None:
    push_builds(registry3.url)
    with terminal(home, "run", "-f", _write(home, registry3.url)) as shown:
        shown.wait_for("Type yes")
        shown.type(answer)
        assert shown.end() == HELD_BACK
    assert "the answer was not yes" in shown.text
    assert _tags(crane, registry3) == _ALL


def test_ctrl_c_at_the_question_prunes_nothing(registry3: RegistryServer, crane: Crane, home: Path) -> None:
    push_builds(registry3.url)
    with terminal(home, "run", "-f", _write(home, registry3.url)) as shown:
        shown.wait_for("Type yes")
        shown.press_ctrl_c()
        assert shown.end() == INTERRUPTED
    assert "nothing was pruned" in shown.text
    assert _tags(crane, registry3) == _ALL


def test_yes_at_the_terminal_approves_the_plan_that_was_shown_and_nothing_that_came_since(
    registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    push_builds(registry3.url)
    with terminal(home, "run", "-f", _write(home, registry3.url, approval={"required": True})) as shown:
        shown.wait_for("Type yes")
        push_image(registry3.url, "team/app", ["build-0"], created=days_ago(90), seed="new since")
        shown.type("yes")
        assert shown.end() == HELD_BACK
    assert _tags(crane, registry3) == ["build-0", *_KEPT]


def test_who_is_asked_sees_the_plan_also_where_the_result_goes_to_a_file(
    registry3: RegistryServer, home: Path, tmp_path: Path
) -> None:
    push_builds(registry3.url)
    result = tmp_path / "result.json"
    with terminal(home, "run", "-f", _write(home, registry3.url), "-o", "json", stdout=result) as shown:
        shown.wait_for("Type yes")
        assert "build-1" in shown.text
        shown.type("yes")
        assert shown.end() == DONE
    lines = json.loads(result.read_text())["lines"]
    assert sorted(line["tag"] for line in lines if line.get("outcome") == "Pruned") == ["build-1", "build-2", "build-3"]


def test_a_narrow_terminal_shows_a_bar_that_leaves_nothing_behind(proxy: FaultyRegistry, home: Path) -> None:
    gate = Gate()
    proxy.inject(before(gate), method="DELETE", path=".*/manifests/build-.*", times=1)
    with terminal(home, "run", "-f", _write(home, proxy.url), columns=60) as shown:
        shown.wait_for("Type yes")
        shown.type("yes")
        gate.wait()
        shown.wait_for("pruning: 0 of 10 tags")
        shown.wait_for("━")
        gate.open()
        assert shown.end() == DONE
    # The cursor is there again.
    assert shown.text.rfind("\x1b[?25h") > shown.text.rfind("\x1b[?25l")
    assert "━" not in shown.text[shown.text.rfind("\x1b[?25h") :]


# Without a terminal


def test_without_a_terminal_and_without_yes_nothing_is_pruned(
    registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    push_builds(registry3.url)
    done = _run(home, _write(home, registry3.url))
    assert done.returncode == USAGE
    assert "--yes" in done.stderr
    assert "build-1" in done.stdout
    assert _tags(crane, registry3) == _ALL


def test_yes_prunes_what_an_earlier_run_has_published(registry: RegistryServer, crane: Crane, home: Path) -> None:
    push_builds(registry.url)
    file = _write(home, registry.url)
    first = _run(home, file, "--yes")
    assert (first.returncode, _tags(crane, registry)) == (HELD_BACK, _ALL)
    assert "new here, or was changed" in first.stderr
    done = _run(home, file, "--yes", "-o", "json")
    assert (done.returncode, _tags(crane, registry)) == (DONE, _KEPT)
    document = _json(done)
    validate(document, "report")
    assert document["run"]["counts"]["tagsPruned"] == 3
    outcomes = [(line["tag"], line["outcome"]) for line in document["lines"] if line["type"] == "outcome"]
    assert sorted(outcomes) == [("build-1", "Pruned"), ("build-2", "Pruned"), ("build-3", "Pruned")]
    again = _run(home, file, "--yes")
    assert (again.returncode, _tags(crane, registry)) == (DONE, _KEPT)
    assert "Nothing is to be pruned" in again.stderr


def test_a_changed_policy_is_only_planned_where_nobody_is_asked(
    registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    push_builds(registry3.url)
    file = _write(home, registry3.url, keepTags=["build-1"])
    assert _run(home, file, "--yes").returncode == HELD_BACK
    _write(home, registry3.url, keepTags=["build-2"])
    assert (_run(home, file, "--yes").returncode, _tags(crane, registry3)) == (HELD_BACK, _ALL)
    assert (_run(home, file, "--yes").returncode, _tags(crane, registry3)) == (DONE, ["build-2", *_KEPT])


def test_a_policy_of_standard_input_is_run_like_one_of_a_file(
    registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    push_builds(registry3.url)
    text = _write(home, registry3.url).read_text()
    codes = [run(home, "run", "-f", "-", "--yes", stdin=text).returncode for _ in range(2)]
    assert (codes, _tags(crane, registry3)) == ([HELD_BACK, DONE], _KEPT)


# Guards


def test_by_default_the_first_run_prunes_nothing_and_says_from_when(
    registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    push_builds(registry3.url)
    done = _run(home, _write(home, registry3.url, gracePeriod="24h"), "--yes", "-o", "json")
    assert (done.returncode, _tags(crane, registry3)) == (HELD_BACK, _ALL)
    validate(_json(done), "plan")
    assert "grace period of 1d" in done.stderr
    assert "The first may go from 20" in done.stderr


def test_the_grace_period_counts_from_the_first_plan_that_was_published_here(
    registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    push_builds(registry3.url)
    file = _write(home, registry3.url, gracePeriod="3s")
    assert _run(home, file, "--yes").returncode == HELD_BACK
    push_image(registry3.url, "team/app", ["build-2"], created=days_ago(90), seed="an old one, tagged anew")

    def prunes() -> bool:
        return _run(home, file, "--yes").returncode == DONE or _tags(crane, registry3) != [
            "build-1",
            "build-2",
            *_ALL[2:],
        ]

    wait_until(prunes, _LIMIT, "the end of the grace period")
    assert "build-1" not in _tags(crane, registry3)
    wait_until(lambda: _run(home, file, "--yes").returncode == DONE, _LIMIT, "that of the tag that was moved")
    assert _tags(crane, registry3) == _KEPT


def test_plan_and_explain_know_what_run_published_on_this_machine(registry3: RegistryServer, home: Path) -> None:
    push_builds(registry3.url)
    file = _write(home, registry3.url, gracePeriod="1h")
    before_ = _json(run(home, "plan", "-f", file, "-o", "json"))["plan"]
    assert before_["published"] is False
    assert not (home / ".local").exists()
    ran = _json(_run(home, file, "--yes", "-o", "json"))
    push_image(registry3.url, "team/app", ["build-0"], created=days_ago(90), seed="one more")
    planned = _json(run(home, "plan", "-f", file, "-o", "json"))
    assert (planned["plan"]["published"], planned["plan"]["prunableFrom"]) == (True, ran["plan"]["prunableFrom"])
    for tag, known in (("build-1", True), ("build-0", False)):
        explained = run(home, "explain", f"team/app:{tag}", "-f", file).stdout
        assert ("in the published plan since" in explained, "it is not in the published plan" in explained) == (
            known,
            not known,
        )


def test_without_a_grace_period_neither_plan_nor_run_says_that_anything_waits_for_it(
    registry3: RegistryServer, home: Path
) -> None:
    push_builds(registry3.url)
    file = _write(home, registry3.url)
    for output in ("table", "json"):
        planned = run(home, "plan", "-f", file, "-o", output).stdout
        assert "grace period" not in planned
        assert "GracePeriod" not in planned


def test_a_damaged_plan_counts_as_none_and_that_is_told(registry3: RegistryServer, crane: Crane, home: Path) -> None:
    push_builds(registry3.url)
    file = _write(home, registry3.url, gracePeriod="1h")
    assert _run(home, file, "--yes").returncode == HELD_BACK
    plan = _store(home) / "plan"
    whole = plan.read_bytes()
    plan.write_bytes(whole[:-8] + bytes(8))  # as if the last tag had been published in 1970
    done = _run(home, file, "--yes")
    assert (done.returncode, _tags(crane, registry3)) == (HELD_BACK, _ALL)
    assert "is damaged" in done.stderr


def test_a_limit_holds_whatever_yes_says_and_the_approved_hash_goes_past_it_once(
    registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    push_builds(registry3.url)
    file = _write(home, registry3.url, limits={"maxDeletions": 2})
    with terminal(home, "run", "-f", file) as shown:
        assert shown.end() == HELD_BACK
    assert "3 tags would go, more than limits.maxDeletions (2)" in shown.text
    blocked = _run(home, file, "--yes")
    plan = _hash(home, file)
    assert (blocked.returncode, _tags(crane, registry3)) == (HELD_BACK, _ALL)
    assert f"--approve {plan}" in blocked.stderr
    other = _run(home, file, "--yes", "--approve", "0" * 64)
    assert (other.returncode, _tags(crane, registry3)) == (HELD_BACK, _ALL)
    assert plan in other.stderr
    done = _run(home, file, "--approve", plan)
    assert (done.returncode, _tags(crane, registry3)) == (DONE, _KEPT)


def test_a_truncated_plan_goes_as_far_as_the_limits_allow(registry3: RegistryServer, crane: Crane, home: Path) -> None:
    push_builds(registry3.url)
    file = _write(home, registry3.url, limits={"maxDeletions": 2, "onExceeded": "Truncate"})
    with terminal(home, "run", "-f", file) as shown:
        shown.wait_for("Prune up to")
        shown.type("yes")
        assert shown.end() == HELD_BACK
    assert _tags(crane, registry3) == ["build-3", *_KEPT]


def test_yes_approves_nothing_where_the_policy_wants_an_approval(
    registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    push_builds(registry3.url)
    file = _write(home, registry3.url, approval={"required": True})
    for _ in range(2):
        done = _run(home, file, "--yes")
        assert (done.returncode, _tags(crane, registry3)) == (HELD_BACK, _ALL)
        assert "approval.required" in done.stderr
    done = _run(home, file, "--approve", _hash(home, file))
    assert (done.returncode, _tags(crane, registry3)) == (DONE, _KEPT)


@pytest.mark.parametrize(
    ("changes", "words"), [({"dryRun": True}, "dryRun: true"), ({"suspend": True}, "suspend: true")]
)
def test_a_policy_that_does_not_prune_is_not_made_to(
    registry3: RegistryServer, crane: Crane, home: Path, changes: dict[str, Any], words: str
) -> None:
    push_builds(registry3.url)
    file = _write(home, registry3.url, **changes)
    for options in (["--yes"], ["--approve", _hash(home, _write(home, registry3.url))]):
        file = _write(home, registry3.url, **changes)
        done = _run(home, file, *options)
        assert (done.returncode, _tags(crane, registry3)) == (HELD_BACK, _ALL)
        assert words in done.stderr


def test_a_setting_that_only_plans_holds_here_too(registry3: RegistryServer, crane: Crane, home: Path) -> None:
    push_builds(registry3.url)
    file = _write(home, registry3.url)
    for _ in range(2):
        done = run(home, "run", "-f", file, "--yes", REGISTRY_CLEANUP_PLAN_ONLY="true")
        assert (done.returncode, _tags(crane, registry3)) == (HELD_BACK, _ALL)
        assert "REGISTRY_CLEANUP_PLAN_ONLY" in done.stderr


def test_a_policy_that_protects_what_a_cluster_uses_needs_one(
    registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    push_builds(registry3.url)
    done = _run(home, _write(home, registry3.url, inUse={"enabled": True}), "--yes")
    assert (done.returncode, _tags(crane, registry3)) == (CLUSTER, _ALL)
    assert "no cluster" in done.stderr


# Two at once, and what changes meanwhile


def test_a_second_run_of_a_policy_says_who_has_it(proxy: FaultyRegistry, home: Path) -> None:
    file = _write(home, proxy.url)
    with _pruning(home, file, proxy) as (first, gate):
        second = _run(home, file, "--yes")
        assert second.returncode == HELD_BACK
        assert f"process {first.pid} on " in second.stderr
        other = _run(
            home, _write(home, proxy.url, "another"), "--approve", _hash(home, _write(home, proxy.url, "another"))
        )
        assert other.returncode == HELD_BACK
        assert f"a policy at {proxy.url.removeprefix('http://')} is being run already" in other.stderr
        gate.open()
        assert first.wait(_LIMIT) == DONE


def test_a_file_that_is_changed_stops_the_run_before_the_next_deletion(
    proxy: FaultyRegistry, registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    file = _write(home, proxy.url)
    with _pruning(home, file, proxy) as (first, gate):
        _write(home, proxy.url, keepTags=["build-.*"])
        gate.open()
        assert first.wait(_LIMIT) == HELD_BACK
    assert len(_tags(crane, registry3)) == 11
    assert "was changed" in (home / "stderr").read_text()
    assert (home / "stdout").read_text().count("Pruned") == 1


# Interruptions and faults


def _command(home: Path, file: Path, *options: str) -> subprocess.Popen[bytes]:
    with (home / "stdout").open("wb") as out, (home / "stderr").open("wb") as err:
        return subprocess.Popen(
            [*COMMAND, "run", "-f", str(file), *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment(home),
            start_new_session=True,
        )


class _Pruning:
    """A run whose first deletion is held up at a gate, as long as the context lasts."""

    def __init__(self, home: Path, file: Path, proxy: FaultyRegistry) -> None:
        self._home, self._file, self._proxy = home, file, proxy
        self.gate = Gate()
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> tuple[subprocess.Popen[bytes], Gate]:
        assert _run(self._home, self._file, "--yes").returncode == HELD_BACK
        self._proxy.inject(before(self.gate), method="DELETE", path=".*/manifests/build-.*", times=1)
        self._child = _command(self._home, self._file, "--yes")
        self.gate.wait()
        return self._child, self.gate

    def __exit__(self, *_: object) -> None:
        self.gate.open()
        assert self._child is not None
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()


def _pruning(home: Path, file: Path, proxy: FaultyRegistry) -> _Pruning:
    return _Pruning(home, file, proxy)


def _heard(home: Path, words: str) -> Callable[[], bool]:
    return lambda: words in (home / "stderr").read_text()


def test_where_nobody_reads_the_plan_nothing_is_pruned_and_that_is_told(
    registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    push_builds(registry3.url)
    file = _write(home, registry3.url)
    assert _run(home, file, "--yes").returncode == HELD_BACK
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as nobody:
        done = subprocess.run(
            [*COMMAND, "run", "-f", str(file), "--yes"],
            stdin=subprocess.DEVNULL,
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=environment(home),
        )
    assert (done.returncode, done.stderr) == (BROKEN_PIPE, "Nothing was pruned: nobody reads the output.\n")
    assert _tags(crane, registry3) == _ALL


@pytest.mark.parametrize("options", [[], ["-o", "json"]], ids=["table", "json"])
def test_a_reader_that_leaves_while_it_prunes_stops_nothing_and_the_end_is_told(
    proxy: FaultyRegistry, registry3: RegistryServer, crane: Crane, home: Path, options: list[str]
) -> None:
    file = _write(home, proxy.url)
    assert _run(home, file, "--yes").returncode == HELD_BACK
    gate = Gate()
    proxy.inject(before(gate), method="DELETE", path=".*/manifests/build-.*", times=1)
    with (home / "stderr").open("wb") as err:
        child = subprocess.Popen(
            [*COMMAND, "run", "-f", str(file), "--yes", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=err,
            env=environment(home),
        )
    try:
        gate.wait()
        assert child.stdout is not None
        child.stdout.close()
        gate.open()
        assert child.wait(_LIMIT) == BROKEN_PIPE
    finally:
        gate.open()
        child.kill()
        child.wait()
    assert _tags(crane, registry3) == ["build-11", "build-12"]
    assert "Done: 10 of 10 planned tags are pruned" in (home / "stderr").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_stops_it_before_the_next_deletion_and_the_next_run_goes_on(
    proxy: FaultyRegistry, registry3: RegistryServer, crane: Crane, home: Path, number: signal.Signals
) -> None:
    file = _write(home, proxy.url)
    with _pruning(home, file, proxy) as (first, gate):
        first.send_signal(number)
        wait_until(_heard(home, "what was sent to the registry is being verified"), _LIMIT, "the signal's arrival")
        gate.open()
        assert first.wait(_LIMIT) == INTERRUPTED
    assert len(_tags(crane, registry3)) == 11
    assert (home / "stdout").read_text().count("Pruned") == 1
    assert "1 of 10 planned tags are pruned" in (home / "stderr").read_text()
    assert (_run(home, file, "--yes").returncode, _tags(crane, registry3)) == (DONE, ["build-11", "build-12"])


def test_the_second_ctrl_c_only_says_more_and_the_third_ends_it_at_once(
    proxy: FaultyRegistry, registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    file = _write(home, proxy.url)
    assert _run(home, file, "--yes").returncode == HELD_BACK
    gate = Gate()
    proxy.inject(before(gate), method="DELETE", path=".*/manifests/build-.*", times=1)
    try:
        with terminal(home, "run", "-f", file, "--yes") as shown:
            gate.wait()
            # Hammering counts as one.
            shown.press_ctrl_c()
            shown.press_ctrl_c()
            shown.wait_for("Stopping (Ctrl-C)")
            wait_until(_pressed(shown.press_ctrl_c, lambda: "Still verifying" in shown.text), _LIMIT, "the second")
            assert _alive(shown.pid)
            wait_until(_pressed(shown.press_ctrl_c, lambda: not _alive(shown.pid)), _LIMIT, "the third")
            assert shown.end() == INTERRUPTED
            assert "was not verified" in shown.text
    finally:
        gate.open()
    assert _run(home, file, "--yes").returncode == DONE
    assert _tags(crane, registry3) == ["build-11", "build-12"]


def _pressed(press: Callable[[], None], condition: Callable[[], bool]) -> Callable[[], bool]:
    """Press again and again, as those who are in a hurry do, until the condition holds."""

    def tried() -> bool:
        if condition():
            return True
        press()
        return False

    return tried


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_ctrl_c_while_it_plans_ends_it_at_once(
    proxy: FaultyRegistry, registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    gate = Gate()
    proxy.inject(before(gate), path=".*/tags/list", times=1)
    try:
        with terminal(home, "run", "-f", _write(home, proxy.url), "--yes") as shown:
            gate.wait()
            shown.press_ctrl_c()
            assert shown.end() == INTERRUPTED
        assert "nothing was pruned" in shown.text
        assert shown.text.rfind("\x1b[?25h") >= shown.text.rfind("\x1b[?25l")
    finally:
        gate.open()
    assert len(_tags(crane, registry3)) == 12


def test_a_run_that_is_killed_is_ended_by_the_next(
    proxy: FaultyRegistry, registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    file = _write(home, proxy.url)
    with _pruning(home, file, proxy) as (first, gate):
        os.kill(first.pid, signal.SIGKILL)
        first.wait(_LIMIT)
        gate.open()
    assert (_run(home, file, "--yes").returncode, _tags(crane, registry3)) == (DONE, ["build-11", "build-12"])


def test_a_registry_that_stops_answering_halfway_is_told_with_what_was_done(
    proxy: FaultyRegistry, registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    file = _write(home, proxy.url)
    assert _run(home, file, "--yes").returncode == HELD_BACK
    gone = proxy.inject(
        before(lambda: proxy.inject(drops_the_connection())), method="DELETE", path=".*build-5", times=1
    )
    done = _run(home, file, "--yes")
    assert gone.hits == 1
    assert done.returncode == REGISTRY
    left = set(_tags(crane, registry3))
    told = {line.split()[1] for line in done.stdout.splitlines() if line.strip().startswith("Pruned")}
    # What is told as pruned is gone, be it none if that tag came first; of what was under way nobody says so.
    assert not told & left
    assert f"{len(told)} of 10 planned tags are pruned" in done.stderr
    proxy.heal()
    assert (_run(home, file, "--yes").returncode, _tags(crane, registry3)) == (DONE, ["build-11", "build-12"])


def test_a_registry_that_is_not_there_is_told_in_one_line(home: Path, free_url: str) -> None:
    done = _run(home, _write(home, free_url), "--yes")
    assert done.returncode == REGISTRY
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def free_url() -> str:
    from tests.support.processes import free_port

    return f"http://127.0.0.1:{free_port()}"
