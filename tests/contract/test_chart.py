"""The Helm chart, rendered by the real Helm: it says what `manifests/` say, and refuses what it does not know."""

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry_cleanup.settings import Settings
from tests.support.chart import CHART, COPIES, SCHEMA, settings, variable
from tests.support.helm import Helm, HelmError
from tests.support.manifests import of_kind, overlay, rendered
from tests.support.operator import NAMESPACE, REPOSITORY_ROOT

_DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
_SCHEMA = json.loads(SCHEMA.read_text())
_HELMS_LABELS = {"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "registry-cleanup-operator-0.1.0"}
# Helm says itself which values it passes to charts within a chart.
_HELMS_VALUES = {"global"}

_Object = dict[str, Any]


@pytest.fixture
def helm(tmp_path: Path) -> Helm:
    return Helm(tmp_path / "helm")


# The same as kustomize


def test_by_default_the_chart_installs_what_the_base_does(helm: Helm) -> None:
    _assert_same(helm.render(), rendered("base"))


def test_for_openshift_the_chart_installs_what_its_overlay_does(helm: Helm) -> None:
    _assert_same(helm.render({"openshift": {"roles": True}}), rendered("openshift"))


def test_in_another_namespace_chart_and_kustomize_install_the_same(helm: Helm, tmp_path: Path) -> None:
    elsewhere = overlay(tmp_path / "overlay", "base", namespace="elsewhere")

    objects = helm.render(namespace="elsewhere")

    _assert_same(objects, rendered(elsewhere))
    assert NAMESPACE not in json.dumps(objects)


@pytest.mark.parametrize(("copy_", "source"), COPIES.items(), ids=lambda path: path.name)
def test_the_charts_copies_are_what_they_are_copies_of(copy_: Path, source: Path) -> None:
    assert copy_.read_bytes() == source.read_bytes(), "run `make chart`"


def test_the_chart_holds_no_other_copies() -> None:
    assert set((CHART / "files").iterdir()) == set(COPIES)


def test_a_packed_chart_installs_the_same(helm: Helm, tmp_path: Path) -> None:
    helm.run("package", CHART, "--destination", tmp_path / "packed")
    (packed,) = (tmp_path / "packed").iterdir()

    assert helm.render({"openshift": {"roles": True}}, chart=packed) == helm.render({"openshift": {"roles": True}})


def test_chart_program_and_image_have_one_version(helm: Helm) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f'\nversion = "{chart["version"]}"\n' in (REPOSITORY_ROOT / "pyproject.toml").read_text()
    assert chart["appVersion"] == chart["version"]
    assert _container(helm.render())["image"] == f"registry-cleanup-operator:{chart['version']}"


def test_helm_finds_no_fault(helm: Helm) -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in helm.run("lint", "--strict", CHART)


# Values


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replica": 1}, "additional properties 'replica' not allowed"),
        ({"image": {"tags": "1"}}, "additional properties 'tags' not allowed"),
        ({"image": {"tag": 1.10}}, "got number, want string"),
        ({"image": {"digest": "sha256:1"}}, "does not match pattern"),
        ({"image": {"repository": "r.example.com/a@sha256:1"}}, "does not match pattern"),
        ({"image": {"pullPolicy": "Sometimes"}}, "value must be one of"),
        ({"imagePullSecrets": ["login"]}, "got string, want object"),
        ({"settings": {"REGISTRY_CLEANUP_CONCURENT_RUNS": 1}}, "additional properties"),
        ({"settings": {"REGISTRY_CLEANUP_HEALTH_PORT": 1}}, "additional properties"),
        ({"settings": {"REGISTRY_CLEANUP_CONCURRENT_RUNS": {"a": 1}}}, "settings"),
        ({"crds": {"install": "no"}}, "got string, want boolean"),
        ({"networkPolicy": {"egress": {}}}, "got object, want array"),
        ({"podAnnotations": {"a": 1}}, "got number, want string"),
        ({"resources": {"request": {}}}, "additional properties 'request' not allowed"),
        ({"affinity": {"nodeAfinity": {}}}, "additional properties"),
    ],
    ids=str,
)
def test_a_value_that_is_not_known_is_refused_by_its_name(helm: Helm, values: _Object, complaint: str) -> None:
    with pytest.raises(HelmError, match="values don't meet the specifications") as refused:
        helm.render(values)

    assert complaint in str(refused.value)


def test_the_schema_knows_every_value_and_no_other() -> None:
    for path, schema in _objects(_SCHEMA):
        value: Any = _DEFAULTS
        for key in path:
            value = value[key]
        assert schema["additionalProperties"] is False, path
        if path not in [("settings",), ("affinity",)]:
            assert schema["properties"].keys() - _HELMS_VALUES == value.keys(), path


def test_every_value_is_described() -> None:
    for path, schema in _objects(_SCHEMA):
        for key, property_ in schema["properties"].items():
            if path != ("settings",):
                assert property_["description"], (*path, key)


def test_the_schema_knows_every_setting_that_an_administrator_may_set() -> None:
    assert [*_SCHEMA["properties"]["settings"]["properties"]] == settings(), "run `make chart`"


