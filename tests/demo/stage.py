"""What every scene shares: a control plane, the operator, a policy that plans and prunes, and the comparison."""

import base64
import gzip
import json
import os
import re
import shlex
import signal
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol

import yaml

from tests.demo.session import POLICY_FILE, Moment, Person, Typed, with_session
from tests.support.controlplane import ControlPlane, control_plane
from tests.support.operator import Operator, install, operator
from tests.support.processes import wait_until

_LIMIT = 60.0
POLICY = "demo"
_SHOWN = 8

# The digest of each tag of each repository.
Contents = Mapping[str, Mapping[str, str]]


class Scene(Protocol):
    """A registry with the interesting cases, and the policy for it."""

    @property
    def namespace(self) -> str:
        """The policy's namespace."""

    @property
    def session(self) -> Mapping[Moment, Sequence[Typed]]:
        """What a person types before there is a policy in the cluster, and what after it has pruned."""

    def spec(self) -> dict[str, Any]:
        """Return the policy's spec, without `dryRun`."""

    def contents(self) -> Contents:
        """Read everything with a client that is not ours."""

    def tell_login(self) -> None:
        """Show how the operator logged in, where there is something to show."""

    def compare(self, before: Contents, after: Contents) -> None:
        """Show what was there and what is."""

    def whole(self, after: Contents) -> bool:
        """Say whether all is well besides the tags."""

    def hints(self) -> Sequence[str]:
        """Return what to try while all stays up."""


OpenScene = Callable[[ControlPlane, Path], AbstractContextManager[Scene]]


def perform(scene_in: OpenScene, page: Path | None = None) -> int:
    """Perform a scene; return the exit code.

    Args:
        scene_in: opens the scene.
        page: gets the session at the command line, if all went well.
    """
    began = time.monotonic()
    with stage() as folder, ExitStack() as stack:
        step("Start etcd and kube-apiserver; install CRD, RBAC and Deployment: kubectl apply -k manifests/base")
        plane = stack.enter_context(control_plane(folder / "plane"))
        install(plane)
        scene = stack.enter_context(scene_in(plane, folder))
        step("Run the operator with the RBAC that it ships with")
        running = stack.enter_context(operator(plane, folder / "operator"))
        person = Person(folder / "person", plane.admin_kubeconfig)
        good = _Performance(scene, plane, running, person).play()
        if good and page is not None:
            page.write_text(with_session(page.read_text(), person.masked()))
        conclude(began, good=good)
        linger(plane, running, scene.namespace, scene.hints())
    return 0 if good else 1


@contextmanager
def stage() -> Iterator[Path]:
    """Give a folder for all that a demo leaves, and end as on Ctrl-C when told to terminate."""
    signal.signal(signal.SIGTERM, _interrupt)
    with tempfile.TemporaryDirectory(prefix="registry-cleanup-demo-") as name:
        yield Path(name)


def conclude(began: float, *, good: bool) -> None:
    """Say how it ended, and how long it took since `began`."""
    step(f"Done after {time.monotonic() - began:.0f} s: " + ("all as planned" if good else "NOT AS PLANNED"))


def step(text: str) -> None:
    """Say what comes next."""
    print(f"\n==> {text}", flush=True)


def say(text: str) -> None:
    """Say something of the present step."""
    print(textwrap.indent(text, "    "))


def show(plane: ControlPlane, *arguments: str) -> None:
    """Run kubectl as a person would, and show what it prints."""
    say(f"$ kubectl {shlex.join(arguments)}")
    say(plane.kubectl(*arguments).rstrip())


