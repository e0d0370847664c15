"""docs/operations.md helps with everything that the operator tells: each reason, each alert, each metric."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from registry_cleanup.domain.deletion import Deletion
from registry_cleanup.domain.run import Collector, Phase
from registry_cleanup.telemetry import Metrics

_ROOT = Path(__file__).parents[2]
_PACKAGE = _ROOT / "operator" / "registry_cleanup"
_OPERATIONS = (_ROOT / "docs" / "operations.md").read_text()
_REASON = re.compile(r"[A-Z][A-Za-z]*[a-z][A-Za-z]*")
# What takes a reason, by position.
_TELLS = {"Failure": 0, "_mend": 0, "_failure": 0, "Told": 1, "_set": 2, "_tell": 0, "_notify": 2}


def _reasons(tree: ast.Module) -> Iterator[str]:
    """Yield every reason that the code spells: given to what tells one, as a class's own, or with its message."""
    for node in ast.walk(tree):
        found: ast.expr | None = None
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            place = _TELLS.get(name)
            found = node.args[place] if place is not None and place < len(node.args) else None
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            found = node.value if isinstance(target, ast.Name) and target.id == "reason" else None
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.elts[1], ast.JoinedStr | ast.Name):
            found = node.elts[0]
        if isinstance(found, ast.Constant) and isinstance(found.value, str) and _REASON.fullmatch(found.value):
            yield found.value


def test_operations_has_a_remedy_for_every_reason() -> None:
    code = {reason for file in _PACKAGE.rglob("*.py") for reason in _reasons(ast.parse(file.read_text()))}
    assert {"ClockSkew", "Throttled", "SecretNotFound", "WithinLimits", "NotAllowed", "CRDMismatch"} <= code
    told = set(re.findall(r"`(\w+)`", _OPERATIONS.partition("### Reasons, and what to do")[2]))
    values = {each.value for each in (*Phase, *Deletion, *Collector)}
    assert sorted((code | values) - told - {"MissedSchedule", "RunInterrupted", "True"}) == []


def test_operations_says_of_every_alert_what_to_do() -> None:
    headings = set(re.findall(r"^### (\w+)$", _OPERATIONS, re.MULTILINE))
    alerts = set(re.findall(r"- alert: (\w+)", (_ROOT / "manifests" / "monitoring" / "rules.yaml").read_text()))
    assert alerts
    assert alerts == {heading for heading in headings if heading.startswith("RegistryCleanup")}


def test_operations_explains_every_metric_and_no_other() -> None:
    names = {
        metric.name.removeprefix("registry_cleanup_") + {"counter": "_total", "info": "_info"}.get(metric.type, "")
        for metric in Metrics().registry.collect()
        if metric.name.startswith("registry_cleanup_")
    }
    table = _OPERATIONS.partition("| Metric ")[2].partition("\n\n")[0]
    first_cells = " ".join(line.split(" | ")[0] for line in table.splitlines()[2:])
    assert set(re.findall(r"`(\w+)(?:\{[a-z,]+\})?`", first_cells)) == names
