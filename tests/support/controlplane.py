"""A Kubernetes control plane on loopback: etcd, kube-apiserver and, when asked for, kube-controller-manager.

Nothing starts a pod unless a test runs our kubelet too (`tests/support/kubelet`). Without kube-controller-manager a
namespace's deletion never finishes and no Deployment makes pods: use a fresh namespace per test and do not wait for
its end.
"""

import json
import secrets
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.support.binaries import binary
from tests.support.certificates import CertificateAuthority, certificate_authority
from tests.support.processes import Process, free_port, running, wait_until

_START_LIMIT = 60.0
_ISSUER = "https://kubernetes.default.svc.cluster.local"


class KubectlError(Exception):
    """A kubectl command failed; the message is what it said."""


@dataclass(frozen=True)
class ControlPlane:
    """A running control plane.

    Attributes:
        url: Of the API server.
        ca_file: PEM file of the authority of the API server's certificate.
        admin_kubeconfig: For a member of system:masters.
        admin_token: The same member's bearer token.
        requestheader_ca_file: PEM file with the authority of the certificate that the API server shows an
            aggregated API, which may believe the user in the headers of whoever shows such a one.
        folder: Data, logs and kubeconfigs.
        etcd_url: Of etcd, which asks nobody who they are.
    """

    url: str
    ca_file: Path
    admin_kubeconfig: Path
    admin_token: str = field(repr=False)
    requestheader_ca_file: Path
    folder: Path
    etcd_url: str
    _api_server: "_ApiServer" = field(repr=False)

    def token_for_service_account(self, namespace: str, name: str, expiration_seconds: int = 3600) -> str:
        """Return a token as the kubelet would mount it; the API server grants 600 seconds or more."""
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": expiration_seconds},
        }
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        answer = self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(request))
        token: str = json.loads(answer)["status"]["token"]
        return token

    def kubeconfig_for_service_account(self, namespace: str, name: str) -> Path:
        """Return the kubeconfig of a ServiceAccount, with a token for a day."""
        file = self.folder / f"{namespace}.{name}.kubeconfig"
        token = self.token_for_service_account(namespace, name, 24 * 3600)
        return _write_kubeconfig(file, self.url, self.ca_file, token, namespace)

    def kubectl(
        self, *arguments: str, kubeconfig: Path | None = None, stdin: str | None = None, check: bool = True
    ) -> str:
        """Run kubectl, as the administrator unless told otherwise, and return what it printed.

        Without `check` a failure is no exception: its message follows what was printed.
        """
        done = subprocess.run(
            [
                Path(sys.executable).parent / "kubectl",
                f"--kubeconfig={kubeconfig or self.admin_kubeconfig}",
                f"--cache-dir={self.folder / 'kubectl-cache'}",
                *arguments,
            ],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return done.stdout
        if check:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}")
        return done.stdout + done.stderr

    def wait_for_crds(self, *names: str) -> None:
        """Wait until these kinds are served. `kubectl wait` gives up on a CRD that has no conditions yet."""
        path = '-o=jsonpath={.status.conditions[?(@.type=="Established")].status}'
        for name in names:
            wait_until(lambda: self.kubectl("get", "crd", name, path, check=False) == "True", 30, f"CRD {name}")  # noqa: B023 - called at once

    @contextmanager
    def api_server_down(self) -> Iterator[None]:
        """Keep the API server stopped as long as the context lasts; etcd keeps what it knows."""
        self._api_server.stop()
        try:
            yield
        finally:
            self._api_server.start()


