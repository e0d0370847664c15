"""`make demo`: a control plane, a registry, the operator, and a policy that first plans and then prunes.

Ends with 0 only if the registry holds exactly what the plan left. With KEEP=1 all stays up until Ctrl-C.
"""

import json
import os
import re
import signal
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tests.support.controlplane import ControlPlane, control_plane
from tests.support.crane import Crane
from tests.support.images import push_image, push_index
from tests.support.operator import Operator, install, operator
from tests.support.processes import wait_until
from tests.support.registries import RegistryServer, distribution

_LIMIT = 60.0
_NOW = datetime.now(UTC)
_POLICY = "demo"
_SHOWN = 8
_REPOSITORIES = ("shop/api", "shop/base", "shop/web")


def main() -> int:
    """Run the demonstration; return the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="registry-cleanup-demo-") as name, ExitStack() as stack:
        folder = Path(name)
        step("Start etcd and kube-apiserver, and Docker Distribution 2.8 with deletion enabled")
        plane = stack.enter_context(control_plane(folder / "plane"))
        registry = stack.enter_context(distribution("2", folder / "registry"))
        crane = Crane(folder / "crane")
        step(f"Push three repositories to {registry.host}")
        fill(registry)
        step("Install CRD, RBAC and Deployment: kubectl apply -k manifests/base; run the operator with that RBAC")
        install(plane)
        running = stack.enter_context(operator(plane, folder / "operator"))
        good = demonstrate(plane, registry, running, crane)
        step(f"Done after {time.monotonic() - began:.0f} s: " + ("all as planned" if good else "NOT AS PLANNED"))
        if os.environ.get("KEEP"):
            linger(plane, registry, running)
    return 0 if good else 1


def fill(registry: RegistryServer) -> None:
    """Push the interesting cases."""

    def days(age: float) -> datetime:
        return _NOW - timedelta(days=age)

    url = registry.url
    # Many tags, one a day.
    for number in range(1, 41):
        push_image(url, "shop/api", [f"build-{number}"], created=days(41 - number), seed=f"api {number}")
    push_image(url, "shop/api", ["latest"], created=days(1), seed="api 40")
    # One digest under several tags: the release that was built as build-7 is still called v1.0.
    push_image(url, "shop/web", ["build-7", "v1.0"], created=days(60), seed="web 7")
    push_image(url, "shop/web", ["build-8"], created=days(50), seed="web 8")
    push_image(url, "shop/web", ["build-9"], created=days(2), seed="web 9")
    # A reproducible build says 1970, another says nothing.
    push_image(url, "shop/web", ["build-epoch"], created="1970-01-01T00:00:00Z", seed="web epoch")
    push_image(url, "shop/web", ["build-undated"], created=None, seed="web undated")
    # Multi-platform indexes: the old one goes; the kept one keeps its children, one of which has an old tag.
    push_image(url, "shop/base", ["build-3"], created=days(20), seed="base 3")
    for number, age in ((1, 90), (2, 80)):
        children = [
            push_image(
                url,
                "shop/base",
                [f"build-{number}-{arch}"],
                created=days(age),
                platform=f"linux/{arch}",
                seed=f"{number}",
            )
            for arch in ("amd64", "arm64")
        ]
        push_index(url, "shop/base", [f"build-{number}" if number == 1 else "v2.0"], children=children)


def demonstrate(plane: ControlPlane, registry: RegistryServer, running: Operator, crane: Crane) -> bool:
    """Plan, then prune; say whether the registry ended as planned."""
    before = contents(registry, crane)
    step("Apply a policy with dryRun: true; it is planned at once, and nothing is pruned")
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(policy(registry)))
    wait_for(plane, "the plan", lambda status: status.get("plan", {}).get("observedGeneration") == 1)
    show(plane, "get", "rcp")
    show_plan(status_of(plane))
    step("What the operator's log says of each tag that would go, and why")
    lines = planned(running, status_of(plane))
    for line in lines[::-1][:_SHOWN]:
        print(f"    {line['repository']}:{line['tag']:<16} rule {line['rule']}: {', '.join(line['reasons'])}")
    print(f"    and {len(lines) - _SHOWN} more")
    unchanged = contents(registry, crane) == before

    step("Set dryRun: false; the changed policy is only planned, too")
    plane.kubectl("patch", "rcp", _POLICY, "--type=merge", "-p", '{"spec":{"dryRun":false}}')
    wait_for(plane, "the second plan", lambda status: status.get("plan", {}).get("observedGeneration") == 2)
    unchanged = unchanged and contents(registry, crane) == before

    step("Request a run: kubectl annotate rcp demo registrycleanup.dev/run-requested-at=now")
    plane.kubectl("annotate", "rcp", _POLICY, "registrycleanup.dev/run-requested-at=now")
    wait_for(plane, "the run", lambda status: status.get("lastHandledRunRequest") == "now")
    status = status_of(plane)
    show(plane, "get", "rcp")
    print(f"    {status['lastRun']['phase']}: {status['lastRun']['message']}")
    show(plane, "get", "events", "--sort-by=.metadata.creationTimestamp")

    step("Tags before and after, read with crane")
    after = contents(registry, crane)
    for repository in _REPOSITORIES:
        gone = before[repository].keys() - after[repository].keys()
        print(f"    {repository}: {len(before[repository])} tags before, {len(after[repository])} after")
        print(f"      gone: {listed(gone)}")
        print(f"      kept: {listed(after[repository])}")
    return unchanged and as_planned(running, status, before, after) and whole(registry, crane, after)


def as_planned(
    running: Operator, status: dict[str, Any], before: dict[str, dict[str, str]], after: dict[str, dict[str, str]]
) -> bool:
    """Say whether exactly what the run planned is gone, and everything else names what it named."""
    going = {(line["repository"], line["tag"]) for line in planned(running, status)}
    expected = {
        repository: {tag: digest for tag, digest in tags.items() if (repository, tag) not in going}
        for repository, tags in before.items()
    }
    return (
        after == expected
        and len(going) == status["plan"]["deletions"] == status["lastRun"]["counts"]["tagsPruned"] > 0
        and status["lastRun"]["phase"] == "Succeeded"
    )


def whole(registry: RegistryServer, crane: Crane, after: dict[str, dict[str, str]]) -> bool:
    """Say whether every kept index still has all that it lists."""
    return all(
        crane.exists(f"{registry.host}/{repository}@{child['digest']}")
        for repository, tags in after.items()
        for tag in tags
        for child in crane.manifest(f"{registry.host}/{repository}:{tag}").get("manifests", [])
    )


def policy(registry: RegistryServer) -> dict[str, Any]:
    """Return the policy of the demonstration."""
    return {
        "apiVersion": "registrycleanup.dev/v1alpha1",
        "kind": "RegistryCleanupPolicy",
        "metadata": {"name": _POLICY, "namespace": "default"},
        "spec": {
            "registry": {"url": registry.url, "insecure": True},
            "repositories": {"include": ["shop/*"]},
            "rules": [
                {"name": "builds", "tags": {"include": ["build-.*"]}, "olderThan": "14d", "keep": {"mostRecent": 1}}
            ],
            "schedule": "0 3 * * *",
            "timeZone": "Europe/Berlin",
            "dryRun": True,
        },
    }


def contents(registry: RegistryServer, crane: Crane) -> dict[str, dict[str, str]]:
    """Return the digest of each tag of each repository, read with a client that is not ours."""
    found = {}
    for repository in _REPOSITORIES:
        name = f"{registry.host}/{repository}"
        found[repository] = {tag: crane.digest(f"{name}:{tag}") for tag in crane.ls(name)}
    return found


def planned(running: Operator, status: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the log's lines of what the last run planned to prune."""
    return running.log_lines(run=status["lastRun"]["id"], verdict="Prune")


