"""A storage laid out by hand, as Distribution lays it out, and plans for it: for what no registry would do to it."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.reference import Digest, parse_digest
from registry_cleanup.domain.written_plan import PlannedRepository, PlannedTag, WrittenPlan

NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
APP = "team/app"
RUN = "20260615-100000-abcdef"
_V2 = Path("docker/registry/v2")


@dataclass(frozen=True)
class HandStorage:
    """A storage.

    Attributes:
        root: its root directory.
    """

    root: Path

    def image(self, repository: str, word: str, *tags: str, subject: str | None = None) -> Digest:
        """Lay down an image that is told from others by `word`; return its digest."""
        config = self.layer(repository, f'{{"config": "{word}"}}'.encode())
        layer = self.layer(repository, f"layer of {word}".encode())
        more = {} if subject is None else {"subject": {"digest": subject}}
        return self.manifest(repository, {"config": {"digest": config}, "layers": [{"digest": layer}], **more}, *tags)

    def index(self, repository: str, children: Iterable[Digest], *tags: str, word: str = "") -> Digest:
        """Lay down an index; return its digest."""
        listed = [{"digest": child} for child in children]
        return self.manifest(repository, {"manifests": listed, "annotations": {"word": word}}, *tags)

    def manifest(self, repository: str, body: Mapping[str, Any], *tags: str) -> Digest:
        """Lay down a manifest with its tags."""
        digest = self.blob(json.dumps({"schemaVersion": 2, **body}).encode())
        self.link(self.revision(repository, digest), digest)
        for tag in tags:
            self.tag(repository, tag, digest)
        return digest

    def tag(self, repository: str, tag: str, digest: Digest) -> None:
        """Let a tag name a digest, as a push does."""
        self.link(self.tag_folder(repository, tag) / "current", digest)
        self.link(self.tag_folder(repository, tag) / "index" / digest.replace(":", "/"), digest)

    def layer(self, repository: str, content: bytes) -> Digest:
        """Lay down a blob with the repository's link to it."""
        digest = self.blob(content)
        self.link(self.repository(repository) / "_layers" / digest.replace(":", "/"), digest)
        return digest

    def blob(self, content: bytes) -> Digest:
        digest = parse_digest("sha256:" + hashlib.sha256(content).hexdigest())
        self.blob_file(digest).parent.mkdir(parents=True, exist_ok=True)
        self.blob_file(digest).write_bytes(content)
        return digest

    @staticmethod
    def link(folder: Path, digest: Digest) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "link").write_text(digest)

    # Where things are

    def repository(self, name: str) -> Path:
        return self.root / _V2 / "repositories" / name

    def tag_folder(self, repository: str, tag: str) -> Path:
        return self.repository(repository) / "_manifests" / "tags" / tag

    def revision(self, repository: str, digest: Digest) -> Path:
        return self.repository(repository) / "_manifests" / "revisions" / digest.replace(":", "/")

    def blob_file(self, digest: Digest) -> Path:
        algorithm, _, value = digest.partition(":")
        return self.root / _V2 / "blobs" / algorithm / value[:2] / value / "data"

    def tags(self, repository: str = APP) -> set[str]:
        folder = self.repository(repository) / "_manifests" / "tags"
        return {each.name for each in folder.iterdir()} if folder.exists() else set()

    def has(self, digest: Digest, repository: str = APP) -> bool:
        return (self.revision(repository, digest) / "link").exists()


def written(
    tags: Mapping[str, Digest | PlannedTag],
    *,
    untagged: Collection[Digest] = (),
    repository: str = APP,
    unit: DeletionUnit | None = DeletionUnit.DIGEST,
    deletes_untagged: bool = False,
    hash_: str = "a" * 64,
) -> WrittenPlan:
    """Return a plan for one repository."""
    planned = {tag: what if isinstance(what, PlannedTag) else PlannedTag(what) for tag, what in tags.items()}
    return WrittenPlan(
        "uid",
        "registry.example.com:443",
        RUN,
        hash_,
        NOW,
        (PlannedRepository(repository, planned, frozenset(untagged)),),
        unit,
        deletes_untagged,
        0,
    )


def fill(storage: HandStorage) -> WrittenPlan:
    """Lay down what a repository has of each kind, and return a plan by which most of it goes."""
    arm, amd = storage.image(APP, "arm"), storage.image(APP, "amd")
    index = storage.index(APP, [arm, amd], "old-index")
    single = storage.image(APP, "single", "old-single")
    twice = storage.image(APP, "twice", "old-1", "old-2")
    signature = f"{single.replace(':', '-')}.sig"
    signed = storage.image(APP, "signature", signature, subject=single)
    storage.image(APP, "kept", "kept")
    going = {"old-index": index, "old-single": single, "old-1": twice, "old-2": twice, signature: signed}
    return written(going, untagged=[arm, amd], deletes_untagged=True)


def report_of(plan: WrittenPlan, head: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the lines of the report in which `plan` would be written; the first one has the fields of `head`."""
    lines: list[dict[str, Any]] = []
    named = hashlib.sha256(f"{plan.policy}\n{plan.registry}\n".encode())
    for repository in plan.repositories:
        for tag, planned in sorted(repository.tags.items()):
            named.update(f"{repository.name}\t{tag}\t{planned.digest}\n".encode())
            what = {"tag": tag, "digest": planned.digest, "verdict": "Prune", "reasons": ["OlderThan"], "rule": "old"}
            lines.append({"type": "tag", "repository": repository.name, **what})
        lines += [{"type": "untagged", "repository": repository.name, "digest": each} for each in repository.untagged]
    first = {
        "type": "run",
        "policy": plan.policy,
        "registry": plan.registry,
        "run": plan.run,
        "planOnly": False,
        "plan": named.hexdigest(),
        "generatedAt": plan.generated_at.isoformat(),
        "untaggedManifestsLeft": 0 if plan.deletes_untagged else 1,
        "repositoriesCut": 0,
        "deletionUnit": plan.unit,
        "unapproved": plan.unapproved,
        "spared": 0,
    }
    return [{**first, **head}, *lines]