@contextmanager
def control_plane(
    folder: Path, *, controller_manager: bool = False, admit_service_accounts: bool = False
) -> Iterator[ControlPlane]:
    """Run a control plane.

    Args:
        folder: For its data and logs.
        controller_manager: Whether kube-controller-manager runs too.
        admit_service_accounts: Whether pods get a ServiceAccount with its token, as on a cluster; that account must be
            there before the pod, so this wants a controller manager.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority = certificate_authority(folder / "certificates")
    tokens = {"admin": secrets.token_hex(16), "kube-controller-manager": secrets.token_hex(16)}
    _write_tokens(folder / "tokens.csv", tokens)
    with ExitStack() as stack:
        etcd_url = _start_etcd(folder, stack)
        server = _ApiServer(folder, authority, etcd_url, admit_service_accounts=admit_service_accounts)
        stack.callback(server.stop)
        server.start()
        ca_file = authority.ca_file
        admin = _write_kubeconfig(folder / "admin.kubeconfig", server.url, ca_file, tokens["admin"])
        plane = ControlPlane(
            url=server.url,
            ca_file=ca_file,
            admin_kubeconfig=admin,
            admin_token=tokens["admin"],
            requestheader_ca_file=server.requestheader_ca_file,
            folder=folder,
            etcd_url=etcd_url,
            _api_server=server,
        )
        if controller_manager:
            own = folder / "kube-controller-manager.kubeconfig"
            _write_kubeconfig(own, server.url, ca_file, tokens["kube-controller-manager"])
            _start_controller_manager(plane, own, stack)
        yield plane


def _start_etcd(folder: Path, stack: ExitStack) -> str:
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    command: list[str | Path] = [
        binary("etcd"),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        # What a test writes need not survive a power cut, and a slow disk would slow every test.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    process = stack.enter_context(running("etcd", command, folder / "logs" / "etcd.log"))
    with httpx.Client(trust_env=False) as client_of_etcd:
        wait_until(lambda: _is_ok(client_of_etcd, f"{client}/health"), _START_LIMIT, "etcd", process)
    return client


class _ApiServer:
    """The API server's process, which can be stopped and started again on the same port."""

    def __init__(
        self, folder: Path, authority: CertificateAuthority, etcd_url: str, *, admit_service_accounts: bool
    ) -> None:
        port = free_port()
        self.url = f"https://127.0.0.1:{port}"
        self._log = folder / "logs" / "kube-apiserver.log"
        self._trust = authority.client_context()
        self._process: Process | None = None
        serving = authority.issue("127.0.0.1", "localhost", "kubernetes.default.svc")
        public, private = _write_service_account_keys(folder / "certificates")
        aggregation = certificate_authority(folder / "aggregation")
        self.requestheader_ca_file = aggregation.ca_file
        self._command: list[str | Path] = [
            binary("kube-apiserver"),
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            # A loopback address may not become an endpoint of the Service `kubernetes`.
            "--endpoint-reconciler-type=none",
            f"--secure-port={port}",
            f"--cert-dir={folder / 'certificates'}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--service-account-issuer={_ISSUER}",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={private}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            # It wants a default ServiceAccount in every namespace, which only kube-controller-manager makes.
            *([] if admit_service_accounts else ["--disable-admission-plugins=ServiceAccount"]),
            # As on OpenShift: who sets owners of what is there must be allowed to delete it.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            "--profiling=false",
            *_aggregation_flags(aggregation),
        ]

    def start(self) -> None:
        self._process = Process("kube-apiserver", self._command, self._log)
        with httpx.Client(trust_env=False, verify=self._trust) as client:
            ready = f"{self.url}/readyz"
            wait_until(lambda: _is_ok(client, ready), _START_LIMIT, "kube-apiserver", self._process)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None


def _aggregation_flags(authority: CertificateAuthority) -> list[str]:
    """Return what lets the API server pass requests on to an aggregated API, with the user in headers."""
    proxy = authority.issue("front-proxy.test", common_name="front-proxy")
    return [
        # Off, a Service of type ExternalName `localhost` leads to a server of the test's own; on, it would take
        # endpoints, which may not be on loopback.
        "--enable-aggregator-routing=false",
        f"--proxy-client-cert-file={proxy.certificate}",
        f"--proxy-client-key-file={proxy.key}",
        f"--requestheader-client-ca-file={authority.ca_file}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    ]


def _start_controller_manager(plane: ControlPlane, kubeconfig: Path, stack: ExitStack) -> None:
    certificates = plane.folder / "certificates"
    command: list[str | Path] = [
        binary("kube-controller-manager"),
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
        # Who binds claims to volumes looks again after 15 seconds otherwise.
        "--pvclaimbinder-sync-period=1s",
        f"--service-account-private-key-file={certificates / 'service-accounts.key'}",
        f"--root-ca-file={plane.ca_file}",
    ]
    log = plane.folder / "logs" / "kube-controller-manager.log"
    process = stack.enter_context(running("kube-controller-manager", command, log))
    with httpx.Client(
        base_url=plane.url,
        trust_env=False,
        verify=ssl.create_default_context(cafile=str(plane.ca_file)),
        headers={"Authorization": f"Bearer {plane.admin_token}"},
    ) as client:
        # The first thing that it visibly does.
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        wait_until(lambda: _is_ok(client, account), _START_LIMIT, "kube-controller-manager", process)


def _is_ok(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).is_success
    except httpx.TransportError:
        return False


def _write_service_account_keys(folder: Path) -> tuple[Path, Path]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public, private = folder / "service-accounts.pub", folder / "service-accounts.key"
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    private.chmod(0o600)
    return public, private


def _write_tokens(file: Path, tokens: dict[str, str]) -> None:
    file.touch(mode=0o600)
    file.write_text("".join(f"{token},{user},{user},system:masters\n" for user, token in tokens.items()))


def _write_kubeconfig(file: Path, url: str, ca_file: Path, token: str, namespace: str = "default") -> Path:
    """Write a kubeconfig, as JSON, which is YAML too."""
    context = {"cluster": "test", "user": "test", "namespace": namespace}
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": str(ca_file)}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": context}],
    }
    file.touch(mode=0o600)
    file.write_text(json.dumps(config, indent=2))
    return file
