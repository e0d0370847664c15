"""Certificates of the tests: an authority made in a folder, and what it issues."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import trustme


@dataclass(frozen=True)
class ServerCertificate:
    """A certificate with its key, in files as servers want them.

    Attributes:
        certificate: PEM file with the certificate chain.
        key: PEM file with the private key.
        ca_file: PEM file with the authority that issued it.
    """

    certificate: Path
    key: Path
    ca_file: Path


@dataclass(frozen=True)
class CertificateAuthority:
    """An authority that nobody trusts but who is given its file.

    Attributes:
        folder: Where it writes its files.
        ca_file: PEM file with its certificate.
    """

    folder: Path
    ca_file: Path
    _ca: trustme.CA = field(repr=False)

    def issue(self, *identities: str, common_name: str | None = None) -> ServerCertificate:
        """Issue a certificate, good for servers and for clients."""
        leaf = self._ca.issue_cert(*identities, common_name=common_name)
        name = (common_name or identities[0]).replace(":", "-").replace("*", "any")
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        leaf.private_key_pem.write_to_path(str(key))
        certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key.chmod(0o600)
        return ServerCertificate(certificate, key, self.ca_file)

    def client_context(self) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.ca_file))


def certificate_authority(folder: Path) -> CertificateAuthority:
    """Make an authority whose files live in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    ca_file = folder / "ca.crt"
    authority.cert_pem.write_to_path(str(ca_file))
    return CertificateAuthority(folder, ca_file, authority)
