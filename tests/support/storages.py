"""A registry whose deletion is switched off, with its storage, what is pruned there, and what can be pulled from it."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.command import run
from tests.support.crane import Crane
from tests.support.images import push_image, push_index
from tests.support.policies import GROUP, days_ago, policy_spec
from tests.support.registries import RegistryServer, Version, distribution
from tests.support.undo import Pulled, pulled

APP, WEB = "team/app", "team/web"
RULES: list[dict[str, Any]] = [{"name": "old", "tags": {"include": ["old-.*"]}, "olderThan": "30d"}]
_SPEC: Mapping[str, Any] = {
    "rules": RULES,
    "dryRun": False,
    "inUse": {"enabled": False},
    "minTagsPerRepository": 0,
}


@dataclass(frozen=True)
class Site:
    """A registry that comes and goes, and a person's home.

    Attributes:
        version: of the registry.
        folder: of this test.
        host: where the registry is, whenever it is there.
    """

    version: Version
    folder: Path
    host: str

    @property
    def root(self) -> Path:
        return self.folder / "storage"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def crane(self) -> Crane:
        return Crane(self.folder / "crane")

    @contextmanager
    def serving(self, *, readonly: bool = False, delete: bool = False) -> Iterator[RegistryServer]:
        """Run the registry, as a rule with deletion switched off."""
        with distribution(
            self.version,
            self.folder / "registry",
            storage=self.root,
            delete=delete,
            readonly=readonly,
            host=self.host,
        ) as server:
            yield server

    def plan(self, **changes: Any) -> Path:  # noqa: ANN401 - values of any field
        """Return a file with the plan of now; the registry has to be there."""
        spec = policy_spec(
            self.url,
            **{"rules": RULES, "dryRun": False, "inUse": {"enabled": False}, "minTagsPerRepository": 0, **changes},
        )
        body = {
            "apiVersion": f"{GROUP}/v1alpha1",
            "kind": "RegistryCleanupPolicy",
            "metadata": {"name": "policy"},
            "spec": spec,
        }
        policy, file = self.folder / "policy.yaml", self.folder / "plan.json"
        policy.write_text(yaml.safe_dump(body))
        done = run(self.folder / "home", "plan", "-f", policy, "-o", "json", "--output-file", file)
        assert done.returncode == 0, done.stderr
        return file

    def storage(self, command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command for the storage."""
        return run(self.folder / "home", "storage", command, "--root", self.root, *arguments)

    def pulled(self) -> dict[str, Pulled]:
        """Pull all there is, by repository."""
        return {name: pulled(self.crane, self.host, name) for name in self.crane.catalog(self.host)}

    def files(self) -> dict[str, bytes]:
        """Return every file of the storage itself."""
        return files_below(self.root / "docker")


def files_below(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content, by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(file: Path) -> dict[str, Any]:
    """Return a plan as it is written."""
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@dataclass(frozen=True)
class Scene:
    """What `push_scene` left.

    Attributes:
        kept: tags that no rule owns, by repository.
        digests: by word.
    """

    kept: Mapping[str, frozenset[str]]
    digests: Mapping[str, str]


def push_scene(url: str, *, plain: bool = False) -> Scene:
    """Push images, indexes, shared digests and referrers, of which some go: what a registry has, in small.

    Unless it is `plain`, two images are signed, and one that goes is in another repository too, where it stays.
    """
    old, new = days_ago(90), days_ago(1)
    found = {
        "single": push_image(url, APP, ["old-single"], created=old, seed="single"),
        "twice": push_image(url, APP, ["old-twice-1", "old-twice-2"], created=old, seed="twice"),
        "held": push_image(url, APP, ["old-held", "kept-held"], created=old, seed="held"),
        "kept": push_image(url, APP, ["latest"], created=new, seed="kept"),
    }
    for word in ("arm", "amd", "both"):
        found[word] = push_image(url, APP, created=old, platform=f"linux/{word}", seed=word)
    found["index"] = push_index(url, APP, ["old-index"], children=[found["arm"], found["amd"], found["both"]])
    found["kept-index"] = push_index(url, APP, ["kept-index"], children=[found["both"]], annotations={"is": "kept"})
    for word in () if plain else ("single", "kept"):
        tag = found[word].replace(":", "-") + ".sig"
        found[f"{word}.sig"] = push_image(url, APP, [tag], created=old, subject=found[word], seed=f"{word}.sig")
    # The same layer and config in another repository, where it stays.
    push_image(url, WEB, ["kept"], created=old, seed="web kept" if plain else "single")
    found["web"] = push_image(url, WEB, ["old-web"], created=old, seed="web")
    signatures = [found["kept"].replace(":", "-") + ".sig"] if not plain else []
    kept = frozenset({"old-held", "kept-held", "latest", "kept-index", *signatures})
    return Scene({APP: kept, WEB: frozenset({"kept"})}, found)
