"""How long, and in how much memory, the operator looks at a large cluster: a real API server, filled with pods.

Run it from the repository's root: `.venv/bin/python -m benchmarks.in_use_scan [pods] [replicasets]`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import ssl
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import client, config
from typing_extensions import override

from registry_cleanup.clock import SystemClock
from registry_cleanup.domain.policy import InUseRules
from registry_cleanup.domain.run import RunOrder, Trigger
from registry_cleanup.kube.api import KubernetesAPI
from registry_cleanup.kube.in_use.workloads import Looks
from registry_cleanup.kube.raw import Kind, Page, RawAPI
from tests.support.controlplane import ControlPlane, control_plane
from tests.support.operator import NAMESPACE, SERVICE_ACCOUNT, install
from tests.support.processes import environment_without

_NAMESPACES = 50
_REVISIONS = 5  # of a workload: so many of its sets of replicas are kept
_BATCH = 50
_SENT_AT_A_TIME = 4
_FILL_LIMIT = 1200.0
_SCAN_LIMIT = 600.0
_RUNNING = {"running": {"startedAt": "2026-06-01T12:00:00Z"}}


@dataclass(frozen=True, slots=True)
class Words:
    """What differs from pod to pod: each of one length, so that an object as etcd has it can be made from another's.

    The defaults are those of the model, which occur nowhere else.
    """

    namespace: str = "team-zz"
    workload: str = "service-zzzzz"
    build: str = "build-yyyyy"
    hash: str = "xxxxxxxxxx"
    proxy: str = "1.qq.0"
    pod: str = "wwwww"
    node: str = "node-vvv"
    digests: tuple[str, ...] = ("m" * 64, "p" * 64, "i" * 64)
    container_ids: tuple[str, ...] = ("j" * 64, "k" * 64, "l" * 64)
    uid: str = ""

    @classmethod
    def of(cls, revision: int, pod: int) -> Words:
        """Return those of one pod of a revision, or of the revision's set of replicas."""
        workload, build = f"service-{revision // _REVISIONS:05}", f"build-{revision:05}"
        proxy = f"1.{revision % 20:02}.0"
        return cls(
            namespace=f"team-{revision // _REVISIONS % _NAMESPACES:02}",
            workload=workload,
            build=build,
            hash=_digest(build)[:10],
            proxy=proxy,
            pod=f"{pod:05}",
            node=f"node-{pod % 500:03}",
            digests=tuple(map(_digest, (workload + build, proxy, build + workload))),
            container_ids=tuple(_digest(f"{container} of {pod}") for container in range(3)),
            uid=str(uuid.uuid4()),
        )

    def flat(self) -> list[bytes]:
        """Return all of them, in the same order for all pods."""
        one = (self.namespace, self.workload, self.build, self.hash, self.proxy, self.pod, self.node, self.uid)
        return [word.encode() for word in (*one, *self.digests, *self.container_ids)]


MODEL = Words()
_PATH = f"registry.example.com/{MODEL.namespace}/{MODEL.workload}"
_SET = f"{MODEL.workload}-{MODEL.hash}"
# A revision has images of its own, and a sidecar that many share.
_IMAGES = {
    "main": f"{_PATH}:{MODEL.build}",
    "proxy": f"registry.example.com/platform/proxy:{MODEL.proxy}",
    "migrate": f"{_PATH}/migrations:{MODEL.build}",
}
_LABELS = {
    "app.kubernetes.io/name": MODEL.workload,
    "app.kubernetes.io/instance": MODEL.workload,
    "app.kubernetes.io/version": MODEL.build,
    "app.kubernetes.io/managed-by": "Helm",
    "helm.sh/chart": "service-3.2.1",
    "pod-template-hash": MODEL.hash,
}


def _container(name: str) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10}
    return {
        "name": name,
        "image": _IMAGES[name],
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": f"SERVICE_SETTING_{each}", "value": f"{each} of {MODEL.build}"} for each in range(20)],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "config", "mountPath": "/etc/service"}],
        **({} if name == "migrate" else {"readinessProbe": probe, "livenessProbe": probe}),
    }


_TEMPLATE: dict[str, dict[str, Any]] = {
    "metadata": {"labels": _LABELS, "annotations": {"prometheus.io/scrape": "true"}},
    "spec": {
        "containers": [_container("main"), _container("proxy")],
        "initContainers": [_container("migrate")],
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "config", "configMap": {"name": "settings"}}],
    },
}


def _pod() -> dict[str, Any]:
    return {
        "metadata": {**_TEMPLATE["metadata"], "name": f"{_SET}-{MODEL.pod}"},
        "spec": {**_TEMPLATE["spec"], "nodeName": MODEL.node},
    }


