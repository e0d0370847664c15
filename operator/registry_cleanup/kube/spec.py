"""From the resource to the policy: the typed model of `spec`, and every error with the path of its field."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from registry_cleanup.domain.policy import (
    LATEST,
    Policy,
    RepositoryGlob,
    RepositorySelector,
    Rule,
    TagDate,
    TagPattern,
)
from registry_cleanup.domain.schedule import Schedule, parse_time_zone
from registry_cleanup.domain.trust import Endpoint

GROUP = "registrycleanup.dev"
VERSION = "v1alpha1"
PLURAL = "registrycleanuppolicies"
KIND = "RegistryCleanupPolicy"
REQUEST_ANNOTATION = f"{GROUP}/run-requested-at"

# Bound of `status.lastHandledRunRequest`.
_LONGEST_REQUEST = 256
_DURATION = re.compile(r"(?:([0-9]{1,19})d)?(?:([0-9]{1,19})h)?(?:([0-9]{1,19})m)?(?:([0-9]{1,19})s)?")
# Longer than any registry has existed; larger numbers overflow dates, which has emptied registries elsewhere.
_LONGEST = timedelta(days=36500)


class InvalidSpecError(ValueError):
    """A `spec` that cannot be obeyed.

    Attributes:
        errors: for each error the path of the field, such as `spec.rules[0].olderThan`, and what to write instead.
    """

    def __init__(self, errors: Iterable[tuple[str, str]]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(f"{path}: {message}" for path, message in self.errors))


class _FieldError(ValueError):
    """What is wrong with one field, found where several are looked at together."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def parse_duration(text: str) -> timedelta:
    """Return the duration of `30d`, `12h`, `1d12h` and the like; a day is 24 h. Raises `ValueError`."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError("is not a duration; write for example '30d', '12h' or '1d12h' (units d, h, m, s)")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if not 0 < total <= _LONGEST.total_seconds():
        raise ValueError("must be more than 0 and at most 36500d")
    return timedelta(seconds=total)


def _check(parse: Callable[[str], object]) -> AfterValidator:
    """Return a validator that keeps the text and refuses what `parse` refuses."""

    def validate(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(validate)


def _origin(text: str) -> None:
    try:
        Endpoint.of(text)
    except ValueError as error:
        raise ValueError("is not a URL; write for example 'https://registry.example.com:5000'") from error
    if re.fullmatch(r"https?://[^/?#@\s]+", text) is None:
        raise ValueError("must be scheme, host and port only, without path; write 'https://host[:port]'")
    if Endpoint.of(text).link_local:
        raise ValueError("is a link-local address, which is never a registry")


def _token_url(text: str) -> None:
    try:
        endpoint = Endpoint.of(text)
    except ValueError as error:
        raise ValueError(
            "is not a URL; write for example 'https://host:8443/image-manager/api/v1/auth/token'"
        ) from error
    if endpoint.link_local:
        raise ValueError("is a link-local address, which is never a token service")


GlobText = Annotated[str, _check(RepositoryGlob)]
PatternText = Annotated[str, _check(TagPattern)]
DurationText = Annotated[str, _check(parse_duration)]
ZoneText = Annotated[str, _check(parse_time_zone)]
ScheduleText = Annotated[str, _check(lambda text: Schedule(text, ZoneInfo("Etc/UTC")))]


class Model(BaseModel):
    """A part of the resource: camelCase names, nothing unknown, nothing converted silently."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, strict=True)


class SecretReference(Model):
    """`spec.registry.secretRef`."""

    name: str


class ConfigMapReference(Model):
    """`spec.registry.caConfigMapRef`."""

    name: str
    key: str = "ca.crt"


class RegistrySpec(Model):
    """`spec.registry`."""

    url: Annotated[str, _check(_origin)] | None = None
    type: Literal["Auto", "Distribution", "OpenShift"] = "Auto"
    insecure: bool = False
    service_account_name: str | None = None
    secret_ref: SecretReference | None = None
    ca_config_map_ref: ConfigMapReference | None = None
    token_url: Annotated[str, _check(_token_url)] | None = Field(default=None, alias="tokenURL")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.url is None and (self.type != "OpenShift" or self.service_account_name is None):
            raise _FieldError(
                ".url",
                "is required; it may be left out only with type: OpenShift and a serviceAccountName, for the cluster's "
                "own registry",
            )
        if self.service_account_name is not None and self.secret_ref is not None:
            raise _FieldError(".serviceAccountName", "excludes secretRef; keep one of them")
        for field, url in ((".url", self.url), (".tokenURL", self.token_url)):
            if url is not None and Endpoint.of(url).scheme == "http":
                if not self.insecure:
                    raise _FieldError(field, "is http, which needs insecure: true; better write https")
                if self.service_account_name is not None:
                    raise _FieldError(field, "is http, over which a ServiceAccount's token is never sent; write https")
        return self


class RepositorySelectorSpec(Model):
    """`spec.repositories` and `spec.rules[].repositories`."""

    include: list[GlobText] = Field(min_length=1)
    exclude: list[GlobText] = []


class TagSelectorSpec(Model):
    """`spec.rules[].tags`."""

    include: list[PatternText] = Field(min_length=1)
    exclude: list[PatternText] = []


