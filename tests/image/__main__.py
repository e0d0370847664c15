"""`make image-check`: builds the image as the Dockerfile says, looks into it, and runs it, with no Docker daemon."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tests.image import expectations
from tests.image.buildah import Buildah, BuildahError, needs, parts
from tests.image.container import Container
from tests.image.machine import BuildSecrets, build_secrets
from tests.image.operate import operate
from tests.support.processes import ProcessDiedError, WaitTimeoutError
from tests.support.workshop import UnavailableError, cache, only_one, remove, say

_ROOT = Path(__file__).parent.parent.parent
_BASE = "localhost/debian-python:image-check"
_IMAGE = "localhost/registry-cleanup-operator:image-check"
_CONTEXT = "localhost/context:image-check"
_REVISION = "image-check"
_BUILD_LIMIT = 900.0
_RUN_LIMIT = 60.0
# As OpenShift's restricted-v2 runs it: a number of its own, in group 0.
_OPENSHIFT = "1000680000:0"
_ARCHITECTURES = ("x86_64", "aarch64")


class _Check:
    """One check after the other, over one image."""

    def __init__(self, folder: Path) -> None:
        found = parts()
        self.folder = folder
        self.buildah = Buildah(found.tools, folder / "buildah")
        self.base_archive = found.base
        self.dockerfile = (_ROOT / "Dockerfile").read_text()
        self.lock = (_ROOT / "requirements.lock").read_text()
        self.pyproject = expectations.project((_ROOT / "pyproject.toml").read_text())
        self.version: str = self.pyproject["project"]["version"]
        self.good = True

    def all(self) -> bool:
        self.step("Build the context alone: what .dockerignore lets in", self.context)
        self.step(
            f"Look for wheels for {expectations.default_python(self.dockerfile)}, the base by default", self.wheels
        )
        self.step("Build the image over a base of Debian packages", self.build)
        self.step("Look at its configuration, and for what only the build should have seen", self.configuration)
        self.step("Look at its files", self.files)
        for user in (expectations.USER, _OPENSHIFT):
            self.step(f"Run it as {user}, read-only but for /tmp, without capabilities", partial(self.run_as, user))
        self.step(f"Run the operator as {_OPENSHIFT} against a control plane and a registry", self.operate)
        return self.good

    def step(self, what: str, check: Callable[[], Sequence[str]]) -> None:
        """Do one step, and say what is wrong."""
        began = time.monotonic()
        say(f"\n==> {what}")
        wrong = check()
        for each in wrong[:20]:
            say(f"    WRONG: {each}")
        if len(wrong) > 20:
            say(f"    and {len(wrong) - 20} more")
        self.good = self.good and not wrong
        say(f"    {'not as it should be' if wrong else 'as it should be'} ({time.monotonic() - began:.0f} s)")

    # The steps: each says what it saw and returns what is wrong

    def context(self) -> Sequence[str]:
        recipe = self.folder / "Context"
        recipe.write_text("FROM scratch\nCOPY . /\n")
        self.buildah.build(_ROOT, _CONTEXT, "--file", recipe, limit=120)
        root = self.buildah.root(_CONTEXT)
        found = {path.name for path in root.iterdir()}
        inside = [path for path in root.rglob("*") if path.is_file()]
        say(f"    {len(inside)} files, {sum(path.stat().st_size for path in inside) // 1024} KiB: {_listed(found)}")
        expected = expectations.copied(self.dockerfile)
        wrong = [f"{name} is let in, and nothing copies it" for name in sorted(found - expected)]
        wrong += [f"{name} is copied, and not let in" for name in sorted(expected - found)]
        wrong += [f"{path.relative_to(root)} is compiled code" for path in inside if path.suffix == ".pyc"]
        return wrong

    def wheels(self) -> Sequence[str]:
        version = expectations.python_version(expectations.default_python(self.dockerfile))
        wrong = []
        for machine in _ARCHITECTURES:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--require-hashes"]
            command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
            for platform in ("manylinux_2_28", "manylinux_2_17", "manylinux2014"):
                command += ["--platform", f"{platform}_{machine}"]
            command += ["--target", str(self.folder / "wheels"), "--requirement", str(_ROOT / "requirements.lock")]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_BUILD_LIMIT)
            if done.returncode != 0:
                wrong.append(f"Python {version} on {machine}: {done.stderr.strip()}")
            else:
                say(f"    all of requirements.lock for Python {version} on {machine}")
        return wrong

    def build(self) -> Sequence[str]:
        self.buildah.import_base(self.base_archive, _BASE)
        self.secrets: BuildSecrets = build_secrets(self.folder)
        arguments = {"PYTHON": _BASE, "REVISION": _REVISION}
        options = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        told = self.buildah.build(_ROOT, _IMAGE, *options, *self.secrets.options(), limit=_BUILD_LIMIT)
        self.image = self.buildah.inspect(_IMAGE)
        self.container = Container(self.buildah.root(_IMAGE), self.image["OCIv1"]["config"])
        layers = self.buildah.pushed(_IMAGE)["layers"]
        sizes = ", ".join(f"{layer['size'] / 2**20:.0f} MiB" for layer in layers)
        say(f"    {len(layers)} layers, compressed {sizes}; the first is the base")
        return [f"the build printed the secret {name}" for name in self.secrets.seen_in(told.encode())]

    def configuration(self) -> Sequence[str]:
        wrong = expectations.configuration(self.image, _BASE, self.version, _REVISION)
        config = self.image["OCIv1"]["config"]
        say(f"    user {config['User']}, {_listed(config['Env'])}")
        seen = self.secrets.seen_in(json.dumps(self.image).encode())
        return [*wrong, *(f"configuration or history hold {name}" for name in seen)]

    def files(self) -> Sequence[str]:
        root = self.container.root
        base, final = _paths(self.buildah.root(_BASE)), _paths(root)
        home = root / expectations.HOME
        own = [path for path in home.rglob("*") if path.is_file() and not path.is_symlink()]
        size = sum(path.stat().st_size for path in own) / 2**20
        say(
            f"    {len(own)} files below /{expectations.HOME}, {size:.0f} MiB; {len(base - final)} of the base are gone"
        )
        wrong = [*expectations.files(base, final), *expectations.owned(root), *expectations.debian(root)]
        for path in own:
            wrong += [f"{path.relative_to(root)} holds {name}" for name in self.secrets.seen_in(path.read_bytes())]
        return wrong

    def run_as(self, user: str) -> Sequence[str]:
        script = (Path(__file__).parent / "inside.py").read_text()
        facts: dict[str, Any] = json.loads(self._run(["-"], user, ["python"], script))
        markers = facts["markers"]
        say(f"    Python {markers['python_full_version']}; {len(facts['distributions'])} distributions")
        package = _ROOT / "operator"
        sources = [
            str(path.relative_to(package))
            for path in (package / "registry_cleanup").rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        ]
        wheel = self.pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]
        wrong = expectations.process(facts, user)
        wrong += expectations.distributions(facts, self.lock, self.version)
        wrong += expectations.program(facts, sources, wheel.get("force-include", {}).values())
        version = self._run(["--version"], user).strip()
        say(f"    $ registry-cleanup --version: {version}")
        if not version.endswith(f"version {self.version}"):
            wrong.append(f"it calls itself {version}")
        for command, words in (("operator", "Run the operator"), ("plan", "Show what a policy would prune")):
            if words not in self._run([command, "--help"], user):
                wrong.append(f"registry-cleanup {command} --help does not help")
        return wrong

    def operate(self) -> Sequence[str]:
        seen = operate(self.container, _OPENSHIFT, self.folder / "operate")
        say(f"    healthy after {seen.start_seconds:.1f} s; planned {seen.planned} tags; {seen.memory} MiB resident")
        return [] if seen.exit_code == 0 else [f"it ended with code {seen.exit_code} when told to stop"]

    def _run(
        self, arguments: Sequence[str], user: str, entrypoint: Sequence[str] | None = None, stdin: str = ""
    ) -> str:
        command = self.container.command(arguments, user, entrypoint=entrypoint)
        environment = self.container.environment()
        done = subprocess.run(
            command, input=stdin, env=environment, capture_output=True, text=True, check=False, timeout=_RUN_LIMIT
        )
        if done.returncode != 0:
            raise BuildahError(f"{arguments} as {user} ended with code {done.returncode}:\n{done.stderr}")
        return done.stdout


def _paths(root: Path) -> set[str]:
    found: set[str] = set()
    for folder, folders, files in os.walk(root):
        relative = Path(folder).relative_to(root)
        found.update(str(relative / name) for name in [*folders, *files])
    return found


def _listed(names: Sequence[str] | set[str]) -> str:
    return ", ".join(sorted(names))


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """End as on Ctrl-C, or what was started would outlive the check."""
    raise KeyboardInterrupt


def main() -> int:
    """Check; return the exit code."""
    if (reason := needs()) is not None:
        say(reason)
        return 1
    signal.signal(signal.SIGTERM, _interrupt)
    began = time.monotonic()
    cache().mkdir(parents=True, exist_ok=True)
    folder = cache() / "image-check"
    # One at a time: so each can take away what an interrupted one left.
    with only_one(cache() / "image-check.lock"):
        remove(folder)
        folder.mkdir()
        try:
            good = _Check(folder).all()
        except (UnavailableError, BuildahError, ProcessDiedError, WaitTimeoutError) as error:
            say("\n".join([str(error), *getattr(error, "__notes__", [])]))
            good = False
        finally:
            shutil.rmtree(folder)
    say(f"\n==> {'The image is as it should be' if good else 'NOT AS IT SHOULD BE'} ({time.monotonic() - began:.0f} s)")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
