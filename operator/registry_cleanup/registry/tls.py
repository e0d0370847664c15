"""Whose certificates are believed."""

from __future__ import annotations

import ssl
from functools import lru_cache

from registry_cleanup.domain.run import Failure
from registry_cleanup.ports import POLICY_WORDS, RunError


# Each holds the system's certificates, a megabyte that took 20 ms to read: runs share it, and never change it.
@lru_cache(maxsize=32)
def tls_context(
    *, insecure: bool, ca_bundle: str | None, no_certificate: str = POLICY_WORDS.no_certificate
) -> ssl.SSLContext:
    """Return the TLS settings of a policy.

    Args:
        insecure: believe any certificate; the policy must say so.
        ca_bundle: PEM certificates that are believed besides the system's.
        no_certificate: what people are told if it holds none.

    Raises:
        RunError: the bundle holds no certificate.
    """
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if ca_bundle is not None:
        try:
            context.load_verify_locations(cadata=ca_bundle)
        except (ssl.SSLError, ValueError) as error:
            raise RunError(Failure("InvalidCABundle", no_certificate, mendable=True)) from error
    return context