class KeepSpec(Model):
    """`spec.rules[].keep`."""

    most_recent: int | None = Field(default=None, ge=1)


class RuleSpec(Model):
    """`spec.rules[]`."""

    name: str = Field(min_length=1)
    repositories: RepositorySelectorSpec | None = None
    tags: TagSelectorSpec
    older_than: DurationText | None = None
    keep: KeepSpec | None = None
    include_managed: bool = False

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        if self.older_than is None and (self.keep is None or self.keep.most_recent is None):
            raise ValueError("has neither olderThan nor keep.mostRecent and would prune everything it matches; add one")
        return self


class PolicySpec(Model):
    """`spec`."""

    registry: RegistrySpec
    repositories: RepositorySelectorSpec
    rules: list[RuleSpec] = Field(min_length=1)
    tag_date: Literal["Auto", "Created"] = "Auto"
    keep_tags: list[PatternText] = []
    prune_latest: bool = False
    min_tags_per_repository: int = Field(default=1, ge=0)
    dry_run: bool = True
    schedule: ScheduleText | None = None
    time_zone: ZoneText | None = None
    suspend: bool = False

    @field_validator("rules")
    @classmethod
    def _names_are_unique(cls, rules: list[RuleSpec]) -> list[RuleSpec]:
        names = [rule.name for rule in rules]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise _FieldError(f"[{index}].name", f"{name!r} is used twice; give each rule its own name")
        return rules

    @field_validator("time_zone")
    @classmethod
    def _has_a_schedule(cls, zone: str | None, known: ValidationInfo) -> str | None:
        if zone is not None and known.data.get("schedule", zone) is None:
            raise ValueError("has no meaning without schedule; add one or remove it")
        return zone


@dataclass(frozen=True, slots=True)
class ParsedPolicy:
    """A `RegistryCleanupPolicy` as the operator works with it.

    Attributes:
        namespace: of the resource.
        name: of the resource.
        uid: of the resource; another one is another policy.
        generation: of its spec.
        request: the value of its run-request annotation, if it has one.
        registry: where its registry is, and how to log in.
        policy: what the planner needs.
        schedule: when it runs; None on request only.
        dry_run: whether its runs stop after the plan.
        suspend: whether it does not run at all.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    request: str | None
    registry: RegistrySpec
    policy: Policy
    schedule: Schedule | None
    dry_run: bool
    suspend: bool


def parse_policy(body: Mapping[str, Any]) -> ParsedPolicy:
    """Return the policy that a resource spells; raise `InvalidSpecError` with all that is wrong with it."""
    metadata = body["metadata"]
    try:
        spec = PolicySpec.model_validate(body.get("spec") or {})
    except ValidationError as error:
        raise InvalidSpecError(_explain(problem) for problem in error.errors()) from error
    return ParsedPolicy(
        metadata["namespace"],
        metadata["name"],
        metadata["uid"],
        metadata["generation"],
        _request(metadata),
        spec.registry,
        _policy(metadata["uid"], spec),
        Schedule(spec.schedule, parse_time_zone(spec.time_zone or "Etc/UTC")) if spec.schedule is not None else None,
        spec.dry_run,
        spec.suspend,
    )


def _request(metadata: Mapping[str, Any]) -> str | None:
    value = (metadata.get("annotations") or {}).get(REQUEST_ANNOTATION)
    return None if value is None else str(value)[:_LONGEST_REQUEST]


def _policy(uid: str, spec: PolicySpec) -> Policy:
    keep_tags = spec.keep_tags if spec.prune_latest else [*spec.keep_tags, LATEST]
    return Policy(
        uid,
        Endpoint.of(spec.registry.url).host_port if spec.registry.url is not None else "",
        _selector(spec.repositories),
        tuple(_rule(rule) for rule in spec.rules),
        _patterns(keep_tags),
        spec.min_tags_per_repository,
        TagDate(spec.tag_date),
    )


def _rule(rule: RuleSpec) -> Rule:
    return Rule(
        rule.name,
        _patterns(rule.tags.include),
        _patterns(rule.tags.exclude),
        _selector(rule.repositories) if rule.repositories is not None else None,
        parse_duration(rule.older_than) if rule.older_than is not None else None,
        rule.keep.most_recent if rule.keep is not None else None,
        rule.include_managed,
    )


def _selector(spec: RepositorySelectorSpec) -> RepositorySelector:
    include, exclude = (tuple(RepositoryGlob(text) for text in globs) for globs in (spec.include, spec.exclude))
    return RepositorySelector(include, exclude)


def _patterns(texts: Iterable[str]) -> tuple[TagPattern, ...]:
    return tuple(TagPattern(text) for text in texts)


def _explain(problem: Mapping[str, Any]) -> tuple[str, str]:
    """Return path and message of one of pydantic's errors, in the words of `kubectl explain`."""
    path = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return path, "is not a field that this operator knows; remove it, or upgrade the operator"
    if problem["type"] != "value_error":
        return path, str(problem["msg"])
    error = problem["ctx"]["error"]
    return path + error.field if isinstance(error, _FieldError) else path, str(error)
