"""What an image has to be: pure comparisons, each of which returns what is wrong, one sentence each."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

USER = "65532:65532"
HOME = "opt/registry-cleanup"
OWN = "registry-cleanup-operator"
# What the final stage takes out of its base.
_TAKEN = re.compile(
    r"(^|/)(pip|ensurepip|python-wheels|python3[.\d]*-(venv|pip|setuptools)|setuptools)|^var/(lib|log)/dpkg"
)
_EMPTIED = {"usr/local/bin"}


# The Dockerfile


def copied(dockerfile: str) -> set[str]:
    """Return what the Dockerfile copies from its context."""
    found: set[str] = set()
    for line in dockerfile.splitlines():
        words = line.split()
        if words and words[0] == "COPY" and not any(word.startswith("--from=") for word in words):
            found.update(word for word in words[1:-1] if not word.startswith("--"))
    return found


def let_in(dockerignore: str) -> set[str]:
    """Return what the `.dockerignore`, which refuses all else, lets into the context."""
    return {line[1:] for line in dockerignore.splitlines() if line.startswith("!")}


def default_python(dockerfile: str) -> str:
    """Return the base that the Dockerfile names."""
    found = re.search(r"^ARG PYTHON=(\S+)$", dockerfile, re.MULTILINE)
    return found[1] if found else ""


def python_version(base: str) -> str:
    """Return the Python of a public image's name, as `3.13`."""
    found = re.search(r"python:(\d+\.\d+)", base)
    return found[1] if found else ""


def argument(dockerfile: str, name: str) -> str:
    """Return the default of a build argument, empty where it has none."""
    found = re.findall(rf"^ARG {name}=(\S+)$", dockerfile, re.MULTILINE)
    return str(found[-1]) if found else ""


def project(pyproject: str) -> Mapping[str, Any]:
    """Return pyproject.toml, read."""
    return tomllib.loads(pyproject)


# What is installed


