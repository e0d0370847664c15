"""The typed model of `spec`: what the CRD says, once more, and what a schema cannot say."""

from __future__ import annotations

from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic.alias_generators import to_camel

from registry_cleanup.domain.policy import TagPattern
from registry_cleanup.domain.trust import Endpoint
from registry_cleanup.kube.fields import (
    AliasText,
    APIVersionText,
    DurationText,
    GlobText,
    JSONPathText,
    KindText,
    LabelKeyText,
    LabelValueText,
    OriginText,
    PatternText,
    PeriodText,
    RepositoryText,
    ScheduleText,
    TokenURLText,
    ZoneText,
)

_Value = TypeVar("_Value")


class FieldError(ValueError):
    """What is wrong with one field, found where several are looked at together."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


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

    url: OriginText | None = None
    type: Literal["Auto", "Distribution", "OpenShift"] = "Auto"
    insecure: bool = False
    service_account_name: str | None = None
    secret_ref: SecretReference | None = None
    ca_config_map_ref: ConfigMapReference | None = None
    token_url: TokenURLText | None = Field(default=None, alias="tokenURL")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.url is None and (self.type != "OpenShift" or self.service_account_name is None):
            raise FieldError(
                ".url",
                "is required; it may be left out only with type: OpenShift and a serviceAccountName, for the cluster's "
                "own registry",
            )
        if self.service_account_name is not None and self.secret_ref is not None:
            raise FieldError(".serviceAccountName", "excludes secretRef; keep one of them")
        for field, url in ((".url", self.url), (".tokenURL", self.token_url)):
            if url is not None and Endpoint.of(url).scheme == "http":
                if not self.insecure:
                    raise FieldError(field, "is http, which needs insecure: true; better write https")
                if self.service_account_name is not None:
                    raise FieldError(field, "is http, over which a ServiceAccount's token is never sent; write https")
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
    order_by: Literal["Date", "SemVer", "Numerical", "Alphabetical"] = "Date"
    extract: str | None = Field(default=None, min_length=1)
    include_managed: bool = False

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        if self.older_than is None and (self.keep is None or self.keep.most_recent is None):
            raise ValueError("has neither olderThan nor keep.mostRecent and would prune everything it matches; add one")
        return self

    @model_validator(mode="after")
    def _extracts_a_version(self) -> Self:
        if self.extract is None:
            return self
        if self.order_by == "Date":
            raise FieldError(".extract", "needs orderBy: SemVer, Numerical or Alphabetical; set it or remove extract")
        for index, text in enumerate(self.tags.include):
            if not TagPattern(text).defines(self.extract):
                raise FieldError(
                    ".extract",
                    f"tags.include[{index}] has no group {self.extract!r}; write (?P<{self.extract}>…) around what "
                    "spells the version, in every include",
                )
        return self


class LimitsSpec(Model):
    """`spec.limits`."""

    max_deletions: int = Field(default=1000, ge=1, le=1_000_000)
    max_percent_per_repository: int = Field(default=50, ge=1, le=100)
    on_exceeded: Literal["Abort", "Truncate"] = "Abort"
    requests_per_second: int | None = Field(default=None, ge=1, le=1000)
    max_concurrency: int | None = Field(default=None, ge=1, le=256)


class ApprovalSpec(Model):
    """`spec.approval`."""

    required: bool = False


class UndoSpec(Model):
    """`spec.undo`."""

    window: PeriodText = "0s"
    repository: RepositoryText | None = None


class LabelRequirementSpec(Model):
    """`spec.inUse.namespaceSelector.matchExpressions[]`."""

    key: LabelKeyText
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[LabelValueText] = []

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        if (self.operator in ("In", "NotIn")) != bool(self.values):
            raise FieldError(".values", "are needed for In and NotIn, and not allowed for Exists and DoesNotExist")
        return self


class NamespaceSelectorSpec(Model):
    """`spec.inUse.namespaceSelector`."""

    match_labels: dict[LabelKeyText, LabelValueText] | None = None
    match_expressions: list[LabelRequirementSpec] = []

    @model_validator(mode="after")
    def _selects(self) -> Self:
        if not self.match_labels and not self.match_expressions:
            raise ValueError("is empty; remove it for all namespaces, or write matchLabels or matchExpressions")
        return self


class ExtraReferencesSpec(Model):
    """`spec.inUse.extraReferencesFrom[]`."""

    api_version: APIVersionText
    kind: KindText
    json_path: JSONPathText


class NamedConfigMap(Model):
    """`spec.inUse.referencesConfigMapRef`."""

    name: str


class InUseSpec(Model):
    """`spec.inUse`."""

    enabled: bool = True
    namespace_selector: NamespaceSelectorSpec | None = None
    include_history: bool = True
    extra_references_from: list[ExtraReferencesSpec] = []
    references_config_map_ref: NamedConfigMap | None = None
    aliases: list[AliasText] = []


class WorkloadReference(Model):
    """`spec.garbageCollection.workloadRef`."""

    kind: Literal["Deployment", "StatefulSet"]
    name: str = Field(min_length=1)


class GarbageCollectionSpec(Model):
    """`spec.garbageCollection`."""

    mode: Literal["None", "Report", "Run"] = "None"
    schedule: ScheduleText | None = None
    workload_ref: WorkloadReference | None = None
    strategy: Literal["ReadOnly", "Offline"] = "ReadOnly"
    volume: str | None = Field(default=None, min_length=1)
    timeout: DurationText = "1h"
    prune_storage: bool = False

    @model_validator(mode="after")
    def _has_a_time(self) -> Self:
        if self.mode != "None" and self.schedule is None:
            raise FieldError(".schedule", "is needed with mode Report or Run; write when to collect, such as 0 4 * * 0")
        if self.prune_storage and self.workload_ref is None:
            raise FieldError(
                ".pruneStorage",
                "needs workloadRef: only the storage of a Distribution registry of this namespace can be pruned",
            )
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
    untagged: Literal["Keep", "Delete"] = "Keep"
    grace_period: PeriodText = "24h"
    limits: LimitsSpec = LimitsSpec()
    approval: ApprovalSpec = ApprovalSpec()
    undo: UndoSpec = UndoSpec()
    in_use: InUseSpec = InUseSpec()
    garbage_collection: GarbageCollectionSpec = GarbageCollectionSpec()
    dry_run: bool = True
    schedule: ScheduleText | None = None
    time_zone: ZoneText | None = None
    starting_deadline_seconds: int | None = Field(default=None, ge=10, le=31_536_000)
    suspend: bool = False
    timeout: DurationText = "4h"
    history_limit: int = Field(default=5, ge=0, le=10)

    @field_validator("rules")
    @classmethod
    def _names_are_unique(cls, rules: list[RuleSpec]) -> list[RuleSpec]:
        names = [rule.name for rule in rules]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise FieldError(f"[{index}].name", f"{name!r} is used twice; give each rule its own name")
        return rules

    @field_validator("time_zone", "starting_deadline_seconds")
    @classmethod
    def _has_a_schedule(cls, value: _Value, known: ValidationInfo) -> _Value:
        collection = known.data.get("garbage_collection")
        collected = known.field_name == "time_zone" and collection is not None and collection.schedule is not None
        if value is not None and known.data.get("schedule", value) is None and not collected:
            raise ValueError("has no meaning without schedule; add one or remove it")
        return value

    @model_validator(mode="after")
    def _collects_somewhere(self) -> Self:
        collection, openshift = self.garbage_collection, self.registry.type == "OpenShift"
        if collection.mode != "None" and collection.workload_ref is None and not openshift:
            raise FieldError(
                ".garbageCollection.workloadRef",
                "is needed with mode Report or Run: name the Deployment or StatefulSet that serves the registry; only "
                "type: OpenShift has none",
            )
        if collection.workload_ref is not None and openshift:
            raise FieldError(
                ".garbageCollection.workloadRef",
                "has no effect with registry.type: OpenShift, where the cluster's own image pruner collects; remove it",
            )
        return self