def _pod_status() -> dict[str, Any]:
    """Return what a kubelet with containerd says of the pod."""
    ids = zip(_IMAGES.items(), MODEL.digests, MODEL.container_ids, strict=True)
    main, proxy, migrate = (
        {
            "name": name,
            "image": image,
            "imageID": f"{image.rpartition(':')[0]}@sha256:{digest}",
            "containerID": f"containerd://{container_id}",
            "ready": True,
            "restartCount": 0,
            "state": _RUNNING,
        }
        for (name, image), digest, container_id in ids
    )
    types = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    moment = "2026-06-01T12:00:00Z"
    return {
        "phase": "Running",
        "conditions": [{"type": each, "status": "True", "lastTransitionTime": moment} for each in types],
        "startTime": moment,
        "initContainerStatuses": [migrate],
        "containerStatuses": [main, proxy],
    }


def _replica_set() -> dict[str, Any]:
    spec = {"replicas": 1, "selector": {"matchLabels": _LABELS}, "template": _TEMPLATE}
    return {"metadata": {"name": _SET, "labels": _LABELS}, "spec": spec}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# Filling: the API server takes one pod and one set of replicas, and etcd is given the others in the same bytes but for
# the words. The API server would need half an hour for them.


class RefusedError(Exception):
    """A server did not do what was asked."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Filler:
    """Writes copies of an object into etcd.

    Attributes:
        session: for both servers.
        plane: the control plane.
    """

    session: aiohttp.ClientSession
    plane: ControlPlane

    async def api(self, method: str, path: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the API server, as the administrator."""
        headers = {"Authorization": f"Bearer {self.plane.admin_token}"}
        return await self._ask(method, self.plane.url + path, document, headers)

    async def etcd(self, what: str, document: dict[str, Any]) -> dict[str, Any]:
        """Ask etcd."""
        return await self._ask("POST", f"{self.plane.etcd_url}/v3/kv/{what}", document, {})

    async def _ask(self, method: str, url: str, document: object, headers: dict[str, str]) -> dict[str, Any]:
        async with self.session.request(method, url, json=document, headers=headers) as answer:
            if not answer.ok:
                raise RefusedError(answer.status, f"{method} {url}: {answer.status} {(await answer.text())[:300]}")
            found: dict[str, Any] = await answer.json()
            return found

    async def multiply(self, path: str, name: str, numbers: Iterable[Words]) -> None:
        """Write copies of the object `name` of the model's namespace, which the API server lists at `path`."""
        plural = path.rpartition("/")[2]
        namespace = path.replace(f"/{plural}", f"/namespaces/{MODEL.namespace}/{plural}")
        uid = (await self.api("GET", f"{namespace}/{name}"))["metadata"]["uid"]
        key = f"/registry/{plural}/{MODEL.namespace}/{name}".encode()
        [found] = (await self.etcd("range", {"key": _base64(key)}))["kvs"]
        content, model = base64.b64decode(found["value"]), replace(MODEL, uid=uid).flat()
        pattern = re.compile(b"|".join(map(re.escape, model)))
        batches = _batches(numbers)

        def copy(original: bytes, new: dict[bytes, bytes]) -> str:
            return _base64(pattern.sub(lambda match: new[match[0]], original))

        async def work() -> None:
            for batch in batches:
                puts = []
                for words in batch:
                    new = dict(zip(model, words.flat(), strict=True))
                    puts.append({"requestPut": {"key": copy(key, new), "value": copy(content, new)}})
                await self.etcd("txn", {"success": puts})

        async with asyncio.TaskGroup() as group:
            for _ in range(_SENT_AT_A_TIME):
                group.create_task(work())

    async def wait_for(self, path: str, number: int) -> None:
        """Wait until the API server has so many objects in its cache, which lags behind etcd."""
        while True:
            found = await self.api("GET", f"{path}?limit=1")
            there = len(found["items"]) + found["metadata"].get("remainingItemCount", 0)
            if there >= number:
                break
            await asyncio.sleep(1)
        _say(f"{there} {path.rpartition('/')[2]}, one of them {len(json.dumps(found['items'][0]))} bytes long")
        version = found["metadata"]["resourceVersion"]
        while True:
            try:
                await self.api("GET", f"{path}?limit=1&resourceVersion={version}&resourceVersionMatch=NotOlderThan")
            except RefusedError as error:
                if error.status != HTTPStatus.GATEWAY_TIMEOUT:  # not yet, after some seconds
                    raise
            else:
                return


