"""The Helm chart, rendered by the real Helm: it says what `manifests/` say, and refuses what it does not know."""

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry_cleanup.settings import Settings, variable
from tests.support.chart import CHART, COPIES, SCHEMA, settings
from tests.support.helm import Helm, HelmError
from tests.support.manifests import MANIFESTS, of_kind, overlay, rendered
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


def test_the_right_to_start_the_image_pruner_comes_only_where_it_is_asked_for(helm: Helm) -> None:
    _assert_same(
        helm.render({"openshift": {"imagePruner": True}}), rendered("base") + rendered("openshift-image-pruner")
    )


def test_confined_to_namespaces_the_chart_installs_what_the_overlay_does(helm: Helm) -> None:
    _assert_same(helm.render({"namespaces": ["team-a", "team-b"]}), rendered("namespaced"))


@pytest.mark.parametrize("part", ["approval", "monitoring"])
def test_a_part_that_stands_beside_the_operator_is_what_its_overlay_installs(helm: Helm, part: str) -> None:
    _assert_same(helm.render({part: {"enabled": True}}), rendered("base") + rendered(part))


def test_in_another_namespace_chart_and_kustomize_install_the_same(helm: Helm, tmp_path: Path) -> None:
    elsewhere = overlay(tmp_path / "overlay", "base", namespace="elsewhere")

    objects = helm.render(namespace="elsewhere")

    _assert_same(objects, rendered(elsewhere))
    everything = helm.render(
        {"namespaces": ["team-a"], "approval": {"enabled": True}, "monitoring": {"enabled": True}},
        namespace="elsewhere",
    )
    assert NAMESPACE not in json.dumps([objects, everything])


def test_every_namespace_gets_the_same_rights_and_no_other_has_any(helm: Helm) -> None:
    objects = helm.render({"namespaces": ["one", "two", "three"]})

    assert of_kind(objects, "ClusterRoleBinding") == []
    bindings: dict[str, set[str]] = {}
    for each in of_kind(objects, "RoleBinding"):
        bindings.setdefault(each["metadata"]["namespace"], set()).add(each["roleRef"]["name"])
    assert bindings.pop(NAMESPACE) == {"registry-cleanup-leader"}
    assert bindings.keys() == {"one", "two", "three"}
    assert bindings["one"] == bindings["two"] == bindings["three"]


def test_prometheus_reaches_every_pod_through_the_network_policy(helm: Helm) -> None:
    objects = helm.render({"monitoring": {"enabled": True}})

    (policy,), (service,) = of_kind(objects, "NetworkPolicy"), of_kind(objects, "Service")
    labels = _template(objects)["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    (rule,) = policy["spec"]["ingress"]
    assert rule == {"ports": [{"port": service["spec"]["ports"][0]["targetPort"], "protocol": "TCP"}]}
    assert {port["name"]: port["containerPort"] for port in _container(objects)["ports"]} == {"health": 8080}


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
        ({"settings": {"REGISTRY_CLEANUP_CONCURRENT_RUNS": {"a": 1}}}, "got object, want boolean or number or string"),
        ({"settings": {"REGISTRY_CLEANUP_CONCURRENT_RUNS": [4]}}, "got array, want boolean or number or string"),
        ({"settings": {"REGISTRY_CLEANUP_PROTECTED_TAGS": ["v1 v2"]}}, "does not match pattern"),
        ({"settings": {"REGISTRY_CLEANUP_NAMESPACES": "team"}}, "additional properties"),
        ({"namespaces": "team"}, "got string, want array"),
        ({"namespaces": ["Team"]}, "does not match pattern"),
        ({"approval": {"enable": True}}, "additional properties 'enable' not allowed"),
        ({"monitoring": {"enabled": "yes"}}, "got string, want boolean"),
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
    known = {
        name: schema["$ref"].removeprefix("#/definitions/")
        for name, schema in _SCHEMA["properties"]["settings"]["properties"].items()
    }
    assert known == settings(), "run `make chart`"
    # The Deployment says four itself, and one is a value of its own.
    own = {variable(name) for name in ("cache_dir", "health_port", "identity", "namespaces", "service_account")}
    assert {variable(name) for name in Settings.model_fields} - known.keys() == own


def test_settings_arrive_as_they_were_meant(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        variable("allowed_registries"): ["registry.example.com", "*.example.com:8443"],
        variable("trusted_token_hosts"): "auth.example.com, login.example.com:8443",
        # A pattern may hold commas.
        variable("protected_tags"): ["v[0-9]{1,3}", "latest"],
        variable("smallest_interval"): "1h",
        # As a float this would be written 1e+06.
        variable("max_deletions"): 1_000_000,
        variable("max_requests_per_second"): 0.5,
        variable("plan_only"): True,
        variable("allow_insecure"): False,
        variable("in_use_scope"): "Namespaces",
        variable("concurrent_requests"): "16",
        variable("schedule_jitter_seconds"): 0,
    }

    objects = helm.render({"settings": given, "namespaces": ["team-a", "team-b"]})

    (config_map,) = of_kind(objects, "ConfigMap")
    (source,) = _container(objects)["envFrom"]
    assert source["configMapRef"] == {"name": config_map["metadata"]["name"], "optional": True}
    for name, value in {**config_map["data"], variable("identity"): "pod"}.items():
        monkeypatch.setenv(name, value)
    found = Settings()
    assert config_map["data"][variable("max_deletions")] == "1000000"
    monkeypatch.undo()
    assert found == Settings(
        allowed_registries=("registry.example.com", "*.example.com:8443"),
        trusted_token_hosts=("auth.example.com", "login.example.com:8443"),
        protected_tags=("v[0-9]{1,3}", "latest"),
        smallest_interval="1h",
        max_deletions=1_000_000,
        max_requests_per_second=0.5,
        plan_only=True,
        allow_insecure=False,
        namespaces=("team-a", "team-b"),
        in_use_scope="Namespaces",
        concurrent_requests=16,
        schedule_jitter_seconds=0,
        identity="pod",
    )


@pytest.mark.parametrize("off", [False, "false", "False", "0", "off", "no"])
def test_without_leader_election_there_is_one_operator_and_the_next_waits_for_its_end(
    helm: Helm, off: bool | str
) -> None:
    values: _Object = {"settings": {variable("leader_election"): off}}
    with pytest.raises(HelmError, match="all replicas would prune at the same time: set replicas to 1"):
        helm.render(values)

    (deployment,) = of_kind(helm.render({**values, "replicas": 1}), "Deployment")

    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    (agreed,) = of_kind(helm.render({"settings": {variable("leader_election"): True}}), "Deployment")
    assert agreed["spec"]["strategy"]["type"] == "RollingUpdate"


def test_a_changed_setting_makes_new_pods_and_an_unchanged_one_does_not(helm: Helm) -> None:
    def annotations(runs: int, *namespaces: str) -> _Object:
        pod = _template(helm.render({"settings": {variable("concurrent_runs"): runs}, "namespaces": [*namespaces]}))
        found: _Object = pod["metadata"]["annotations"]
        return found

    assert annotations(4) == annotations(4) != annotations(5)
    assert annotations(4) != annotations(4, "team")


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


@pytest.mark.parametrize("base", ["base", "openshift", "namespaced"])
def test_the_sample_of_an_overlay_has_image_and_settings_of_its_own_on_any_base(tmp_path: Path, base: str) -> None:
    sample = yaml.safe_load((MANIFESTS / "samples" / "overlay" / "kustomization.yaml").read_text())
    assert sample["resources"] == ["../../base"]
    del sample["resources"]

    objects = rendered(overlay(tmp_path / "overlay", base, **sample))

    config_maps = {each["metadata"]["name"]: each.get("data", {}) for each in of_kind(objects, "ConfigMap")}
    # What comes last counts.
    theirs, ours = (source["configMapRef"]["name"] for source in _container(objects)["envFrom"])
    assert config_maps.keys() == {theirs, ours}
    assert config_maps[theirs].keys() == ({variable("namespaces")} if base == "namespaced" else set())
    assert config_maps[ours].keys() <= _SCHEMA["properties"]["settings"]["properties"].keys()
    assert _container(objects)["image"].startswith("registry.example.com/")


def test_a_changed_setting_in_the_sample_of_an_overlay_makes_new_pods(tmp_path: Path) -> None:
    sample = yaml.safe_load((MANIFESTS / "samples" / "overlay" / "kustomization.yaml").read_text())
    del sample["resources"]

    def template(runs: int) -> _Object:
        sample["configMapGenerator"][0]["literals"] = [f"{variable('concurrent_runs')}={runs}"]
        return _template(rendered(overlay(tmp_path / "overlay", "base", **sample)))

    assert template(4) == template(4) != template(5)


def _assert_same(chart: list[_Object], kustomize: list[_Object]) -> None:
    """Compare object by object.

    Four differences are meant: Helm makes the namespace itself (`--create-namespace`), or it is there; each object has
    Helm's two labels; the CRD stays when the release goes; and pods bear a hash of the settings, where there are any.
    """
    expected = {_identity(each): each for each in kustomize if each["kind"] != "Namespace"}
    found = {_identity(each): copy.deepcopy(each) for each in chart}
    assert len(found) == len(chart)
    for each in found.values():
        labels = each["metadata"]["labels"]
        assert {name: labels.pop(name, None) for name in _HELMS_LABELS} == _HELMS_LABELS, _identity(each)
    for crd in of_kind(list(found.values()), "CustomResourceDefinition"):
        assert crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    (settings_,) = (each for each in found.values() if each["metadata"]["name"] == "registry-cleanup-settings")
    if settings_.get("data"):
        assert _template([*found.values()])["metadata"].pop("annotations").keys() == {"checksum/settings"}
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
