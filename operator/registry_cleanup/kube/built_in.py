"""The schema of the CRD that ships with this version, which needs neither a cluster nor a client of one."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from registry_cleanup.kube.spec import PLURAL, VERSION

CRD_FILE = f"{PLURAL}.yaml"
# What the API server publishes of these is its own.
_OF_THE_SERVER = frozenset({"apiVersion", "kind", "metadata"})
# libyaml takes a tenth of the time, and PyYAML may be installed without it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def built_in_schema() -> dict[str, Any]:
    """Return the schema of the CRD that ships with this version."""
    packaged = resources.files("registry_cleanup").joinpath(CRD_FILE)
    # A wheel holds a copy; in a source tree there is the one that everybody applies.
    source = Path(__file__).parents[3] / "crds" / CRD_FILE
    text = (packaged if packaged.is_file() else source).read_text(encoding="utf-8")
    crd = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader, either of them
    (version,) = (each for each in crd["spec"]["versions"] if each["name"] == VERSION)
    return own(version["schema"]["openAPIV3Schema"])


def own(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what of a schema is up to the CRD, without words for people."""
    properties = {name: value for name, value in schema["properties"].items() if name not in _OF_THE_SERVER}
    return {"properties": _silent(properties, names=True), "required": schema.get("required", [])}


def _silent(value: Any, *, names: bool = False) -> Any:  # noqa: ANN401 - whatever JSON it is
    """Return a schema without descriptions; where keys are `names` of properties, one may be called that."""
    if isinstance(value, list):
        return [_silent(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: each if key == "default" and not names else _silent(each, names=key == "properties" and not names)
        for key, each in value.items()
        if names or key != "description"
    }
