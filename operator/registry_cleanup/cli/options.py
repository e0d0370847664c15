"""Options that several commands share, and what they come to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from registry_cleanup.cli.known import contexts, namespaces
from registry_cleanup.logins.options import ClusterOptions, LoginOptions

_FILE = click.Path(dir_okay=False, path_type=Path)
_READABLE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _certificates(_context: click.Context, _parameter: click.Parameter, file: Path | None) -> str | None:
    """Return the text of a file of certificates."""
    if file is None:
        return None
    import ssl  # which no command needs to start

    try:
        text = file.read_text()
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except OSError as error:
        # An error of ssl is an OSError too.
        why = "it holds no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise click.BadParameter(f"{file}: {why}") from error
    except ValueError as error:
        raise click.BadParameter(f"{file}: it holds no PEM certificate") from error
    return text


def _hosts(_context: click.Context, _parameter: click.Parameter, hosts: tuple[str, ...]) -> tuple[str, ...]:
    """See that hosts are such."""
    if hosts:
        from registry_cleanup.domain.trust import Host

        for host in hosts:
            try:
                Host.parse(host)
            except ValueError as error:
                raise click.BadParameter(f"{host!r} is not HOST or HOST:PORT") from error
    return hosts


def _password(username: str | None, password_stdin: bool, filename: object) -> str | None:
    """Return the password from standard input, if it is to be read there."""
    if password_stdin != (username is not None):
        raise click.UsageError("--username and --password-stdin go together")
    if username is None:
        return None
    if not username or ":" in username:
        raise click.UsageError("--username is empty or holds a colon, which no registry can take")
    if str(filename) == "-":
        raise click.UsageError("--password-stdin and -f - cannot both read standard input; write the policy to a file")
    try:
        password = sys.stdin.read()
    except UnicodeDecodeError as error:
        raise click.UsageError("--password-stdin reads text, and this is none") from error
    password = password.removesuffix("\n").removesuffix("\r")
    if not password:
        raise click.UsageError("--password-stdin reads an empty password")
    return password


def login_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the options of a login, which it gets as `login: LoginOptions`."""

    @click.option("-u", "--username", help="User name; the password comes with --password-stdin.")
    @click.option("--password-stdin", is_flag=True, help="Read the password, or a token, from standard input.")
    @click.option(
        "-a",
        "--registry-config",
        "--authfile",
        type=_READABLE,
        envvar="REGISTRY_AUTH_FILE",
        show_envvar=True,
        help="File with logins, as docker login, podman login and oc registry login write it.",
    )
    @click.option(
        "--certificate-authority",
        "--tlscacert",
        "ca_bundle",
        type=_READABLE,
        callback=_certificates,
        help="File with PEM certificates to believe besides the system's.",
    )
    @click.option(
        "--insecure",
        "--insecure-skip-tls-verify",
        "insecure",
        is_flag=True,
        help="Accept plain http, or any certificate.",
    )
    @click.option(
        "--token-host",
        "token_hosts",
        multiple=True,
        metavar="HOST",
        callback=_hosts,
        help="Host that may receive the login besides the registry's own; may be given several times.",
    )
    @wraps(command)
    def with_login(
        *args: Any,  # noqa: ANN401 - those of the command
        username: str | None,
        password_stdin: bool,
        registry_config: Path | None,
        ca_bundle: str | None,
        insecure: bool,
        token_hosts: tuple[str, ...],
        **kwargs: Any,  # noqa: ANN401 - those of the command
    ) -> Any:  # noqa: ANN401 - that of the command
        password = _password(username, password_stdin, kwargs.get("filename"))
        login = LoginOptions(username, password, registry_config, ca_bundle, insecure, token_hosts)
        return command(*args, login=login, **kwargs)

    return with_login


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the options that name a cluster, which it gets as `cluster: ClusterOptions`."""
    return cluster_options_with("Namespace of the policy; default that of the context.")(command)


def cluster_options_with(namespace_help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return `cluster_options` of which the namespace means something else."""
    return partial(_cluster_options, namespace_help=namespace_help)


def _cluster_options(command: Callable[..., Any], namespace_help: str) -> Callable[..., Any]:
    @click.option("--kubeconfig", type=_FILE, help="Kubeconfig to use instead of the usual one.")
    @click.option("--context", shell_complete=contexts, help="Context of the kubeconfig to use.")
    @click.option("-n", "--namespace", shell_complete=namespaces, help=namespace_help)
    @wraps(command)
    def with_cluster(
        *args: Any,  # noqa: ANN401 - those of the command
        kubeconfig: Path | None,
        context: str | None,
        namespace: str | None,
        **kwargs: Any,  # noqa: ANN401 - those of the command
    ) -> Any:  # noqa: ANN401 - that of the command
        return command(*args, cluster=ClusterOptions(kubeconfig, context, namespace), **kwargs)

    return with_cluster
