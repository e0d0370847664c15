"""Pruning with copies and undoing it, and what can be pulled before and after, read with crane."""

import json
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import override

from registry_cleanup.copying import RunCopies
from registry_cleanup.domain.copies import Wanted
from registry_cleanup.domain.deletion import ItemOutcome, Outcome
from registry_cleanup.domain.policy import Untagged
from registry_cleanup.domain.undoing import Undone
from registry_cleanup.ports import CopyStore, Registry
from registry_cleanup.undoing import UndoOrder, undo
from tests.support.binaries import binary
from tests.support.clients import asked, opened, planned, prunes
from tests.support.crane import Crane
from tests.support.images import push_image, push_index
from tests.support.policies import days_ago
from tests.support.processes import environment_without
from tests.support.registries import RegistryServer

COPIES = "undo/copies"
RUN = "20260101-030000-abcdef"


@dataclass
class MemoryCopies(CopyStore):
    """Keeps copies in memory, by run and part."""

    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)

    @override
    async def write(self, run: str, part: int, content: bytes) -> bytes:
        self.parts.setdefault(run, {})[part] = content
        return content

    @override
    async def runs(self) -> Sequence[str]:
        return sorted(self.parts)

    @override
    async def numbers(self, run: str) -> Sequence[int]:
        return sorted(self.parts.get(run, {}))

    @override
    async def read(self, run: str, part: int) -> bytes | None:
        return self.parts.get(run, {}).get(part)

    @override
    async def remove(self, run: str) -> None:
        self.parts.pop(run, None)


def store_of(registry: Registry, repository: str = COPIES) -> CopyStore:
    """Return the copies of the policy of `prunes` in a repository."""
    store = registry.copies_in(repository, "uid")
    assert store is not None
    return store


async def prune_with_copies(
    url: str,
    repository: str,
    *patterns: str,
    untagged: Untagged = Untagged.KEEP,
    run: str = RUN,
    store: CopyStore | None = None,
) -> dict[str, tuple[Outcome, str | None]]:
    """Prune the tags that `patterns` match; return outcome and code by tag or digest."""
    found: dict[str, tuple[Outcome, str | None]] = {}
    async with opened(url) as registry:
        plan, deletion = await planned(registry, repository, prunes(*patterns, untagged=untagged))
        copies = RunCopies(store or store_of(registry), "uid", run)
        async with aclosing(registry.prune(plan, deletion, asked(plan), copies.keep)) as outcomes:
            async for item in outcomes:
                found[item.tag if isinstance(item, ItemOutcome) else item.digest] = (item.outcome, item.code)
                if isinstance(item, ItemOutcome):
                    copies.note(repository, item)
        await copies.close()
    return found


async def undone(
    url: str,
    *,
    run: str | None = RUN,
    wanted: Collection[Wanted] = (),
    force: bool = False,
    dry_run: bool = False,
    store: CopyStore | None = None,
) -> Undone:
    """Undo a run."""
    async with opened(url) as registry:
        order = UndoOrder("uid", run, wanted, force, dry_run)
        return await undo(order, registry, store or store_of(registry))


def results(done: Undone) -> dict[str, str]:
    """Return what became of each thing, by tag or digest."""
    return {outcome.tag or outcome.digest: outcome.result.value for outcome in done.outcomes}


# What is there


Pulled = Mapping[str, tuple[str, str, frozenset[str]]]


def pulled(crane: Crane, host: str, repository: str, *, layers: bool = True) -> Pulled:
    """Pull every tag with a client that is not ours: its digest, its manifest as it is, and all blobs below it, whole.

    The OpenShift stand-in has no `layers`, only configs.
    """
    reference = f"{host}/{repository}"
    return {
        tag: (crane.digest(f"{reference}:{tag}"), *_pull(crane, reference, f":{tag}", layers=layers))
        for tag in crane.ls(reference)
    }


def _pull(crane: Crane, repository: str, name: str, *, layers: bool) -> tuple[str, frozenset[str]]:
    text = crane.run("manifest", f"{repository}{name}")
    manifest = json.loads(text)
    blobs: set[str] = set()
    for child in manifest.get("manifests", []):
        blobs |= _pull(crane, repository, f"@{child['digest']}", layers=layers)[1]
    named = [manifest["config"], *(manifest["layers"] if layers else [])] if "config" in manifest else []
    for blob in named:
        crane.run("blob", f"{repository}@{blob['digest']}")
        blobs.add(blob["digest"])
    return text, frozenset(blobs)


def collect_garbage(server: RegistryServer, *arguments: str) -> str:
    """Run the registry's own garbage collection on its storage, while it does not run; return what it printed."""
    done = subprocess.run(
        [
            binary("registry-2" if server.version == "2" else "registry-3"),
            "garbage-collect",
            *arguments,
            server.configuration,
        ],
        env=environment_without("REGISTRY_", "OTEL_", OTEL_TRACES_EXPORTER="none"),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def blob_file(storage: Path, digest: str) -> Path:
    """Return where a registry keeps a blob on the file system."""
    algorithm, _, value = digest.partition(":")
    return storage / "docker/registry/v2/blobs" / algorithm / value[:2] / value / "data"


@dataclass(frozen=True)
class Whole:
    """A repository with all that hangs together in one: what of it an undo has to bring back.

    Attributes:
        gone: tags that go.
        referrers: those of them that refer to others: where tags go alone, and manifests stay, these stay, too.
        unnamed: manifests that no tag names.
    """

    gone: frozenset[str]
    referrers: frozenset[str]
    unnamed: frozenset[str]


def push_whole(url: str, repository: str) -> Whole:
    """Push `old-*`, 40 days old: nested indexes with children in common, some tagged; digests with several tags; what
    refers to them, by OCI's `subject` and as cosign does; and `kept`.
    """
    old = days_ago(40)

    def push(*tags: str, platform: str = "linux/amd64", **more: Any) -> str:  # noqa: ANN401 - of push_image
        return push_image(url, repository, tags, created=old, platform=platform, seed=f"{tags}{platform}{more}", **more)

    push("kept")
    push("old-1", "old-1-again", "old-1-more")
    push("old-docker", docker=True)
    platforms = [push(platform=f"linux/{machine}") for machine in ("amd64", "arm64", "s390x")]
    tagged = push("old-platform", platform="linux/ppc64le")
    inner = push_index(url, repository, ["old-inner"], children=[*platforms[:2], tagged])
    outer = push_index(url, repository, ["old-outer", "old-outer-again"], children=[inner, platforms[1], platforms[2]])
    signed = push("old-signed")
    sbom = push("old-sbom", subject=signed, artifact_type="application/vnd.example.sbom")
    push("old-sbom-of-sbom", subject=sbom)
    push("old-attestation", subject=outer)
    for subject in (signed, outer):
        push(subject.replace(":", "-") + ".sig")
    gone = {"old-1", "old-1-again", "old-1-more", "old-docker", "old-platform", "old-inner", "old-outer"}
    referrers = {"old-sbom", "old-sbom-of-sbom", "old-attestation"}
    referrers |= {subject.replace(":", "-") + ".sig" for subject in (signed, outer)}
    return Whole(
        frozenset({*gone, "old-outer-again", "old-signed", *referrers}), frozenset(referrers), frozenset(platforms)
    )


# What prunes all of that, and nothing else.
WHOLE_RULES: Mapping[str, Any] = {
    "rules": [{"name": "old", "tags": {"include": ["old-.*"]}, "olderThan": "30d"}],
    "limits": {"maxPercentPerRepository": 100},
    "gracePeriod": "0s",
    "dryRun": False,
}
