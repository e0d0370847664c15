"""A kubelet, a scheduler and a kube-proxy of our own for one node: a pod's containers are processes of this machine.

Each pod has network, host name and processes to itself, and each container sees nothing but its image's files and its
volumes, at their paths: in namespaces that an ordinary user may make (`unshare -Urnm`). What it does not do:

- There is one node. A volume with ReadWriteOnce may be used by all its pods at once, as Kubernetes has it for one node;
  ReadWriteOncePod is honoured. Of what tells pods where to go, only `nodeSelector` is; resources are not counted.
- An image is a program of this machine, which the test names (`Image`); `/usr` is this machine's. Nothing is pulled.
- All runs as root in its namespace, which is the test's user outside: `runAsUser`, `fsGroup`, `readOnlyRootFilesystem`
  and the rest of `securityContext` are passed over. Limits of CPU and memory hold nothing back. Volumes have no size,
  unless root makes them with one (`full_at`).
- A pod's address exists within the pod alone. From outside it is reached by `Kubelet.pod_address`, a Service by
  `Kubelet.address`: the same address of loopback on the machine and within every pod. That is the only way from pod
  to pod; a Service has no name (there is no DNS), and its cluster IP leads nowhere. Within a pod such an address
  closes connections while no pod is ready behind it, rather than to refuse them. The API server is reached as ever, by
  KUBERNETES_SERVICE_HOST; the variables of other Services are not set. `hostPort` and `hostNetwork` do nothing.
- Volumes: emptyDir, hostPath, claims on hostPath or local volumes, configMap, secret, projected, downwardAPI. They are
  filled once: a ConfigMap that changes, a token that runs out are not followed. Storage is not provisioned:
  `Kubelet.volume` makes volumes, of no storage class.
- Probes of the kinds exec, tcpSocket and httpGet. Hooks (`preStop`), sidecars among the init containers, ephemeral
  containers, readiness gates and static pods are not there. `kubectl logs` works, `exec` and `attach` do not:
  `Kubelet.execute` does.
- It writes no events. It is not started again: pods that it left behind would have lost their processes.
- The back-off of restarts is as short as the test says.
"""

from tests.support.kubelet.faults import Faults
from tests.support.kubelet.images import Image, distribution_image, python_image, shell_image
from tests.support.kubelet.node import Kubelet, kubelet, unavailable

__all__ = [
    "Faults",
    "Image",
    "Kubelet",
    "distribution_image",
    "kubelet",
    "python_image",
    "shell_image",
    "unavailable",
]