def locked(lock: str, markers: Mapping[str, str]) -> dict[str, str]:
    """Return the version of each distribution that a lock file wants under these markers, by canonical name."""
    found: dict[str, str] = {}
    for line in lock.splitlines():
        if line[:1].isalnum():
            requirement = Requirement(line.rstrip(" \\"))
            if requirement.marker is None or requirement.marker.evaluate(dict(markers)):
                found[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return found


def distributions(facts: Mapping[str, Any], lock: str, version: str) -> list[str]:
    """Compare what is installed with the lock file and the program, and each file with its RECORD."""
    expected = {**locked(lock, facts["markers"]), OWN: version}
    found = [(canonicalize_name(each["name"]), each["version"]) for each in facts["distributions"]]
    wrong = [f"{name} {found_version} is installed twice" for name, found_version in found if _count(found, name) > 1]
    installed = dict(found)
    wrong += [f"{name} {expected[name]} is missing" for name in sorted(expected.keys() - installed.keys())]
    wrong += [f"{name} {installed[name]} is not in requirements.lock" for name in sorted(installed.keys() - expected)]
    wrong += [
        f"{name} is {installed[name]}, not {expected[name]}"
        for name in sorted(expected.keys() & installed.keys())
        if installed[name] != expected[name]
    ]
    for each in facts["distributions"]:
        wrong += [f"{each['name']}: {file}" for file in each["wrong"]]
        if not each["files"]:
            wrong.append(f"{each['name']} has no RECORD")
        if each["direct_url"]:
            wrong.append(f"{each['name']} says that it comes from {each['direct_url']}")
    return wrong


def _count(found: Iterable[tuple[str, str]], name: str) -> int:
    return sum(1 for other, _ in found if other == name)


def program(facts: Mapping[str, Any], sources: Iterable[str], forced: Iterable[str]) -> list[str]:
    """Compare the program's files with those of the tree.

    Args:
        facts: What the image says.
        sources: Paths of the package's files, `registry_cleanup/…`.
        forced: Paths in the wheel that pyproject.toml puts there from elsewhere.
    """
    (own,) = [each for each in facts["distributions"] if each["name"] == OWN]
    found = {file for file in own["files"] if "/__pycache__/" not in file and file.startswith("registry_cleanup/")}
    expected, extra = set(sources), tuple(forced)
    wrong = [f"{file} is not in the image" for file in sorted(expected - found)]
    wrong += [f"{file} is in the image only" for file in sorted(found - expected) if not file.startswith(extra or "\0")]
    wrong += [f"nothing is in the image of {path}" for path in extra if not any(f.startswith(path) for f in found)]
    if own["licensed"] != "Apache-2.0" or not any(file.endswith("/licenses/LICENSE") for file in own["files"]):
        wrong.append("the program's metadata has no license")
    wrong += [f"{path} is not compiled" for path in facts["uncompiled"]]
    return wrong


# How it runs


def process(facts: Mapping[str, Any], user: str) -> list[str]:
    """Compare what a process in the image is and may do with what the cluster wants."""
    wrong = []
    if f"{facts['user']}:{facts['group']}" != user or facts["groups"]:
        wrong.append(f"it runs as {facts['user']}:{facts['group']} with groups {facts['groups']}, not as {user}")
    if not facts["safe_path"]:
        wrong.append("PYTHONSAFEPATH has no effect: the working folder is on sys.path")
    wrong += [f"the module {name} can be imported" for name in facts["modules"]]
    wrong += [f"the program {name} is on the PATH" for name in facts["programs"]]
    wrong += [f"{path} can be written to" for path in facts["writable"]]
    return wrong


def configuration(image: Mapping[str, Any], base: str, version: str, revision: str) -> list[str]:
    """Compare the image's configuration with what the manifests and an SBOM rely on."""
    config = image["OCIv1"]["config"]
    environment = dict(entry.split("=", 1) for entry in config["Env"])
    expected = {
        "User": USER,
        "Entrypoint": ["registry-cleanup"],
        "Cmd": ["operator"],
        "WorkingDir": "/",
        "ExposedPorts": {"8080/tcp": {}},
    }
    wrong = [f"{key} is {config.get(key)}, not {value}" for key, value in expected.items() if config.get(key) != value]
    switches = ("PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
    wrong += [f"{name} is not set" for name in switches if environment.pop(name, None) != "1"]
    if not environment.pop("PATH").startswith(f"/{HOME}/bin:"):
        wrong.append("the program is not first on the PATH")
    wrong += [f"{name} is set" for name in sorted(environment.keys() - {"LANG", "LOGNAME"})]
    labels = {
        "title": OWN,
        "licenses": "Apache-2.0",
        "base.name": base,
        "version": version,
        "revision": revision,
    }
    for name, value in labels.items():
        found = config["Labels"].get(f"org.opencontainers.image.{name}")
        if found != value:
            wrong.append(f"the label {name} is {found}, not {value}")
    return wrong


# Its files


def files(base: set[str], final: set[str]) -> list[str]:
    """Compare the paths of the image with those of its base: what came and what went."""
    home = PurePosixPath(HOME)
    wrong = [
        f"/{path} was added"
        for path in sorted(final - base)
        if home != PurePosixPath(path) and home not in PurePosixPath(path).parents
    ]
    gone = sorted(path for path in base - final if not _TAKEN.search(path) and path not in _EMPTIED)
    wrong += [f"/{path} is gone" for path in gone]
    wrong += [f"/{path} is a wheel" for path in sorted(final) if path.endswith(".whl")]
    # A copy inside of another distribution is in no list.
    wrong += [f"/{path} holds vendored copies" for path in sorted(final) if path.endswith("/_vendor")]
    return wrong


def owned(root: Path) -> list[str]:
    """Return what of the program does not belong to root, or may be written to by others than its owner."""
    wrong = []
    for path in (root / HOME).rglob("*"):
        status = path.lstat()
        name = f"/{path.relative_to(root)}"
        if (status.st_uid, status.st_gid) != (0, 0):
            wrong.append(f"{name} belongs to {status.st_uid}:{status.st_gid}")
        if not path.is_symlink() and status.st_mode & 0o022:
            wrong.append(f"{name} may be written to by others than root: {status.st_mode & 0o777:o}")
        if not path.is_symlink() and status.st_mode & 0o004 == 0:
            wrong.append(f"{name} may not be read by everybody")
    return wrong


def debian(root: Path) -> list[str]:
    """Return what the list of Debian packages says wrongly; an SBOM is made of it."""
    status = (root / "var/lib/dpkg/status").read_text()
    blocks = [block for block in status.split("\n\n") if "\nStatus: install ok installed\n" in f"{block}\n"]
    names = [found[1] for block in blocks if (found := re.match(r"Package: (\S+)", block))]
    wrong = [f"{name} is still listed" for name in names if re.search(r"-venv$|-whl$|-pip$", name)]
    return wrong if names else ["the image does not list its Debian packages"]
