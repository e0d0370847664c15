"""What the administrator of the operator decides, read once from the environment (`REGISTRY_CLEANUP_…`)."""

from __future__ import annotations

import inspect
import os
import re
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from registry_cleanup.domain.duration import parse_period
from registry_cleanup.domain.policy import RepositoryGlob, TagPattern
from registry_cleanup.domain.tenancy import Bounds, HostGlob, Reach
from registry_cleanup.domain.trust import Host

PREFIX = "REGISTRY_CLEANUP_"
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MOST_DELETIONS = 1_000_000  # of limits.maxDeletions, by the CRD

Words = Annotated[tuple[str, ...], NoDecode]
"""Several words in one variable, separated by commas or white space."""
Patterns = Annotated[tuple[str, ...], NoDecode]
"""Several regular expressions in one variable, which may hold commas, separated by white space."""


class Settings(BaseSettings):
    """The operator's settings; wrong ones stop the start, all of them named.

    `--help` and `--check` print what stands here of each. Those of the first part bound every policy.

    Attributes:
        allowed_registries: hosts that policies may name (globs of `host[:port]`, separated by commas; `*` stands for
            any characters; without a port, any port); link-local addresses are refused always.
        trusted_token_hosts: hosts (`host[:port]`, separated by commas; without a port, any port) that may receive
            credentials of policies besides the registry's own; for OpenShift's registry none is needed.
        protected_repositories: globs of repositories in which nothing is ever pruned, as in `spec.repositories`,
            separated by commas.
        protected_tags: tags that are never pruned, as in `spec.keepTags` (RE2, fully anchored), separated by white
            space.
        smallest_interval: least time between two scheduled times of a policy's runs, or of its collections, such as
            `1h`; `0s` for no bound.
        max_deletions: tags that one run may prune, where its policy's limits.maxDeletions says more; an approval does
            not go past it.
        max_concurrency: requests at one registry host at a time, of all policies together.
        max_requests_per_second: at one registry host, of all policies together; 0 for no limit.
        allow_insecure: whether policies may use plain http and unverified certificates (`spec.registry.insecure`).
        plan_only: whether all policies are only planned, whatever their `spec.dryRun` says.
        namespaces: whose policies the operator sees, separated by commas, as `--namespace`; none for all.
        in_use_scope: where the look at what is in use goes: `Cluster`, or only `Namespaces`, those above, which is
            safe only where no other namespace uses the registries.
        concurrent_runs: so many policies run at a time.
        concurrent_requests: of one run at a time, where its policy has no `limits.maxConcurrency`.
        health_port: where `/healthz`, `/readyz` and `/metrics` answer; 0 for nowhere.
        log_format: `json` for machines, `text` for people.
        service_account: the operator's own, `namespace:name`: the Lease is in that namespace, and messages tell what
            to grant to whom.
        leader_election: whether operators agree by a Lease on the one that works; without it there may be one only.
        identity: what this operator calls itself in the Lease; no other may be called the same. The Deployment names
            the pod, so that a container that is started anew goes on at once; default the host's name and something
            random.
        lease_seconds: after which others take over from an operator that went without a word; it gives up by itself
            after two thirds of that.
        schedule_jitter_seconds: scheduled runs start up to so many seconds late, each policy's by its UID, so that not
            all of one minute start at once; 0 for none.
        cache_dir: folder of the cache of facts, which spares the second run what a digest says already; none for no
            cache. What is in it may be deleted at any time.
        cache_mib: size of that cache at most, about 700 bytes for an image; its volume needs half as much again; 0 for
            no cache.
        operator_image: image of this program, by which a Job that collects garbage measures the storage; by default
            that of the operator's own pod.
        stop_seconds: how long a run may take to reach a safe point once the operator is told to stop.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    allowed_registries: Words = ("*",)
    trusted_token_hosts: Words = ()
    protected_repositories: Words = ()
    protected_tags: Patterns = ()
    smallest_interval: str = "0s"
    max_deletions: int = Field(default=_MOST_DELETIONS, ge=1, le=_MOST_DELETIONS)
    max_concurrency: int = Field(default=16, ge=1, le=256)
    max_requests_per_second: float = Field(default=0.0, ge=0, le=100_000, allow_inf_nan=False)
    allow_insecure: bool = True
    plan_only: bool = False

    namespaces: Words = ()
    in_use_scope: Literal["Cluster", "Namespaces"] = "Cluster"

    concurrent_runs: int = Field(default=4, ge=1, le=100)
    concurrent_requests: int = Field(default=16, ge=1, le=256)
    health_port: int = Field(default=8080, ge=0, le=65535)
    log_format: Literal["json", "text"] = "json"
    service_account: str = Field(
        default="registry-cleanup-system:registry-cleanup", pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?:[a-z0-9.-]+$"
    )
    leader_election: bool = True
    identity: str = Field(default_factory=lambda: f"{socket.gethostname()}-{secrets.token_hex(4)}", min_length=1)
    lease_seconds: int = Field(default=15, ge=3, le=3600)
    schedule_jitter_seconds: int = Field(default=60, ge=0, le=3600)
    cache_dir: str = ""
    cache_mib: int = Field(default=256, ge=0, le=65_536)
    operator_image: str = ""
    stop_seconds: float = Field(default=45.0, ge=0)

    @field_validator("allowed_registries", "trusted_token_hosts", "protected_repositories", "namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("protected_tags", mode="before")
    @classmethod
    def _split_patterns(cls, value: object) -> object:
        return tuple(value.split()) if isinstance(value, str) else value

    @field_validator("allowed_registries")
    @classmethod
    def _registries(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("is empty, so that no policy could run; write '*' for any registry")
        return _each(HostGlob, value)

    @field_validator("trusted_token_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _each(Host.parse, value)

    @field_validator("protected_repositories")
    @classmethod
    def _repositories(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _each(RepositoryGlob, value)

    @field_validator("protected_tags")
    @classmethod
    def _tags(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # No tag has a comma, so a pattern that wants one would protect nothing.
        if any("," in re.sub(r"\{\d*,\d*\}", "", pattern) for pattern in value):
            raise ValueError("has a comma outside of a repetition such as {1,3}; separate the patterns by white space")
        return _each(TagPattern, value)

    @field_validator("smallest_interval")
    @classmethod
    def _interval(cls, value: str) -> str:
        parse_period(value)
        return value

    @field_validator("namespaces")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_each(_check_namespace, value)))

    @field_validator("in_use_scope")
    @classmethod
    def _has_namespaces(cls, value: str, known: ValidationInfo) -> str:
        if value == "Namespaces" and known.data.get("namespaces") == ():
            raise ValueError(f"Namespaces needs the setting {PREFIX}NAMESPACES or --namespace; name some, or leave it")
        return value

    @property
    def namespace(self) -> str:
        """The operator's own namespace."""
        return self.service_account.partition(":")[0]

    @property
    def token_hosts(self) -> tuple[Host, ...]:
        """The trusted hosts, parsed."""
        return tuple(Host.parse(text) for text in self.trusted_token_hosts)

    @property
    def reach(self) -> Reach:
        """Where the look at what is in use goes."""
        return Reach(self.namespaces if self.in_use_scope == "Namespaces" else (), confined=bool(self.namespaces))

    @property
    def bounds(self) -> Bounds:
        """What bounds every policy, parsed."""
        return Bounds(
            tuple(HostGlob(text) for text in self.allowed_registries),
            self.token_hosts,
            tuple(RepositoryGlob(text) for text in self.protected_repositories),
            tuple(TagPattern(text) for text in self.protected_tags),
            parse_period(self.smallest_interval),
            self.max_deletions,
            self.allow_insecure,
        )