def listed(tags: Iterable[str]) -> str:
    """Return tags in the order of their numbers, in one paragraph."""
    ordered = sorted(tags, key=lambda tag: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", tag)])
    return textwrap.fill(", ".join(ordered), 108, subsequent_indent=" " * 12)


class _Performance:
    """A scene as it is played."""

    def __init__(self, scene: Scene, plane: ControlPlane, running: Operator, person: Person) -> None:
        self._scene = scene
        self._plane = plane
        self._running = running
        self._person = person
        self._in_namespace = () if scene.namespace == "default" else ("-n", scene.namespace)

    def play(self) -> bool:
        """Plan, then prune; say whether the registry ended as planned."""
        scene = self._scene
        before = scene.contents()
        self._at_the_command_line("Look around and write a policy, before the cluster has any", Moment.BEFORE)
        step("Apply a policy with dryRun: true; it is planned at once, and nothing is pruned")
        self._plane.kubectl("apply", "-f", "-", stdin=json.dumps(self._policy()))
        self._wait_for("the plan", lambda status: status.get("plan", {}).get("observedGeneration") == 1)
        self._show("get", "rcp")
        self._show_plan()
        scene.tell_login()
        step("What the operator's log says of each tag that would go, and why, and of what stays in each repository")
        self._show_reasons()
        unchanged = scene.contents() == before

        step("Set dryRun: false and request a run: what was published today has a day of grace, and nothing goes")
        self._change({"dryRun": False}, generation=2)
        self._request("today")
        unchanged = unchanged and scene.contents() == before

        step("Set gracePeriod: 0s, so that the demo need not last a day, and want approval: the run stops at its plan")
        self._change({"gracePeriod": "0s", "approval": {"required": True}}, generation=3)
        self._request("now")
        unchanged = unchanged and scene.contents() == before

        step("Approve that plan, and no other")
        self._show("annotate", "rcp", POLICY, f"registrycleanup.dev/approve-plan={self._status()['plan']['hash']}")
        self._wait_for("the approved run", lambda status: status["lastRun"]["trigger"] == "Resume")
        status = self._status()
        self._tell_last_run()
        self._show("get", "events", "--sort-by=.metadata.creationTimestamp")
        self._show_report(status["lastRun"]["reportRef"])
        self._at_the_command_line("Read that report from the command line", Moment.AFTER)
        after = scene.contents()
        scene.compare(before, after)
        return unchanged and self._as_planned(status, before, after) and scene.whole(after)

    def _at_the_command_line(self, what: str, moment: Moment) -> None:
        self._person.folder.joinpath(POLICY_FILE).write_text(yaml.safe_dump(self._policy(), sort_keys=False))
        for number, typed in enumerate(self._scene.session[moment]):
            if number == 0:
                step(what)
            say(self._person.types(typed))

    def _as_planned(self, status: dict[str, Any], before: Contents, after: Contents) -> bool:
        """Say whether exactly what the run planned is gone, and everything else names what it named."""
        going = {(line["repository"], line["tag"]) for line in self._planned(status)}
        expected = {
            repository: {tag: digest for tag, digest in tags.items() if (repository, tag) not in going}
            for repository, tags in before.items()
        }
        return (
            after == expected
            and len(going) == status["plan"]["deletions"] == status["lastRun"]["counts"]["tagsPruned"] > 0
            and status["lastRun"]["phase"] == "Succeeded"
        )

    def _planned(self, status: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the log's lines of what the last run planned to prune."""
        return self._running.log_lines(run=status["lastRun"]["id"], verdict="Prune")

    def _policy(self) -> dict[str, Any]:
        schedule = {"schedule": "0 3 * * *", "timeZone": "Europe/Berlin"}
        return {
            "apiVersion": "registrycleanup.dev/v1alpha1",
            "kind": "RegistryCleanupPolicy",
            "metadata": {"name": POLICY, "namespace": self._scene.namespace},
            "spec": {**self._scene.spec(), **schedule, "dryRun": True},
        }

    def _change(self, spec: dict[str, Any], generation: int) -> None:
        """Change the policy and wait for its plan: a changed policy is only planned."""
        self._show("patch", "rcp", POLICY, "--type=merge", "-p", json.dumps({"spec": spec}))
        self._wait_for("the plan", lambda status: status.get("plan", {}).get("observedGeneration") == generation)

    def _request(self, value: str) -> None:
        """Request a run and wait for its end."""
        self._show("annotate", "rcp", POLICY, "--overwrite", f"registrycleanup.dev/run-requested-at={value}")
        self._wait_for("the run", lambda status: status.get("lastHandledRunRequest") == value)
        self._tell_last_run()

    def _tell_last_run(self) -> None:
        last = self._status()["lastRun"]
        self._show("get", "rcp")
        say(f"{last['phase']}: {last['message']}")

    def _show_report(self, reference: dict[str, str]) -> None:
        """Show the first lines of the full report, and how a person reads it."""
        key = reference["key"].replace(".", r"\.")
        path = "{.binaryData." + key + "}"
        command = ["get", "configmap", reference["name"], "-o", f"jsonpath={path}"]
        say(f"$ kubectl {shlex.join(command)} | base64 -d | gunzip")
        lines = gzip.decompress(base64.b64decode(self._kubectl(*command))).decode().splitlines()
        for line in [*lines[:_SHOWN], f"and {len(lines) - _SHOWN} more"]:
            say(line)

    def _show_plan(self) -> None:
        status = self._status()
        plan, last = status["plan"], status["lastRun"]
        say(
            f"plan {plan['hash'][:12]}…: {last['message']}; kept: {_counted(last['keptByReason'])}; "
            f"next {status['nextScheduleTime']}"
        )

    def _show_reasons(self) -> None:
        status = self._status()
        lines = self._planned(status)
        for line in lines[::-1][:_SHOWN]:
            tag = f"{line['repository']}:{line['tag']}"
            say(f"{tag:<24} rule {line['rule']}: {', '.join(line['reasons'])}")
        say(f"and {len(lines) - _SHOWN} more")
        for line in self._running.log_lines(run=status["lastRun"]["id"], message="repository planned"):
            say(f"{line['repository']}: {line['planned']} would go; kept: {_counted(line['keptByReason'])}")

    def _kubectl(self, *arguments: str) -> str:
        return self._plane.kubectl(*arguments, *self._in_namespace)

    def _show(self, *arguments: str) -> None:
        show(self._plane, *arguments, *self._in_namespace)

    def _status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._kubectl("get", "rcp", POLICY, "-o", "json")).get("status", {})
        return found

    def _wait_for(self, what: str, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the policy's status, with no run under way, fulfils `condition`."""

        def fulfilled() -> bool:
            status = self._status()
            return status.get("lastRun", {}).get("phase") not in (None, "Running") and condition(status)

        wait_until(fulfilled, _LIMIT, what)


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())


def linger(plane: ControlPlane, running: Operator, namespace: str, hints: Sequence[str]) -> None:
    """Leave all up until Ctrl-C, with what to try, if KEEP wants it."""
    if not os.environ.get("KEEP"):
        return
    step("All stays up until Ctrl-C; in another terminal, for example:")
    at = f"-n {namespace} "
    for line in (
        f"export KUBECONFIG={plane.admin_kubeconfig}",
        f"kubectl {at}get rcp {POLICY} -o yaml",
        "kubectl explain rcp.spec.rules",
        f'kubectl {at}annotate rcp {POLICY} --overwrite registrycleanup.dev/run-requested-at="$(date)"',
        *hints,
        f"tail -f {running.process.log}",
    ):
        say(line)
    try:
        signal.pause()
    except KeyboardInterrupt:
        step("Stop")


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
