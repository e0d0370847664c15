"""Policies of the tests: built, written and awaited through the API, as an administrator sees them."""

import base64
import contextlib
import gzip
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import httpx

from tests.support.controlplane import ControlPlane
from tests.support.images import Auth, push_image
from tests.support.operator import NAMESPACE, SERVICE_ACCOUNT, Operator
from tests.support.processes import Process, wait_until

GROUP = "registrycleanup.dev"
REQUEST = f"{GROUP}/run-requested-at"
APPROVE = f"{GROUP}/approve-plan"
REGISTRY = f"{GROUP}/registry"
CREDENTIALS_ROLE = "registry-cleanup-credentials"
POLICIES = f"/apis/{GROUP}/v1alpha1"
NAME = "policy"
# Long enough for a busy machine; nothing waits so long where all is well.
LIMIT = 30.0
# A secret so short would be found in any text.
_SHORTEST_SECRET = 6

Resource = dict[str, Any]

BUILDS: Mapping[str, Any] = {
    "name": "builds",
    "tags": {"include": ["build-[0-9]+"]},
    "olderThan": "30d",
    "keep": {"mostRecent": 2},
}


def policy_spec(url: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    """Return a spec that prunes old builds in `team/**`; `changes` replace whole fields, `registry` adds to it.

    What it plans may go in the next run: tests do not wait for a day.
    """
    registry = {"url": url, **({"insecure": True} if url.startswith("http:") else {}), **changes.pop("registry", {})}
    return {
        "registry": registry,
        "repositories": {"include": ["team/**"]},
        "rules": [dict(BUILDS)],
        "gracePeriod": "0s",
        **changes,
    }


def days_ago(days: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - timedelta(days=days)


def push_builds(
    url: str,
    repository: str = "team/app",
    number: int = 5,
    *,
    auth: Auth = None,
    verify: ssl.SSLContext | bool = False,
) -> list[str]:
    """Push `build-1`, the oldest, to `build-<number>`, all older than 30 days; return those that BUILDS prunes."""
    for build in range(1, number + 1):
        push_image(
            url,
            repository,
            [f"build-{build}"],
            created=days_ago(40 + number - build),
            seed=f"{repository} {build}",
            auth=auth,
            verify=verify,
        )
    return [f"build-{build}" for build in range(1, number - 1)]


def condition(policy: Resource, type_: str) -> dict[str, Any]:
    """Return a condition, empty if it is not set."""
    found = (one for one in policy.get("status", {}).get("conditions", []) if one["type"] == type_)
    return next(found, {})


def conditions(policy: Resource) -> dict[str, str]:
    """Return the status of every condition by its type."""
    return {one["type"]: one["status"] for one in policy.get("status", {}).get("conditions", [])}


def last_run(policy: Resource) -> dict[str, Any]:
    """Return `status.lastRun`, empty where there is none."""
    run: dict[str, Any] = policy.get("status", {}).get("lastRun", {})
    return run


def is_planned(policy: Resource) -> bool:
    """Tell whether the present generation has a published plan and no run is under way."""
    plan = policy.get("status", {}).get("plan", {})
    generation: int = policy["metadata"]["generation"]
    return plan.get("observedGeneration") == generation and last_run(policy).get("phase") != "Running"


def is_stalled(policy: Resource) -> bool:
    """Tell whether the present generation waits for a person."""
    stalled = condition(policy, "Stalled")
    current = stalled.get("observedGeneration") == policy["metadata"]["generation"]
    return bool(current and stalled["status"] == "True")


@dataclass
class Namespace:
    """A namespace of a test's own.

    Attributes:
        plane: Where it is.
        name: Its name.
        secrets: What must show up nowhere.
    """

    plane: ControlPlane
    name: str
    secrets: list[str] = field(default_factory=list, repr=False)

    @cached_property
    def api(self) -> httpx.Client:
        """Return a client of the API server, as the administrator."""
        return httpx.Client(
            base_url=self.plane.url,
            headers={"Authorization": f"Bearer {self.plane.admin_token}"},
            verify=ssl.create_default_context(cafile=str(self.plane.ca_file)),
            trust_env=False,
            timeout=20,
        )

    # Policies

    def apply(self, spec: Mapping[str, Any], name: str = NAME, annotations: Mapping[str, str] | None = None) -> str:
        """Create a policy and return its UID."""
        body = {
            "apiVersion": f"{GROUP}/v1alpha1",
            "kind": "RegistryCleanupPolicy",
            "metadata": {"name": name, "annotations": dict(annotations or {})},
            "spec": dict(spec),
        }
        created = _checked(self.api.post(self._policies(), json=body))
        uid: str = created["metadata"]["uid"]
        return uid

    def policy(self, name: str = NAME) -> Resource:
        return _checked(self.api.get(self._policies(name)))

    def history(self, since: Resource, name: str = NAME) -> list[Resource]:
        """Return all that became of a policy since it was as `since` has it, in order."""
        query = {
            "watch": "true",
            "timeoutSeconds": "1",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": since["metadata"]["resourceVersion"],
        }
        answer = self.api.get(self._policies(), params=query)
        return [json.loads(line)["object"] for line in answer.text.splitlines()]

    def policies(self) -> list[Resource]:
        found: list[Resource] = _checked(self.api.get(self._policies()))["items"]
        return found

    def change(self, spec: Mapping[str, Any], name: str = NAME) -> None:
        """Merge `spec` into the policy's spec."""
        self._merge(self._policies(name), {"spec": dict(spec)})

    def replace(self, policy: Resource) -> None:
        """Replace a policy by what was made of it."""
        _checked(self.api.put(self._policies(policy["metadata"]["name"]), json=policy))

    def request_run(self, value: str, name: str = NAME) -> None:
        """Set the annotation that requests a run."""
        self._merge(self._policies(name), {"metadata": {"annotations": {REQUEST: value}}})

    def approve(self, plan: str | None, name: str = NAME) -> None:
        """Set the annotation that approves a plan, by its hash, or take it away."""
        self._merge(self._policies(name), {"metadata": {"annotations": {APPROVE: plan}}})

    def write_status(self, status: Mapping[str, Any], name: str = NAME) -> None:
        """Merge into the status, as an earlier operator would have left it."""
        self._merge(f"{self._policies(name)}/status", {"status": dict(status)})

    def delete(self, name: str = NAME) -> None:
        _checked(self.api.delete(self._policies(name)))

    # Waiting

    def wait(
        self,
        condition: Callable[[Resource], bool],
        what: str,
        name: str = NAME,
        *alive: Process,
        limit: float = LIMIT,
    ) -> Resource:
        """Wait until the policy is as `condition` wants it and return it."""
        seen: Resource = {}

        def is_so() -> bool:
            nonlocal seen
            seen = self.policy(name)
            return condition(seen)

        try:
            wait_until(is_so, limit, what, *alive)
        except Exception as error:
            error.add_note(f"the policy is {json.dumps(seen.get('status'), indent=1)}")
            raise
        return seen

    def planned(self, name: str = NAME) -> Resource:
        """Wait for the plan of the present generation."""
        return self.wait(is_planned, f"the plan of {name}", name)

    def stalled(self, reason: str, name: str = NAME) -> str:
        """Wait until the policy is stalled for this reason and no run is under way; return the message."""

        def is_so(policy: Resource) -> bool:
            ended = last_run(policy).get("phase") != "Running"
            return is_stalled(policy) and ended and condition(policy, "Stalled")["reason"] == reason

        message: str = condition(self.wait(is_so, f"{name} stalled by {reason}", name), "Stalled")["message"]
        return message

    def handled(self, request: str, name: str = NAME) -> Resource:
        """Wait for the end of the run that `request` asked for."""

        def is_so(policy: Resource) -> bool:
            done = policy.get("status", {}).get("lastHandledRunRequest") == request
            return bool(done and last_run(policy)["phase"] != "Running")

        return self.wait(is_so, f"the run that {request} asked for", name)

    def run(self, request: str, name: str = NAME) -> Resource:
        """Request a run and wait for its end."""
        self.request_run(request, name)
        return self.handled(request, name)

    def phase(self, phase: str, name: str = NAME) -> Resource:
        """Wait until the last run is in this phase."""
        return self.wait(lambda policy: last_run(policy).get("phase") == phase, f"phase {phase}", name)

    def config_maps(self) -> dict[str, Resource]:
        """Return the ConfigMaps by their names, without the one that Kubernetes puts into each namespace."""
        found = _checked(self.api.get(f"/api/v1/namespaces/{self.name}/configmaps"))["items"]
        return {each["metadata"]["name"]: each for each in found if each["metadata"]["name"] != "kube-root-ca.crt"}

    def report(self, policy: Resource) -> list[Resource]:
        """Return the lines of the report that the status of a policy refers to."""
        reference = last_run(policy)["reportRef"]
        content = self.config_maps()[reference["name"]]["binaryData"][reference["key"]]
        return [json.loads(line) for line in gzip.decompress(base64.b64decode(content)).splitlines()]

    def events(self, name: str = NAME) -> list[Resource]:
        """Return the Events about a policy, in the order of their making."""
        found = _checked(self.api.get(f"/api/v1/namespaces/{self.name}/events"))["items"]
        about = [event for event in found if event["involvedObject"]["name"] == name]
        return sorted(about, key=lambda event: event["metadata"]["creationTimestamp"])

    # What policies name

    def grant_credentials(self) -> None:
        """Do what the administrator of a namespace does for policies with a login."""
        body = {
            "metadata": {"name": CREDENTIALS_ROLE},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": CREDENTIALS_ROLE,
            },
            "subjects": [{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": NAMESPACE}],
        }
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.name}/rolebindings"
        _checked(self.api.post(path, json=body))

    def create_secret(
        self,
        data: Mapping[str, str],
        *,
        name: str = "login",
        annotations: Mapping[str, str] | None = None,
        type_: str = "Opaque",
    ) -> None:
        """Create a Secret, whose values must then show up nowhere, user names apart."""
        metadata = {"name": name, "annotations": dict(annotations or {})}
        self._create("secrets", {"metadata": metadata, "type": type_, "stringData": dict(data)})
        self.forbid(*(value for key, value in data.items() if key != "username"))

    def create_basic_auth(self, host: str | None, user: str, password: str, *, name: str = "login") -> None:
        """Create a Secret of type basic-auth; `host` is what its annotation names."""
        annotations = {} if host is None else {REGISTRY: host}
        data = {"username": user, "password": password}
        self.create_secret(data, name=name, annotations=annotations, type_="kubernetes.io/basic-auth")
        self.forbid(_encoded(user, password))

    def create_docker_config(self, logins: Mapping[str, tuple[str, str]], *, name: str = "login") -> None:
        """Create a Secret as `kubectl create secret docker-registry` does."""
        auths = {host: {"auth": _encoded(user, password)} for host, (user, password) in logins.items()}
        config = json.dumps({"auths": auths})
        self.create_secret({".dockerconfigjson": config}, name=name, type_="kubernetes.io/dockerconfigjson")
        for user, password in logins.values():
            self.forbid(password, _encoded(user, password))

    def create_config_map(self, data: Mapping[str, str], *, name: str = "ca") -> None:
        self._create("configmaps", {"metadata": {"name": name}, "data": dict(data)})

    def create_service_account(self, name: str) -> None:
        self._create("serviceaccounts", {"metadata": {"name": name}})

    def forbid(self, *secrets: str) -> None:
        """Add to what must show up nowhere."""
        self.secrets.extend(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET)

    def leaks(self, operators: Sequence[Operator]) -> list[str]:
        """Return where a secret shows up: in a log, an Event or a policy."""
        texts = {f"log {one.process.log}": one.process.log.read_text(errors="replace") for one in operators}
        texts["events"] = self.api.get(f"/api/v1/namespaces/{self.name}/events").text
        found = self.api.get(self._policies())
        texts["policies"] = found.text if found.is_success else ""
        return [
            f"{secret[:4]}… in {place}" for place, text in texts.items() for secret in self.secrets if secret in text
        ]

    def _policies(self, name: str | None = None) -> str:
        path = f"{POLICIES}/namespaces/{self.name}/registrycleanuppolicies"
        return path if name is None else f"{path}/{name}"

    def _create(self, resource: str, body: Resource) -> None:
        _checked(self.api.post(f"/api/v1/namespaces/{self.name}/{resource}", json=body))

    def _merge(self, path: str, patch: Resource) -> None:
        headers = {"Content-Type": "application/merge-patch+json"}
        _checked(self.api.patch(path, content=json.dumps(patch), headers=headers))


@contextmanager
def fresh_namespace(plane: ControlPlane, name: str, operators: Sequence[Operator]) -> Iterator[Namespace]:
    """Make a namespace; in the end see that nothing secret leaked, and take its policies away."""
    namespace = Namespace(plane, name)
    _checked(namespace.api.post("/api/v1/namespaces", json={"metadata": {"name": name}}))
    try:
        yield namespace
        leaks = namespace.leaks(operators)
    finally:
        with contextlib.suppress(httpx.HTTPError):
            for policy in namespace.policies():
                # Or the operator of other tests would go on with it.
                namespace.delete(policy["metadata"]["name"])
        namespace.api.close()
    assert leaks == []


def _encoded(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _checked(answer: httpx.Response) -> Resource:
    if not answer.is_success:
        raise httpx.HTTPStatusError(answer.text, request=answer.request, response=answer)
    body: Resource = answer.json()
    return body


class Gate:
    """A hook that holds requests up: a test waits until one has come, and lets them on when it has done its part."""

    def __init__(self, longest: float = LIMIT) -> None:
        self._longest = longest
        self._reached = threading.Event()
        self._opened = threading.Event()

    def __call__(self) -> None:
        self._reached.set()
        self._opened.wait(self._longest)

    def wait(self) -> None:
        """Wait until a request stands before the gate."""
        assert self._reached.wait(LIMIT), "no request came to the gate"

    def open(self) -> None:
        """Let everything through from now on."""
        self._opened.set()
