"""Which pods may go to the node. Nothing here waits."""

from collections.abc import Iterable, Mapping

from tests.support.kubelet.api import Document


def why_not(pod: Document, labels: Mapping[str, str], claims: Iterable[Document], others: Iterable[Document]) -> str:
    """Return why a pod cannot go to the node, empty where it can.

    Args:
        pod: It has no node yet.
        labels: The node's.
        claims: All claims of volumes.
        others: The pods on the node.
    """
    for key, value in pod["spec"].get("nodeSelector", {}).items():
        if labels.get(key) != value:
            return "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    namespace = pod["metadata"]["namespace"]
    found = {claim["metadata"]["name"]: claim for claim in claims if claim["metadata"]["namespace"] == namespace}
    for name in claims_of(pod):
        if name not in found:
            return f'0/1 nodes are available: persistentvolumeclaim "{name}" not found.'
        if found[name].get("status", {}).get("phase") != "Bound":
            return "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
        alone = "ReadWriteOncePod" in found[name]["spec"].get("accessModes", [])
        if alone and any(_uses(other, namespace, name) for other in others):
            return "0/1 nodes are available: 1 node has pod using PersistentVolumeClaim with ReadWriteOncePod mode."
    return ""


def claims_of(pod: Document) -> list[str]:
    """Return the names of the claims that a pod uses."""
    volumes = pod["spec"].get("volumes", [])
    return [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]


def _uses(pod: Document, namespace: str, claim: str) -> bool:
    over = pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}
    return not over and pod["metadata"]["namespace"] == namespace and claim in claims_of(pod)