class WrongSettingsError(Exception):
    """Settings that cannot be obeyed.

    Attributes:
        problems: each with the variable that it is about, and what to write instead.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def read_settings(namespaces: Sequence[str] = ()) -> Settings:
    """Return the settings; raise `WrongSettingsError` with all that is wrong with them.

    A variable of our prefix that is no setting is wrong too: a bound with a mistyped name would bound nothing.

    Args:
        namespaces: of the command line, which go before those of the environment.
    """
    problems = [
        f"{name}: is no setting of this operator; correct it, or remove it (--help lists them all; where it is the "
        "Service of a namespace, set enableServiceLinks: false)"
        for name in sorted(os.environ)
        if name.upper().startswith(PREFIX) and name.upper().removeprefix(PREFIX).lower() not in Settings.model_fields
    ]
    given: dict[str, Any] = {"namespaces": tuple(namespaces)} if namespaces else {}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        problems = [_explain(problem) for problem in error.errors()] + problems
        raise WrongSettingsError(problems) from error
    if problems:
        raise WrongSettingsError(problems)
    return settings


def described() -> dict[str, str]:
    """Return what each setting is, with its default, by its variable: the words of the docstring of `Settings`."""
    text = inspect.cleandoc(Settings.__doc__ or "").partition("Attributes:\n")[2]
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if (match := re.fullmatch(r" {4}(\w+): (.+)", line)) is not None:
            found[match[1]] = [match[2]]
        elif line.strip() and found:
            found[next(reversed(found))].append(line.strip())
    told = {field: text if text is not None else "made up at each start" for field, text in defaults().items()}
    return {
        variable(field): f"{' '.join(found.get(field, ()))} [default: {told[field] or 'none'}]"
        for field in Settings.model_fields
    }


def defaults() -> dict[str, str | None]:
    """Return the default of each setting as a person writes it; None where it is another at each start."""
    made = Settings.model_construct()
    return {
        field: written(made, field) if info.default_factory is None else None
        for field, info in Settings.model_fields.items()
    }


def shown(settings: Settings, namespaces: Sequence[str] = ()) -> list[str]:
    """Return every setting as a line `NAME=value`, with where it comes from; `namespaces` are of the command line."""
    lines = [f"{variable(field)}={written(settings, field)}" for field in Settings.model_fields]
    width = max(map(len, lines))
    origins = [_origin(field, namespaces) for field in Settings.model_fields]
    return [f"{line:{width}}  # {origin}" for line, origin in zip(lines, origins, strict=True)]


def variable(field: str) -> str:
    """Return the environment's name of a setting."""
    return PREFIX + field.upper()


def written(settings: Settings, field: str) -> str:
    """Return the value of a setting as a person writes it into its variable."""
    value = getattr(settings, field)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return (" " if field == "protected_tags" else ",").join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _origin(field: str, namespaces: Sequence[str]) -> str:
    if field == "namespaces" and namespaces:
        return "command line"
    return "environment" if variable(field) in {name.upper() for name in os.environ} else "default"


def _each(parse: Callable[[str], object], texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return `texts`; raise `ValueError` with all that `parse` refuses."""
    problems = []
    for text in texts:
        try:
            parse(text)
        except ValueError as error:
            problems.append(f"{text[:100]!r}: {error}")
    if problems:
        raise ValueError("; ".join(problems))
    return texts


def _check_namespace(text: str) -> None:
    if _NAMESPACE.fullmatch(text) is None:
        raise ValueError("is not the name of a namespace; write for example 'team-a'")


def _explain(problem: Mapping[str, Any]) -> str:
    message = str(problem["ctx"]["error"]) if problem["type"] == "value_error" else str(problem["msg"])
    return f"{variable(str(problem['loc'][0]))}: {message}"