async def fill(plane: ControlPlane, pods: int, replica_sets: int) -> None:
    """Create everything."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(plane.ca_file)))
    limit = aiohttp.ClientTimeout(total=120)
    async with (
        asyncio.timeout(_FILL_LIMIT),
        aiohttp.ClientSession(connector=connector, timeout=limit) as session,
    ):
        filler = Filler(session, plane)
        for name in (MODEL.namespace, *(f"team-{number:02}" for number in range(_NAMESPACES))):
            await filler.api("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        sets, pods_path = "/apis/apps/v1/replicasets", "/api/v1/pods"
        await filler.api("POST", f"/apis/apps/v1/namespaces/{MODEL.namespace}/replicasets", _replica_set())
        await filler.multiply(sets, _SET, (Words.of(number, 0) for number in range(replica_sets - 1)))
        where, pod = f"/api/v1/namespaces/{MODEL.namespace}/pods", _pod()
        await filler.api("POST", where, pod)
        # The API server takes no status from who creates a pod.
        name = pod["metadata"]["name"]
        await filler.api("PUT", f"{where}/{name}/status", {**pod, "status": _pod_status()})
        await filler.multiply(
            pods_path, name, (Words.of(each % max(1, replica_sets), each) for each in range(pods - 1))
        )
        await filler.wait_for(sets, replica_sets)
        await filler.wait_for(pods_path, pods)


def _batches(numbers: Iterable[Words]) -> Iterator[list[Words]]:
    rest = iter(numbers)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


# Scanning, in a process of its own


class CountingAPI(RawAPI):
    """Counts what is read."""

    def __init__(self, api_client: client.ApiClient) -> None:
        super().__init__(api_client)
        self.pages_read = 0
        self._streams: list[aiohttp.StreamReader] = []

    @property
    def bytes_read(self) -> int:
        """Bytes of the answers, not compressed."""
        return sum(stream.total_bytes for stream in self._streams)

    @override
    async def pages(self, kind: Kind, selector: str | None = None) -> AsyncGenerator[Page, None]:
        async for page in super().pages(kind, selector):
            self.pages_read += 1
            yield page

    @override
    async def _open(self, path: str, query: dict[str, str], limit: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        response = await super()._open(path, query, limit)
        # The stream forgets what was read from it, the response does not.
        self._streams.append(response.content)
        return response


async def scan() -> None:
    """Look at the cluster of the kubeconfig once, and print what that took."""
    await config.load_kube_config()  # type: ignore[no-untyped-call]  # the client leaves it untyped
    async with client.ApiClient() as api_client:
        api, clock = CountingAPI(api_client), SystemClock()
        await api.kinds("v1")  # what the first connection takes is no part of the growth
        workloads = Looks(api, KubernetesAPI(api_client).config_map_data, clock).for_policy(InUseRules(), NAMESPACE)
        order = RunOrder("benchmark", Trigger.REQUEST, plan_only=True, start=clock.now())
        before, start, cpu = _memory("VmRSS"), time.perf_counter(), time.process_time()
        async with asyncio.timeout(_SCAN_LIMIT), workloads.scan(order) as found:
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            peak, after = _memory("VmHWM"), _memory("VmRSS")
            _say(
                f"{seconds:.1f} s (of which this process computed {cpu:.1f} s), {api.pages_read} pages, "
                f"{api.bytes_read / 2**20:.0f} MiB of JSON, {found.summary.references} references"
            )
            _say(
                f"{before:.0f} MiB before, {peak:.0f} MiB at most: {peak - before:.0f} MiB more; "
                f"{after:.0f} MiB with what was found"
            )


def _memory(field: str) -> float:
    """Return MiB of this process; `ru_maxrss` would begin with those of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(pods: int, replica_sets: int) -> None:
    """Fill a control plane and scan it."""
    with tempfile.TemporaryDirectory() as folder, control_plane(Path(folder)) as plane:
        install(plane)
        start = time.monotonic()
        asyncio.run(fill(plane, pods, replica_sets))
        _say(f"{pods} pods and {replica_sets} ReplicaSets were made in {time.monotonic() - start:.0f} s")
        kubeconfig = plane.kubeconfig_for_service_account(NAMESPACE, SERVICE_ACCOUNT)
        environment = environment_without("KUBE", KUBECONFIG=str(kubeconfig), NO_PROXY="127.0.0.1,localhost")
        for _ in range(2):  # the API server fills its own caches the first time
            command = [sys.executable, "-m", "benchmarks.in_use_scan", "scan"]
            subprocess.run(command, env=environment, check=True, timeout=2 * _SCAN_LIMIT)  # noqa: S603 - our own module


if __name__ == "__main__":
    if sys.argv[1:] == ["scan"]:
        asyncio.run(scan())
    else:
        main(*(int(each) for each in [*sys.argv[1:], *["50000", "10000"][len(sys.argv) - 1 :]]))
