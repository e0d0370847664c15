"""Helm, the real one: renders, checks and installs our chart as an administrator would, without any network."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.binaries import binary
from tests.support.chart import CHART
from tests.support.operator import NAMESPACE
from tests.support.processes import environment_without

RELEASE = "registry-cleanup"


class HelmError(Exception):
    """Helm failed; the message is what it said."""


@dataclass(frozen=True)
class Helm:
    """Helm with a home of its own; none of this machine's repositories, plugins or clusters are used.

    Attributes:
        folder: That home.
        kubeconfig: Of the cluster to install in; rendering needs none.
    """

    folder: Path
    kubeconfig: Path | None = None

    def run(self, *arguments: str | Path) -> str:
        """Run any command of Helm and return what it printed."""
        homes = {f"HELM_{kind}_HOME": str(self.folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        done = subprocess.run(
            [binary("helm"), *arguments],
            env=environment_without("HELM_", "KUBE", KUBECONFIG=str(self.kubeconfig or os.devnull), **homes),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise HelmError(f"helm {' '.join(map(str, arguments))}: {done.stderr}{done.stdout}")
        return done.stdout

    def render(
        self, values: dict[str, Any] | None = None, *, namespace: str = NAMESPACE, chart: Path = CHART
    ) -> list[dict[str, Any]]:
        """Return the objects that an installation with these values would create."""
        command = ("template", RELEASE, chart, "--namespace", namespace)
        rendered = self.run(*command, "--values", self.values(values))
        return [each for each in yaml.safe_load_all(rendered) if each]

    def values(self, values: dict[str, Any] | None) -> Path:
        """Write a file of values and return it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "values.yaml"
        file.write_text(yaml.safe_dump(values or {}))
        return file