def listed(tags: Iterable[str]) -> str:
    """Return tags in the order of their numbers, in one paragraph."""
    ordered = sorted(tags, key=lambda tag: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", tag)])
    return textwrap.fill(", ".join(ordered), 108, subsequent_indent=" " * 12)


def show_plan(status: dict[str, Any]) -> None:
    plan, last = status["plan"], status["lastRun"]
    kept = ", ".join(f"{count} {reason}" for reason, count in last["keptByReason"].items())
    print(f"    plan {plan['hash'][:12]}…: {last['message']}; kept: {kept}; next {status['nextScheduleTime']}")


def show(plane: ControlPlane, *arguments: str) -> None:
    """Run kubectl as a person would, and show what it prints."""
    print(f"    $ kubectl {' '.join(arguments)}")
    for line in plane.kubectl(*arguments).splitlines():
        print(f"    {line}")


def status_of(plane: ControlPlane) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(plane.kubectl("get", "rcp", _POLICY, "-o", "json")).get("status", {})
    return found


def wait_for(plane: ControlPlane, what: str, condition: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until the policy's status, with no run under way, fulfils `condition`."""

    def fulfilled() -> bool:
        status = status_of(plane)
        return status.get("lastRun", {}).get("phase") not in (None, "Running") and condition(status)

    wait_until(fulfilled, _LIMIT, what)


def linger(plane: ControlPlane, registry: RegistryServer, running: Operator) -> None:
    """Leave all up until Ctrl-C, with what to try."""
    step("All stays up until Ctrl-C; in another terminal, for example:")
    print(f"""    export KUBECONFIG={plane.admin_kubeconfig}
    kubectl get rcp {_POLICY} -o yaml
    kubectl explain rcp.spec.rules
    kubectl annotate rcp {_POLICY} --overwrite registrycleanup.dev/run-requested-at="$(date)"
    curl {registry.url}/v2/shop/api/tags/list
    tail -f {running.process.log}""")
    try:
        signal.pause()
    except KeyboardInterrupt:
        step("Stop")


def step(text: str) -> None:
    """Say what comes next."""
    print(f"\n==> {text}", flush=True)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
