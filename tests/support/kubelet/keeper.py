"""One container of a pod: started, probed, and started again as the pod's policy says."""

import asyncio
import contextlib
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.kubelet.api import Document
from tests.support.kubelet.containers import Container, ContainerSpec, StartError
from tests.support.kubelet.environment import command_of, environment_of
from tests.support.kubelet.images import Image
from tests.support.kubelet.probes import Prober
from tests.support.kubelet.status import Record
from tests.support.kubelet.volumes import mounts_of

if TYPE_CHECKING:
    from tests.support.kubelet.pods import PodLife

_LONGEST_BACK_OFF = 300.0
# As the kubelet cuts what a container says of its end, and what is taken from its log instead.
_LONGEST_MESSAGE, _LONGEST_FROM_LOG = 4096, 2048
# The status of a container that never came to run.
_UNKNOWN = (137, "ContainerStatusUnknown", "The container could not be located when the pod was terminated")
_HOSTS = "127.0.0.1 localhost\n{address} {name}\n"


class Keeper:
    """Keeps one container running, or lets it run once.

    Attributes:
        record: What is known of it.
        container: Its process while it runs.
        out_of_memory: Whether its end is to be told as the kernel's doing.
    """

    def __init__(self, document: Document, policy: str, life: "PodLife") -> None:
        self.record = Record(document["name"], document["image"])
        self.container: Container | None = None
        self.out_of_memory = False
        self._document = document
        self._policy = policy
        self._life = life

    async def keep(self) -> None:
        """Return when it has ended for good, or the pod has."""
        while True:
            await self._once()
            code = self.record.exit_code
            again = self._policy == "Always" or (self._policy == "OnFailure" and code != 0)
            if self._life.stopping.is_set() or not again:
                break
            await self._back_off()
        if self.record.exit_code is None:
            self.record.end(*_UNKNOWN)
        self.record.final = True
        await self._life.report()

    def ask_to_end(self, number: signal.Signals) -> None:
        if self.container is not None:
            self.container.signal(number)

    def log(self, attempt: int) -> Path:
        """Return the file with the output of one of its starts, the first of which is 0."""
        return self._life.logs / f"{self.record.name}-{attempt}.log"

    async def _back_off(self) -> None:
        record = self.record
        ended = record.state
        record.last_state = ended
        # The first time it is started again at once.
        seconds = (
            min(self._life.node.back_off * 2 ** (record.restarts - 1), _LONGEST_BACK_OFF) if record.restarts else 0
        )
        if seconds:
            record.wait("CrashLoopBackOff", f"back-off {seconds:g}s restarting failed container={record.name}")
            await self._life.report()
            await self._life.pause(seconds)
        if self._life.stopping.is_set():
            record.state = ended
        else:
            record.restarts += 1

    async def _once(self) -> None:
        """Start it as soon as all that it needs is there, and wait for its end."""
        image = await self._image()
        spec = await self._life.had(partial(self._spec, image), [self.record]) if image else None
        if spec is None:
            return
        log = self.log(self.record.restarts)
        try:
            await self._life.node.faults.meet(self._life.name, self._life.stopping)
            if self._life.stopping.is_set() or self._life.sandbox is None:
                return
            self.container = await Container.start(self._life.sandbox, spec)
        except StartError as error:
            self.record.end(128, "StartError", str(error))
            await self._life.report()
            return
        if self._life.stopping.is_set():
            self.container.signal(signal.SIGTERM)
        self.record.run(f"local://{self._life.uid}/{self.record.name}/{self.record.restarts}")
        probes = self._probe(self.container)
        try:
            await self._life.report()
            code = await self.container.wait()
        finally:
            for probe in probes:
                probe.cancel()
            await asyncio.gather(*probes, return_exceptions=True)
        self.container = None
        reason = "Completed" if code == 0 else "OOMKilled" if self.out_of_memory else "Error"
        self.out_of_memory = False
        self.record.end(code, reason, await asyncio.to_thread(self._last_words, spec.root, log, code))
        await asyncio.to_thread(shutil.rmtree, spec.root, ignore_errors=True)
        await self._life.report()

    async def _image(self) -> Image | None:
        """Return what stands for its image; None where the pod has ended before there was one."""
        images, name = self._life.node.images, self.record.image
        while name not in images and not self._life.stopping.is_set():
            failed = self.record.state.get("waiting", {}).get("reason") in {"ErrImagePull", "ImagePullBackOff"}
            message = f'Back-off pulling image "{name}"' if failed else f'failed to pull "{name}": not found'
            self.record.wait("ImagePullBackOff" if failed else "ErrImagePull", message)
            await self._life.report()
            await self._life.pause(self._life.node.back_off)
        return images.get(name)

    async def _spec(self, image: Image) -> ContainerSpec:
        life, attempt = self._life, self.record.restarts
        host, port = life.node.api_address
        service = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port), "HOSTNAME": life.hostname}
        variables = await environment_of(self._document, life.pod, {**image.variables, **service}, life.node.api)
        self.record.image_id = f"{self.record.image.partition('@')[0]}@{image.digest}"
        root = life.folder / "containers" / f"{self.record.name}-{attempt}"
        await asyncio.to_thread(shutil.rmtree, root, ignore_errors=True)
        mounts = await asyncio.to_thread(image.lay_out, root)
        (root / "etc/hosts").write_text(_HOSTS.format(address=life.address, name=life.hostname))
        self._words(root).parent.mkdir(parents=True, exist_ok=True)
        self._words(root).touch()
        return ContainerSpec(
            root=root,
            mounts=[*mounts, *mounts_of(self._document, life.volumes)],
            command=command_of(self._document, image.entrypoint, image.arguments, variables),
            environment=variables,
            folder=self._document.get("workingDir") or image.work_folder,
            log=self.log(attempt),
        )

    def _words(self, root: Path) -> Path:
        """Return the file in which the container says why it ends."""
        return root / str(self._document.get("terminationMessagePath", "/dev/termination-log")).lstrip("/")

    def _last_words(self, root: Path, log: Path, code: int) -> str:
        message = ""
        with contextlib.suppress(OSError):
            message = self._words(root).read_text(errors="replace")[:_LONGEST_MESSAGE]
        from_log = self._document.get("terminationMessagePolicy") == "FallbackToLogsOnError"
        if not message and from_log and code != 0:
            return log.read_text(errors="replace")[-_LONGEST_FROM_LOG:]
        return message

    # Probes

    def _probe(self, container: Container) -> list["asyncio.Task[None]"]:
        record, document, life = self.record, self._document, self._life
        assert life.sandbox is not None
        ports = {port["name"]: port["containerPort"] for port in document.get("ports", []) if "name" in port}
        prober = Prober(container, life.sandbox, ports, self.log(record.restarts).with_suffix(".probes.log"))

        async def tell_ready(ready: bool) -> None:
            record.ready = ready
            await life.report()

        async def tell_alive(alive: bool) -> None:
            if not alive:
                container.signal(signal.SIGTERM)
                await asyncio.sleep(life.pod["spec"].get("terminationGracePeriodSeconds", 30))
                container.signal(signal.SIGKILL)

        async def started() -> None:
            record.started = True
            record.ready = "readinessProbe" not in document
            await life.report()
            followed = [("readinessProbe", tell_ready), ("livenessProbe", tell_alive)]
            await asyncio.gather(*(prober.follow(document[kind], tell) for kind, tell in followed if kind in document))

        async def tell_started(has_started: bool) -> None:
            await (started() if has_started else tell_alive(alive=False))

        if "startupProbe" in document:
            return [asyncio.create_task(prober.follow(document["startupProbe"], tell_started))]
        return [asyncio.create_task(started())]
