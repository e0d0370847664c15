"""Prometheus' own promtool over the rules and the dashboard that `manifests/monitoring` ships."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.binaries import binary

_ROOT = Path(__file__).parents[2]
_RULES = "rules.yaml"
# What Prometheus adds to each series of a target, unless the series has it itself.
_TARGET = {"job": "registry-cleanup-metrics", "instance": "10.0.0.1:8080", "namespace": "registry-cleanup-system"}
_VARIABLES = {"$namespace": ".*", "$__rate_interval": "10m"}
_SELECTOR = re.compile(r"\b((?:registry_cleanup|process)_\w+)(\{[^}]*\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


@cache
def monitoring() -> list[dict[str, Any]]:
    """Return the resources of `manifests/monitoring`, as kubectl renders them."""
    kubectl, folder = Path(sys.executable).parent / "kubectl", _ROOT / "manifests" / "monitoring"
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


@cache
def rules() -> list[dict[str, Any]]:
    """Return the alerts."""
    (resource,) = [each for each in monitoring() if each["kind"] == "PrometheusRule"]
    return [rule for group in resource["spec"]["groups"] for rule in group["rules"]]


@cache
def dashboard() -> dict[str, Any]:
    """Return the dashboard, read out of its ConfigMap."""
    (resource,) = [each for each in monitoring() if each["kind"] == "ConfigMap"]
    (text,) = resource["data"].values()
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def dashboard_queries() -> dict[str, str]:
    """Return the queries of all panels by title and letter, with a value for each variable."""
    queries = {}
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for variable, value in _VARIABLES.items():
                expression = expression.replace(variable, value)
            queries[f"{panel['title']} {target['refId']}"] = expression
    return queries


def selectors(query: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each metric that a query names, with all labels of the page that it asks of it or groups it by."""
    groups = {label.strip() for found in _GROUPING.findall(query) for label in found.split(",")}
    for metric, matchers in _SELECTOR.findall(query):
        asked = set(_LABEL.findall(re.sub(r'"[^"]*"', "", matchers))) | groups
        # The namespace of a policy is not that of the operator.
        yield metric, asked - (_TARGET.keys() - ({"namespace"} if "_policy_" in metric else set()))


def check_rules(folder: Path) -> str:
    """Let promtool check the rules; return what it says."""
    return _promtool(["check", "rules", str(_written(folder))])


def check_metrics(page: str) -> str:
    """Let promtool check a metrics page; return what it says."""
    return _promtool(["check", "metrics"], page)


def run_tests(tests: Mapping[str, Any], folder: Path) -> str:
    """Run tests in promtool's own format against the rules; return what it says."""
    _written(folder)
    file = folder / "tests.yaml"
    file.write_text(yaml.safe_dump({**tests, "rule_files": [_RULES]}))
    return _promtool(["test", "rules", str(file)])


def page_labels(page: str) -> dict[str, set[str]]:
    """Return the labels of each metric of a page."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def page_series(page: str) -> list[dict[str, str]]:
    """Return all series of a metrics page as promtool's input, as Prometheus has them, constant for half an hour."""
    found = []
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = {**_TARGET, **sample.labels}
            text = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
            found.append({"series": f"{sample.name}{{{text}}}", "values": f"{sample.value:f}x60"})
    return found


def evaluated(page: str, queries: Sequence[str], folder: Path) -> str:
    """Evaluate queries over the series of a page, each of which has to find something; return what promtool says."""
    expected = [{"labels": "{}", "value": 1}]
    tests = [{"expr": f"count({query}) > bool 0", "eval_time": "20m", "exp_samples": expected} for query in queries]
    group = {"interval": "30s", "input_series": page_series(page), "promql_expr_test": tests}
    return run_tests({"evaluation_interval": "1m", "tests": [group]}, folder)


def _written(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / _RULES
    file.write_text(yaml.safe_dump({"groups": [{"name": "rules", "rules": rules()}]}))
    return file


def _promtool(arguments: Sequence[str], given: str = "") -> str:
    command = [str(binary("promtool")), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"promtool {arguments[0]} {arguments[1]}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr
