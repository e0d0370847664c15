"""Where a registry keeps its storage is found in its pod template, or nobody collects there."""

from __future__ import annotations

from typing import Any

import pytest

from registry_cleanup.domain.collection import WorkloadName
from registry_cleanup.kube.collecting.storage import (
    ConfigurationSource,
    Place,
    UnfitWorkloadError,
    configuration_of,
    configuration_source,
    container_of,
    expect_known,
    place_of,
)

_NAME = WorkloadName("Deployment", "registry")
_DEFAULT = "/var/lib/registry"


def _container(name: str = "registry", mounts: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of a container
    paths = {"storage": _DEFAULT} if mounts is None else mounts
    return {"name": name, "volumeMounts": [{"name": each, "mountPath": path} for each, path in paths.items()], **more}


def _pod(*containers: dict[str, Any], volumes: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"containers": list(containers), "volumes": volumes or []}


def _variable(name: str, value: str) -> list[dict[str, str]]:
    return [{"name": name, "value": value}]


def _configured(root: str) -> str:
    return f"storage:\n  cache: {{}}\n  delete: {{enabled: true}}\n  filesystem: {{rootdirectory: {root}}}\n"


@pytest.mark.parametrize(
    ("container", "volume", "configuration", "found"),
    [
        (_container(), None, None, ("storage", _DEFAULT)),
        (_container(mounts={"storage": "/var/lib", "config": "/etc/registry"}), None, None, ("storage", _DEFAULT)),
        # Of two above one another the inner one has the files.
        (_container(mounts={"outer": "/var", "storage": "/var/lib/registry"}), None, None, ("storage", _DEFAULT)),
        (_container(mounts={"data": "/data"}), None, _configured("/data/registry"), ("data", "/data/registry")),
        (_container(mounts={"a": "/data", "b": "/x"}), "a", _configured("/data"), ("a", "/data")),
        (
            _container(mounts={"data": "/data"}, env=_variable("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/data/")),
            None,
            _configured("/elsewhere"),
            ("data", "/data"),
        ),
    ],
)
def test_the_volume_at_or_above_the_root_directory_holds_the_storage(
    container: dict[str, Any], volume: str | None, configuration: str | None, found: tuple[str, str]
) -> None:
    place = place_of(_NAME, _pod(container), volume, configuration)
    assert (place.volume, place.root) == found


@pytest.mark.parametrize(
    ("container", "volume", "configuration", "words"),
    [
        (_container(mounts={}), None, None, "mounts no volume at the storage's root directory"),
        (_container(mounts={"data": "/data"}), None, None, "mounts no volume"),
        (_container(), "data", None, "mounts no volume 'data'"),
        (_container(mounts={"storage": "/elsewhere"}), "storage", None, "is not mounted at"),
        (_container(), None, "storage:\n  s3: {bucket: x}\n", "stores in s3, not in files"),
        (_container(env=_variable("REGISTRY_STORAGE", "gcs")), None, None, "stores in gcs"),
        (_container(), None, "storage: [", "cannot be read as YAML"),
        (_container(), None, "- a list", "cannot be read as YAML"),
    ],
)
def test_what_has_no_storage_of_its_own_is_refused(
    container: dict[str, Any], volume: str | None, configuration: str | None, words: str
) -> None:
    with pytest.raises(UnfitWorkloadError, match=words):
        place_of(_NAME, _pod(container), volume, configuration)


def test_of_several_containers_the_one_that_mounts_the_storage_is_the_registry() -> None:
    proxy = _container("proxy", {"certificates": "/etc/ssl"})
    assert container_of(_NAME, _pod(proxy, _container()), None)["name"] == "registry"
    other = _container("backup", {"storage": "/backup"})
    assert container_of(_NAME, _pod(other, _container()), None)["name"] == "registry"
    assert container_of(_NAME, _pod(other, _container()), "storage")["name"] == "registry"


def test_a_registry_that_cannot_be_told_from_what_runs_beside_it_is_refused() -> None:
    with pytest.raises(UnfitWorkloadError, match="which container"):
        container_of(_NAME, _pod(_container("a"), _container("b")), None)


@pytest.mark.parametrize(
    ("container", "path"),
    [
        (_container(), None),
        (_container(args=["/etc/docker/registry/config.yml"]), "/etc/docker/registry/config.yml"),
        (_container(command=["registry", "serve", "/config/registry.yaml"]), "/config/registry.yaml"),
        (_container(command=["/bin/registry"], args=["serve", "/c.yml"]), "/c.yml"),
        (_container(env=_variable("REGISTRY_CONFIGURATION_PATH", "/etc/r.yml")), "/etc/r.yml"),
    ],
)
def test_the_configuration_is_the_one_that_the_command_names(container: dict[str, Any], path: str | None) -> None:
    assert configuration_of(container) == path


def test_the_registry_s_own_program_collects() -> None:
    assert place_of(_NAME, _pod(_container(command=["/opt/registry", "serve"])), None, None).program == "/opt/registry"
    assert place_of(_NAME, _pod(_container(command=["/entry.sh"])), None, None) == Place(
        "registry", "storage", _DEFAULT, None, "registry"
    )


@pytest.mark.parametrize(
    ("mount", "source", "found"),
    [
        ({"mountPath": "/etc/registry"}, {"name": "c"}, ConfigurationSource("c", "config.yml")),
        (
            {"mountPath": "/etc/registry"},
            {"name": "c", "items": [{"key": "main", "path": "config.yml"}]},
            ConfigurationSource("c", "main"),
        ),
        (
            {"mountPath": "/etc/registry/config.yml", "subPath": "registry.yml"},
            {"name": "c"},
            ConfigurationSource("c", "registry.yml"),
        ),
        ({"mountPath": "/etc/other"}, {"name": "c"}, None),
        ({"mountPath": "/etc/registry/other.yml", "subPath": "x"}, {"name": "c"}, None),
    ],
)
def test_a_configuration_in_a_config_map_is_found(
    mount: dict[str, Any], source: dict[str, Any], found: ConfigurationSource | None
) -> None:
    container = {"name": "registry", "volumeMounts": [{"name": "config", **mount}]}
    pod = _pod(container, volumes=[{"name": "config", "configMap": source}])
    assert configuration_source(pod, container, "/etc/registry/config.yml") == found


def _with(volume: dict[str, Any], **pod: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of a pod
    container = {"name": "registry", "volumeMounts": [{"name": "data", "mountPath": "/var/lib/registry"}]}
    return {"containers": [container], "volumes": [{"name": "data", **volume}], **pod}


@pytest.mark.parametrize(
    "volume",
    [
        {"emptyDir": {}},
        {"ephemeral": {}},
        {"csi": {"driver": "d"}},
        {"image": {}},
        {"somethingNew": {}},
        {"hostPath": {"path": "/srv"}},
        {},
    ],
)
def test_a_storage_that_may_go_with_its_pods_is_not_collected(volume: dict[str, Any]) -> None:
    with pytest.raises(UnfitWorkloadError, match="use a PersistentVolumeClaim"):
        place_of(_NAME, _with(volume), None, None)


def _required(*expressions: dict[str, Any], part: str = "matchExpressions", terms: int = 1) -> dict[str, Any]:
    """Return the affinity of a pod to nodes."""
    required = {"nodeSelectorTerms": [{part: list(expressions)}] * terms}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


@pytest.mark.parametrize(
    "pod",
    [
        {"nodeSelector": {"kubernetes.io/os": "linux"}},
        {"nodeSelector": {"node-role.kubernetes.io/worker": ""}},
        _required({"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}),
        _required({"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["n"]}),
        _required({"key": "kubernetes.io/hostname", "operator": "In", "values": ["n", "m"]}),
        _required({"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]}, terms=2),
    ],
)
def test_a_folder_of_a_node_is_not_collected_where_several_nodes_may_have_the_pods(pod: dict[str, Any]) -> None:
    """After the rollout the registry would come up where that folder is empty."""
    with pytest.raises(UnfitWorkloadError, match="pin them to it"):
        place_of(_NAME, _with({"hostPath": {"path": "/srv"}}, **pod), None, None)


@pytest.mark.parametrize(
    "pod",
    [
        {"nodeName": "n"},
        {"nodeSelector": {"kubernetes.io/hostname": "n"}},
        _required({"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]}),
        _required({"key": "metadata.name", "operator": "In", "values": ["n"]}, part="matchFields"),
        _required(
            {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]},
        ),
    ],
)
def test_a_folder_of_a_node_that_the_pods_stay_on_is_collected(pod: dict[str, Any]) -> None:
    assert place_of(_NAME, _with({"hostPath": {"path": "/srv"}}, **pod), None, None).volume == "data"


@pytest.mark.parametrize(
    "volume", [{"persistentVolumeClaim": {"claimName": "c"}}, {"nfs": {"server": "s", "path": "/"}}]
)
def test_a_storage_that_outlives_its_pods_is_collected(volume: dict[str, Any]) -> None:
    assert place_of(_NAME, _with(volume), None, None).volume == "data"


@pytest.mark.parametrize("folder", ["/etc/docker/registry", "/etc/distribution"])
def test_a_configuration_at_the_image_s_default_path_is_read_without_arguments(folder: str) -> None:
    container = _container(mounts={"data": "/data", "config": folder})
    volumes = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "d"}},
        {"name": "config", "configMap": {"name": "c"}},
    ]
    pod = _pod(container, volumes=volumes)
    assert configuration_of(container) is None
    assert configuration_source(pod, container, None) == ConfigurationSource("c", "config.yml")
    assert place_of(_NAME, pod, None, _configured("/data")).volume == "data"


@pytest.mark.parametrize("cache", ["{blobdescriptor: redis}", "{layerinfo: redis}", "{blobdescriptor: inmemoryish}"])
def test_a_registry_whose_cache_outlives_its_restart_is_unfit(cache: str) -> None:
    configuration = f"storage:\n  cache: {cache}\n  filesystem: {{rootdirectory: {_DEFAULT}}}\n"
    with pytest.raises(UnfitWorkloadError, match="outlive its restart"):
        place_of(_NAME, _pod(_container()), None, configuration)


@pytest.mark.parametrize(
    "variable",
    [
        {"name": "REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR", "value": "redis"},
        {"name": "REGISTRY_STORAGE_CACHE_LAYERINFO", "value": "redis"},
        {"name": "REGISTRY_STORAGE_CACHE", "value": "{blobdescriptor: redis}"},
        {"name": "REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
    ],
)
def test_a_registry_whose_environment_lets_its_cache_outlive_its_restart_is_unfit(variable: dict[str, Any]) -> None:
    with pytest.raises(UnfitWorkloadError, match="outlive its restart"):
        place_of(_NAME, _pod(_container(env=[variable])), None, None)


@pytest.mark.parametrize(
    ("env", "cache"),
    [
        ([], "{blobdescriptor: inmemory}"),
        (_variable("REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR", "inmemory"), "{}"),
        (_variable("REGISTRY_STORAGE_CACHE_BLOBDESCRIPTORSIZE", "100"), "{layerinfo: inmemory}"),
    ],
)
def test_a_cache_in_memory_is_none_to_fear(env: list[dict[str, str]], cache: str) -> None:
    configuration = f"storage:\n  cache: {cache}\n  filesystem: {{rootdirectory: {_DEFAULT}}}\n"
    assert place_of(_NAME, _pod(_container(env=env)), None, configuration).root == _DEFAULT


_SETTLED = [
    *_variable("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", _DEFAULT),
    *_variable("REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR", "inmemory"),
]
_ELSEWHERE = {"valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}


@pytest.mark.parametrize(
    ("container", "words"),
    [
        (_container(mounts={"storage": _DEFAULT, "config": "/etc/docker/registry"}), "'config', which is no ConfigMap"),
        (_container(mounts={"config": "/config"}, args=["/config/config.yml"]), "'config', which is no ConfigMap"),
        (_container(envFrom=[{"secretRef": {"name": "s"}}]), "envFrom"),
        (_container(env=[{"name": "REGISTRY_STORAGE", **_ELSEWHERE}]), "valueFrom"),
        (_container(env=[{"name": "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", **_ELSEWHERE}]), "valueFrom"),
    ],
)
def test_a_registry_that_is_set_up_by_what_nobody_can_read_is_unfit_until_variables_tell(
    container: dict[str, Any], words: str
) -> None:
    """It may keep what it knows of its layers in redis, and say of what was collected that it has it."""
    with pytest.raises(UnfitWorkloadError, match=f"{words}.*set REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY"):
        expect_known(_NAME, container, None)
    expect_known(_NAME, {**container, "env": _SETTLED}, None)


@pytest.mark.parametrize(
    ("container", "source"),
    [
        (_container(), None),
        (_container(mounts={"storage": _DEFAULT, "certificates": "/etc/docker/registry/certs"}), None),
        (_container(mounts={"config": "/etc/docker/registry"}), ConfigurationSource("c", "config.yml")),
        (_container(env=[{"name": "REGISTRY_HTTP_SECRET", **_ELSEWHERE}]), None),
    ],
)
def test_a_registry_whose_configuration_is_read_or_its_image_s_own_is_known(
    container: dict[str, Any], source: ConfigurationSource | None
) -> None:
    expect_known(_NAME, container, source)
