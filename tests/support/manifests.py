"""What `kubectl apply -k` would apply."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support.operator import REPOSITORY_ROOT

MANIFESTS = REPOSITORY_ROOT / "manifests"


def rendered(folder: str | Path) -> list[dict[str, Any]]:
    """Return the objects of a kustomization; a relative folder is one of `manifests/`."""
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run([kubectl, "kustomize", MANIFESTS / folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def overlay(folder: Path, base: str, **more: Any) -> Path:  # noqa: ANN401 - whatever a kustomization may hold
    """Write a kustomization over one of `manifests/` and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    # kustomize wants relative paths, also to what lies elsewhere.
    resources = [os.path.relpath(MANIFESTS / base, folder.resolve())]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": resources, **more}))
    return folder


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the objects of one kind."""
    return [each for each in objects if each["kind"] == kind]
