"""What a person is told to do where a registry cannot be reached or does not let him in."""

from __future__ import annotations

from dataclasses import dataclass

from registry_cleanup.domain.trust import Endpoint
from registry_cleanup.ports import LoginWords

_GIVE = "give --username with --password-stdin"


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a login when people are told of it.

    Attributes:
        url: of the registry; empty before it is known.
        of_policy: fields of the policy that name another login or CA, which is the operator's.
        given: whether it came by options.
        where: it is from, if it was found.
        searched: places that have none.
        notes: why the kubeconfig's token was of no use.
    """

    url: str
    of_policy: tuple[str, ...] = ()
    given: bool = False
    where: str = ""
    searched: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def words_of(told: Told) -> LoginWords:
    """Return what people are told."""
    address = f"check the address {told.url}" if told.url else "check the registry's address"
    host = Endpoint.of(told.url).host_port if told.url else "the registry"
    no_login = _no_login(told, host) + _of_policy(told, "secretRef", "serviceAccountName")
    wrong = _wrong(told, host) + _of_policy(told, "secretRef", "serviceAccountName")
    return LoginWords(
        no_login=no_login,
        no_login_of_any_kind=no_login,
        wrong_password=wrong,
        wrong_credential=wrong,
        whose_token=f"the token from {told.where or 'the options'}",
        refused_by_openshift=f"{wrong}; does the cluster's API server answer?",
        over_http="a password or token goes over http only with --insecure, or insecure: true in the policy",
        to_other_host="if it should, allow it with --token-host {host}",
        address=address,
        unreachable=f"{address}, its DNS name, and whether a proxy or a VPN is needed",
        unknown_ca="name its CA with --certificate-authority FILE, or accept any certificate with --insecure"
        + _of_policy(told, "caConfigMapRef"),
        plain_http="write http:// in its address, and accept that with --insecure, or insecure: true in a policy",
        no_certificate="the file of --certificate-authority holds no PEM certificate",
    )


def _no_login(told: Told, host: str) -> str:
    searched = f" in {', '.join(told.searched)}" if told.searched else ""
    notes = "".join(f"; {note}" for note in told.notes)
    return f"none for {host} was found{searched}: docker login or podman login stores one, or {_GIVE}{notes}"


def _wrong(told: Told, host: str) -> str:
    if told.given:
        return "check --username and what --password-stdin reads"
    if told.where == "the kubeconfig":
        return "its token is the kubeconfig's: oc login again"
    return f"the login for {host} is from {told.where}: renew it there, or {_GIVE}"


def _of_policy(told: Told, *fields: str) -> str:
    """Say that what the policy names is not what counts here."""
    named = [field for field in told.of_policy if field in fields]
    return f" (the policy's {named[0]} is for the operator; a command takes your own)" if named else ""
