"""The shipped alerts against promtool: each fires when it should, and only then."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.promtool import check_rules, dashboard, dashboard_queries, monitoring, rules, run_tests

_TESTS = Path(__file__).parent / "monitoring" / "alerts.yaml"
_POLICY = re.compile(r'registry_cleanup_policy_\w+\{namespace="t",name="([\w-]+)"')


def _info(name: str) -> dict[str, str]:
    """Return the info of a policy, which is what its name says."""
    scheduled, suspended = str(name != "unscheduled").lower(), str(name == "suspended").lower()
    labels = f'namespace="t",name="{name}",scheduled="{scheduled}",suspended="{suspended}",dry_run="false"'
    values = "1x2 stale" if name == "deleted" else "1x2000"
    return {"series": f"registry_cleanup_policy_info{{{labels}}}", "values": values}


def _tests() -> dict[str, Any]:
    tests: dict[str, Any] = yaml.safe_load(_TESTS.read_text())
    for group in tests["tests"]:
        found = (_POLICY.match(each["series"]) for each in group["input_series"])
        group["input_series"] += map(_info, sorted({match[1] for match in found if match}))
    return tests


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    assert f"SUCCESS: {len(rules())} rules found" in check_rules(tmp_path)


def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    assert "SUCCESS" in run_tests(_tests(), tmp_path)


def test_every_alert_is_seen_to_fire() -> None:
    told = [
        sample["labels"]
        for group in _tests()["tests"]
        for each in group["promql_expr_test"]
        for sample in each.get("exp_samples", ())
    ]
    told += [
        each["expr"] for group in _tests()["tests"] for each in group["promql_expr_test"] if each.get("exp_samples")
    ]
    assert [rule["alert"] for rule in rules() if not any(rule["alert"] in text for text in told)] == []


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_alert_says_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "runbook"}
    assert annotations["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
    assert annotations["summary"].endswith(".")
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["alert"].startswith("RegistryCleanup")


def test_the_resources_are_these_in_the_operators_namespace() -> None:
    assert {(each["kind"], each["metadata"]["name"], each["metadata"]["namespace"]) for each in monitoring()} == {
        (kind, name, "registry-cleanup-system")
        for kind, name in [
            ("Service", "registry-cleanup-metrics"),
            ("ServiceMonitor", "registry-cleanup-metrics"),
            ("PrometheusRule", "registry-cleanup"),
            ("ConfigMap", "registry-cleanup-dashboard"),
        ]
    }


def test_the_service_monitor_finds_the_service_and_keeps_the_policies_namespaces() -> None:
    by_kind = {each["kind"]: each for each in monitoring()}
    wanted = by_kind["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= by_kind["Service"]["metadata"]["labels"].items()
    (endpoint,) = by_kind["ServiceMonitor"]["spec"]["endpoints"]
    assert endpoint["honorLabels"] is True
    assert endpoint["port"] in [port["name"] for port in by_kind["Service"]["spec"]["ports"]]


def test_grafana_finds_the_dashboard_by_its_label_and_every_panel_has_a_place_and_a_title() -> None:
    (config_map,) = [each for each in monitoring() if each["kind"] == "ConfigMap"]
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    panels = dashboard()["panels"]
    assert len({panel["title"] for panel in panels}) == len({panel["id"] for panel in panels}) == len(panels)
    squares = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(squares)) == len(squares)
    assert max(x for x, _ in squares) < 24
    assert "$" not in "".join(dashboard_queries().values())
