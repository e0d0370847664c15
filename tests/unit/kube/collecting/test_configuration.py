"""A registry's configuration is read as far as it is plain, and takes nobody's time or memory."""

import tracemalloc

import pytest

from registry_cleanup.domain.collection import WorkloadName
from registry_cleanup.kube.collecting.configuration import StorageSettings, storage_settings
from registry_cleanup.kube.collecting.storage import UnfitWorkloadError, place_of

_MIB = 1024 * 1024


def _levels(first: str, line: str, levels: int) -> str:
    """Return YAML each of whose levels stands for nine of the one before."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{level}: &a{level} {line % ','.join(9 * [f'*a{level - 1}'])}" for level in range(1, levels)]
    return "\n".join(lines)


_BOMBS = [
    _levels("[x]", "[%s]", 7) + "\nstorage: {cache: {blobdescriptor: *a6}}",
    _levels("{k: 1}", "{<<: [%s]}", 6),
    "storage: " + 20_000 * "[",
    "storage: " + 100 * "[" + 100 * "]",
    f"storage: {{filesystem: {{rootdirectory: /{'x' * 100_000}}}}}",
    "storage: {filesystem: {rootdirectory: 5}}",
    "storage: {filesystem: /data}",
    "storage: {cache: [redis]}",
]


@pytest.mark.parametrize("text", _BOMBS, ids=range(len(_BOMBS)))
def test_what_is_no_plain_configuration_makes_a_workload_unfit_at_once(text: str) -> None:
    """Who may write a ConfigMap must not end the operator, which has half a gigabyte for all policies."""
    pod = {"containers": [{"name": "registry", "volumeMounts": [{"name": "s", "mountPath": "/var/lib/registry"}]}]}
    tracemalloc.start()
    try:
        with pytest.raises(UnfitWorkloadError) as caught:
            place_of(WorkloadName("Deployment", "registry"), pod, None, text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * _MIB
    assert len(str(caught.value)) < 1000


def test_driver_root_and_caches_are_read() -> None:
    text = "storage: {delete: {enabled: true}, cache: {blobdescriptor: redis}, filesystem: {rootdirectory: /data}}"
    assert storage_settings(text) == StorageSettings("filesystem", "/data", ("redis",))
    assert storage_settings("storage: {s3: {bucket: x}}").driver == "s3"
    assert storage_settings("") == storage_settings("storage:") == StorageSettings()
    assert storage_settings("storage: {cache: {layerinfo: {a: b}}}").caches == ("dict",)
