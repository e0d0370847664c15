"""What the Helm chart holds as copies, because Helm packs nothing from outside the chart's folder.

`make chart` makes them, and tests compare. Symbolic links would do for Helm, but Flux drops them.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from registry_cleanup.settings import Settings

_ROOT = Path(__file__).parent.parent.parent
CHART = _ROOT / "charts" / "registry-cleanup-operator"
SCHEMA = CHART / "values.schema.json"
# Under `files/` of the chart, and where it is written.
COPIES: Mapping[Path, Path] = {
    CHART / "files" / name: _ROOT / source
    for name, source in {
        "registrycleanuppolicies.yaml": "crds/registrycleanuppolicies.yaml",
        "serviceaccount.yaml": "manifests/base/serviceaccount.yaml",
        "rbac.yaml": "manifests/base/rbac.yaml",
        "openshift-roles.yaml": "manifests/openshift/roles.yaml",
    }.items()
}
# What the Deployment says itself, or what has a value of its own.
_NOT_SETTINGS = {"health_port", "identity", "namespaces", "service_account"}


def variable(setting: str) -> str:
    """Return the environment variable of a setting."""
    return f"REGISTRY_CLEANUP_{setting.upper()}"


def settings() -> list[str]:
    """Return the settings that the chart's value `settings` may hold, as variables."""
    return [variable(name) for name in Settings.model_fields if name not in _NOT_SETTINGS]


def main() -> None:
    """Bring the copies up to date."""
    for copy, source in COPIES.items():
        shutil.copyfile(source, copy)
    schema = json.loads(SCHEMA.read_text())
    schema["properties"]["settings"]["properties"] = {name: {"$ref": "#/definitions/setting"} for name in settings()}
    SCHEMA.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
