"""What can be said of the image without building it, and the comparisons of `make image-check`."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.image import expectations
from tests.image.buildah import needs
from tests.image.machine import BuildSecrets

_ROOT = Path(__file__).parents[2]
_DOCKERFILE = (_ROOT / "Dockerfile").read_text()
_LOCK = """\
click==8.4.2 \\
    --hash=sha256:00
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:01
Typing_Extensions==4.16.0 \\
    --hash=sha256:02
"""
_LINUX = {"sys_platform": "linux"}


def _distribution(name: str, version: str, **changes: object) -> dict[str, Any]:
    return {"name": name, "version": version, "files": ["RECORD"], "wrong": [], "direct_url": None, **changes}


def _installed(*distributions: dict[str, Any]) -> list[str]:
    whole = [
        _distribution("click", "8.4.2"),
        _distribution("typing_extensions", "4.16.0"),
        _distribution("registry-cleanup-operator", "0.1.0"),
    ]
    return expectations.distributions({"markers": _LINUX, "distributions": [*whole, *distributions]}, _LOCK, "0.1.0")


# The Dockerfile


def test_the_context_holds_what_the_build_copies_and_nothing_else() -> None:
    copied = expectations.copied(_DOCKERFILE)
    assert {"operator", "crds", "requirements.lock"} < copied
    assert expectations.let_in((_ROOT / ".dockerignore").read_text()) == copied


def test_the_base_is_a_public_image_pinned_by_its_full_version() -> None:
    base = expectations.default_python(_DOCKERFILE)
    assert re.fullmatch(r"docker\.io/library/python:\d+\.\d+\.\d+-slim-[a-z]+", base)
    assert re.fullmatch(r"\d\.\d+", expectations.python_version(base))


def test_the_image_bears_the_version_of_the_program() -> None:
    version = expectations.project((_ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert expectations.argument(_DOCKERFILE, "VERSION") == version


def test_secrets_reach_only_the_steps_that_ask_the_package_index() -> None:
    build, final = _DOCKERFILE.split("\nFROM ${PYTHON}\n")
    assert "/run/secrets" not in final
    assert "type=secret" not in final
    assert build.count("--mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt") == 2
    for step in build.split("\nRUN ")[1:]:
        asks = " install" in step and "--no-index" not in step
        assert asks == step.startswith("--mount=type=secret")


def test_who_is_not_root_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "sudo make image-check" in str(needs())


# The comparisons


def test_what_is_installed_is_what_the_lock_file_wants_on_this_platform() -> None:
    assert expectations.locked(_LOCK, _LINUX) == {"click": "8.4.2", "typing-extensions": "4.16.0"}
    assert "colorama" in expectations.locked(_LOCK, {"sys_platform": "win32"})
    assert _installed() == []


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        (_distribution("pip", "26.0"), "pip 26.0 is not in requirements.lock"),
        (_distribution("click", "8.4.2"), "click 8.4.2 is installed twice"),
        (_distribution("click", "8.4.1"), "click is 8.4.1, not 8.4.2"),
        (_distribution("click", "8.4.2", files=[]), "click has no RECORD"),
        (_distribution("click", "8.4.2", wrong=["core.py has another hash"]), "click: core.py has another hash"),
        (_distribution("click", "8.4.2", direct_url="{}"), "click says that it comes from {}"),
    ],
)
def test_a_distribution_that_an_sbom_would_tell_wrongly_is_found(more: dict[str, Any], wrong: str) -> None:
    assert wrong in _installed(more)


def test_a_missing_distribution_is_found() -> None:
    found = expectations.distributions({"markers": _LINUX, "distributions": []}, _LOCK, "0.1.0")
    assert "registry-cleanup-operator 0.1.0 is missing" in found


def test_nothing_but_the_program_may_come_and_nothing_but_pip_may_go() -> None:
    base = {"usr/lib/python3/ensurepip/x.py", "usr/local/bin", "usr/local/bin/pip3", "etc/passwd", "opt"}
    program = {"opt/registry-cleanup", "opt/registry-cleanup/bin/kopf"}
    assert expectations.files(base, {"etc/passwd", "opt", *program}) == []
    more = {"run/secrets/pip.conf", "opt/registry-cleanup/x.whl", "opt/registry-cleanup/x/_vendor"}
    assert expectations.files(base, {"opt", *more, *program}) == [
        "/run/secrets/pip.conf was added",
        "/etc/passwd is gone",
        "/opt/registry-cleanup/x.whl is a wheel",
        "/opt/registry-cleanup/x/_vendor holds vendored copies",
    ]


def test_another_user_a_writable_folder_and_tools_are_found() -> None:
    fine = {"user": 7, "group": 0, "groups": [], "safe_path": True, "modules": [], "programs": [], "writable": []}
    assert expectations.process(fine, "7:0") == []
    bad = {**fine, "user": 0, "safe_path": False, "modules": ["pip"], "programs": ["gcc"], "writable": ["/opt"]}
    assert len(expectations.process(bad, "7:0")) == 5


def test_a_file_of_the_program_that_its_tree_lacks_is_found_unless_it_is_put_there() -> None:
    own = _distribution(
        "registry-cleanup-operator",
        "0.1.0",
        licensed="Apache-2.0",
        files=["registry_cleanup/a.py", "registry_cleanup/crd.yaml", "x.dist-info/licenses/LICENSE"],
    )
    facts = {"distributions": [own], "uncompiled": []}
    assert expectations.program(facts, ["registry_cleanup/a.py"], ["registry_cleanup/crd.yaml"]) == []
    assert expectations.program(facts, ["registry_cleanup/b.py"], []) == [
        "registry_cleanup/b.py is not in the image",
        "registry_cleanup/a.py is in the image only",
        "registry_cleanup/crd.yaml is in the image only",
    ]


def test_a_file_that_others_may_write_is_found(tmp_path: Path) -> None:
    program = tmp_path / expectations.HOME
    program.mkdir(parents=True)
    (program / "open").touch()
    (program / "open").chmod(0o666)
    (program / "closed").touch()
    (program / "closed").chmod(0o600)
    found = [each for each in expectations.owned(tmp_path) if "belongs to" not in each]
    assert sorted(found) == [
        "/opt/registry-cleanup/closed may not be read by everybody",
        "/opt/registry-cleanup/open may be written to by others than root: 666",
    ]


def test_a_package_that_went_must_not_be_listed(tmp_path: Path) -> None:
    status = tmp_path / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    status.write_text(
        "Package: tar\nStatus: install ok installed\n\nPackage: python3-venv\nStatus: install ok installed\n"
    )
    assert expectations.debian(tmp_path) == ["python3-venv is still listed"]
    status.write_text("Package: tar\nStatus: install ok installed\n\nPackage: python3-venv\nStatus: deinstall ok x\n")
    assert expectations.debian(tmp_path) == []
    status.write_text("")
    assert expectations.debian(tmp_path) == ["the image does not list its Debian packages"]


def test_a_secret_of_the_build_is_found_wherever_it_stands(tmp_path: Path) -> None:
    secrets = BuildSecrets(tmp_path, None, {"the mark": "abc"})
    assert secrets.seen_in(b"xabcx") == ["the mark"]
    assert secrets.seen_in(b"x") == []