def test_settings_arrive_as_they_were_meant(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        variable("trusted_token_hosts"): ["auth.example.com", "login.example.com:8443"],
        variable("concurrent_runs"): 100,
        variable("concurrent_requests"): "16",
        # As a float this would be written 1e+06.
        variable("stop_seconds"): 1_000_000,
        variable("log_format"): "text",
    }

    objects = helm.render({"settings": given})

    (config_map,) = of_kind(objects, "ConfigMap")
    (source,) = _container(objects)["envFrom"]
    assert source["configMapRef"] == {"name": config_map["metadata"]["name"], "optional": True}
    for name, value in config_map["data"].items():
        monkeypatch.setenv(name, value)
    assert Settings() == Settings(
        trusted_token_hosts=("auth.example.com", "login.example.com:8443"),
        concurrent_runs=100,
        concurrent_requests=16,
        stop_seconds=1_000_000,
        log_format="text",
    )
    assert config_map["data"][variable("stop_seconds")] == "1000000"


def test_a_changed_setting_makes_new_pods_and_an_unchanged_one_does_not(helm: Helm) -> None:
    def annotations(runs: int) -> _Object:
        pod = _template(helm.render({"settings": {variable("concurrent_runs"): runs}}))
        found: _Object = pod["metadata"]["annotations"]
        return found

    assert annotations(4) == annotations(4) != annotations(5)


def test_what_says_where_pods_run_reaches_the_pod(helm: Helm) -> None:
    values: _Object = {
        "imagePullSecrets": [{"name": "pull"}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "priorityClassName": "important",
    }

    template = _template(
        helm.render({**values, "podAnnotations": {"a.example.com/b": "c"}, "podLabels": {"team": "platform"}})
    )

    assert {key: template["spec"][key] for key in values} == values
    assert template["metadata"]["annotations"] == {"a.example.com/b": "c"}
    labels = _template(helm.render())["metadata"]["labels"]
    assert template["metadata"]["labels"] == {**labels, "team": "platform"}


def test_labels_of_pods_cannot_take_them_away_from_their_deployment(helm: Helm) -> None:
    objects = helm.render({"podLabels": {"app.kubernetes.io/component": "other"}})

    assert _template(objects) == _template(helm.render())


def test_a_digest_counts_more_than_a_tag(helm: Helm) -> None:
    digest = "sha256:" + "0" * 64
    image = {"repository": "r.example.com/tools/cleanup", "tag": "1.2", "digest": digest, "pullPolicy": "Always"}

    container = _container(helm.render({"image": image}))

    assert container["image"] == f"r.example.com/tools/cleanup@{digest}"
    assert container["imagePullPolicy"] == "Always"
    tagged = helm.render({"image": {**image, "digest": ""}})
    assert _container(tagged)["image"] == "r.example.com/tools/cleanup:1.2"


def test_rules_for_egress_let_nothing_else_out(helm: Helm) -> None:
    rules = [{"ports": [{"port": 53, "protocol": "UDP"}]}]

    (policy,) = of_kind(helm.render({"networkPolicy": {"egress": rules}}), "NetworkPolicy")

    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert policy["spec"]["egress"] == rules


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"crds": {"install": False}}, "CustomResourceDefinition"),
        ({"networkPolicy": {"enabled": False}}, "NetworkPolicy"),
        ({"podDisruptionBudget": {"enabled": False}}, "PodDisruptionBudget"),
    ],
    ids=str,
)
def test_what_is_switched_off_is_not_installed_and_all_else_is(helm: Helm, values: _Object, kind: str) -> None:
    objects, everything = helm.render(values), helm.render()

    assert [each["kind"] for each in everything if each not in objects] == [kind]
    assert [each for each in objects if each not in everything] == []


# Kustomize


def test_the_sample_of_an_overlay_has_image_and_settings_of_its_own() -> None:
    objects = rendered("samples/overlay")

    (config_map,) = of_kind(objects, "ConfigMap")
    assert config_map["data"].keys() <= _SCHEMA["properties"]["settings"]["properties"].keys()
    # With a hash of the content in its name.
    assert config_map["metadata"]["name"] != "registry-cleanup-settings"
    container = _container(objects)
    assert container["envFrom"][0]["configMapRef"]["name"] == config_map["metadata"]["name"]
    assert container["image"].startswith("registry.example.com/")


def _assert_same(chart: list[_Object], kustomize: list[_Object]) -> None:
    """Compare object by object.

    Three differences are meant: Helm makes the namespace itself (`--create-namespace`), or it is there; each object has
    Helm's two labels; and the CRD stays when the release goes.
    """
    expected = {_identity(each): each for each in kustomize if each["kind"] != "Namespace"}
    found = {_identity(each): copy.deepcopy(each) for each in chart}
    assert len(found) == len(chart)
    for each in found.values():
        labels = each["metadata"]["labels"]
        assert {name: labels.pop(name, None) for name in _HELMS_LABELS} == _HELMS_LABELS, _identity(each)
    for crd in of_kind(list(found.values()), "CustomResourceDefinition"):
        assert crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert found.keys() == expected.keys()
    for identity, each in found.items():
        assert each == expected[identity], identity


def _identity(each: _Object) -> tuple[str, ...]:
    metadata = each["metadata"]
    return each["apiVersion"], each["kind"], metadata.get("namespace", ""), metadata["name"]


def _template(objects: list[_Object]) -> _Object:
    (deployment,) = of_kind(objects, "Deployment")
    template: _Object = deployment["spec"]["template"]
    return template


def _container(objects: list[_Object]) -> _Object:
    (container,) = _template(objects)["spec"]["containers"]
    only: _Object = container
    return only


def _objects(
    schema: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield each part of the schema that has keys of ours, with the path to it."""
    if "properties" in schema:
        yield path, schema
        for key, part in schema["properties"].items():
            yield from _objects(part, (*path, key))
