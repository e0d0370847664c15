"""OpenShift's image pruner on a node of ours: the CronJob as the cluster's image registry operator makes it.

Its container is a shell that stands for `oc adm prune images`: what it does is up to the test, its words are the real
ones.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from registry_cleanup.domain.image_pruner import CRON_JOB, NAMESPACE
from tests.support.kubelet import Kubelet
from tests.support.operator import NAMESPACE as OPERATORS
from tests.support.operator import REPOSITORY_ROOT
from tests.support.processes import wait_until
from tests.support.spaces import LIMIT, SHELL, Document, Space, space

MANIFESTS = REPOSITORY_ROOT / "manifests" / "openshift-image-pruner"
ARGUMENTS = (
    *("adm", "prune", "images", "--confirm=true"),
    "--certificate-authority=/var/run/configmaps/serviceca/service-ca.crt",
    *("--keep-tag-revisions=3", "--keep-younger-than=60m", "--ignore-invalid-refs=true", "--loglevel=1"),
    *("--prune-registry=true", "--registry-url=https://image-registry.openshift-image-registry.svc:5000"),
)


@contextmanager
def pruner_space(node: Kubelet) -> Iterator[Space]:
    """Make the namespace of OpenShift's registry with the ServiceAccount and ConfigMap that the pruner needs."""
    # Another test's namespace of that name may still be on its way out.
    names = ("get", "namespace", NAMESPACE, "--ignore-not-found", "--output=name")
    wait_until(lambda: not node.plane.kubectl(*names), LIMIT, f"the end of the former {NAMESPACE}")
    with space(node, NAMESPACE) as made:
        made.kubectl("create", "serviceaccount", "pruner")
        made.kubectl("create", "configmap", "serviceca", "--from-literal=service-ca.crt=none")
        yield made


def grant(node: Kubelet, namespace: str) -> None:
    """Apply the Role that we ship, with its binding, to an operator that is installed in `namespace`."""
    rendered = node.plane.kubectl("kustomize", str(MANIFESTS))
    node.plane.kubectl("apply", "-f", "-", stdin=rendered.replace(OPERATORS, namespace))


def cron_job(
    script: str = "exit 0",
    *,
    suspend: bool = False,
    arguments: Sequence[str] = ARGUMENTS,
    **more: Any,  # noqa: ANN401 - fields of the CronJob's spec
) -> Document:
    """Return the CronJob with `script` in place of `oc`; its schedule never comes while a test runs.

    Args:
        script: of the shell, which sees the arguments of `oc` as its own.
        suspend: as the ImagePruner of the cluster says.
        arguments: of `oc`.
        more: fields of the CronJob's spec.
    """
    container = {
        "name": CRON_JOB,
        "image": SHELL,
        "command": ["sh", "-c", script, "oc"],
        "args": list(arguments),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "serviceca", "mountPath": "/var/run/configmaps/serviceca", "readOnly": True}],
    }
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": "pruner",
        "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "serviceca", "configMap": {"name": "serviceca"}}],
        "containers": [container],
    }
    template = {
        "metadata": {"labels": {"created-by": CRON_JOB}},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }
    spec = {
        "schedule": "0 0 1 1 *",
        "suspend": suspend,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 3600,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": template,
        **more,
    }
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": CRON_JOB}, "spec": spec}
