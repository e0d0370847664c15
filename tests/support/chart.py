"""What the Helm chart holds as copies, because Helm packs nothing from outside the chart's folder.

`make chart` makes them, and tests compare. Symbolic links would do for Helm, but Flux drops them.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from registry_cleanup.settings import Settings, variable

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
        "openshift-image-pruner.yaml": "manifests/openshift-image-pruner/role.yaml",
        "namespaced-rolebindings.yaml": "manifests/namespaced/rolebindings.yaml",
        "approval-role.yaml": "manifests/approval/role.yaml",
        "approval-policy.yaml": "manifests/approval/policy.yaml",
        "monitoring-service.yaml": "manifests/monitoring/service.yaml",
        "monitoring-servicemonitor.yaml": "manifests/monitoring/servicemonitor.yaml",
        "monitoring-rules.yaml": "manifests/monitoring/rules.yaml",
        "monitoring-dashboard.json": "manifests/monitoring/registry-cleanup.json",
    }.items()
}
# What the Deployment says itself, or what has a value of its own.
_NOT_SETTINGS = {"cache_dir", "health_port", "identity", "namespaces", "service_account"}


def settings() -> dict[str, str]:
    """Return the settings that the chart's value `settings` may hold, as variables, each with its definition's name."""
    return {
        variable(name): "words" if isinstance(info.default, tuple) else "setting"
        for name, info in Settings.model_fields.items()
        if name not in _NOT_SETTINGS
    }


def main() -> None:
    """Bring the copies up to date."""
    for copy, source in COPIES.items():
        shutil.copyfile(source, copy)
    schema = json.loads(SCHEMA.read_text())
    schema["properties"]["settings"]["properties"] = {
        name: {"$ref": f"#/definitions/{kind}"} for name, kind in settings().items()
    }
    SCHEMA.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
