"""From the resource to the policy, every error with the path of its field."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from registry_cleanup.domain.collection import (
    IMAGE_PRUNER,
    NO_COLLECTION,
    CollectionMode,
    CollectionRules,
    Strategy,
    WorkloadName,
)
from registry_cleanup.domain.cron import Schedule, parse_time_zone
from registry_cleanup.domain.duration import parse_duration, parse_period
from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.policy import (
    LATEST,
    ExtraReferences,
    InUseRules,
    Limits,
    OnExceeded,
    Policy,
    RepositoryGlob,
    RepositorySelector,
    Rule,
    TagDate,
    TagPattern,
    UndoRules,
    Untagged,
)
from registry_cleanup.domain.tenancy import UNBOUNDED, Asked, Bounds
from registry_cleanup.domain.trust import Endpoint
from registry_cleanup.kube.model import (
    FieldError,
    InUseSpec,
    LimitsSpec,
    NamespaceSelectorSpec,
    PolicySpec,
    RegistrySpec,
    RepositorySelectorSpec,
    RuleSpec,
)

GROUP = "registrycleanup.dev"
VERSION = "v1alpha1"
PLURAL = "registrycleanuppolicies"
KIND = "RegistryCleanupPolicy"
REQUEST_ANNOTATION = f"{GROUP}/run-requested-at"
APPROVE_ANNOTATION = f"{GROUP}/approve-plan"
COLLECT_ANNOTATION = f"{GROUP}/collect-requested-at"
UNDO_ANNOTATION = f"{GROUP}/undo-run"

# Bounds of `status.lastHandledRunRequest`, `status.lastHandledApproval` and `status.lastHandledUndo`. A plan's hash has
# 64 characters: what is longer than that must not be cut to one that somebody might have meant.
_LONGEST_REQUEST = 256
_LONGEST_APPROVAL = 128
_LONGEST_UNDO = 64
# Who changes one of these has looked again at what goes. Neither a schedule nor `suspend` says anything of that.
_DECIDING = {
    "repositories",
    "rules",
    "keep_tags",
    "prune_latest",
    "min_tags_per_repository",
    "tag_date",
    "untagged",
    "undo",
}


class InvalidSpecError(ValueError):
    """A `spec` that cannot be obeyed.

    Attributes:
        errors: for each error the path of the field, such as `spec.rules[0].olderThan`, and what to write instead.
        reason: of the conditions that tell of it.
    """

    reason = "InvalidSpec"

    def __init__(self, errors: Iterable[tuple[str, str]]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(f"{path}: {message}" for path, message in self.errors))


class NotAllowedError(InvalidSpecError):
    """A `spec` that asks for what the administrator of the operator does not allow."""

    reason = "NotAllowed"


@dataclass(frozen=True, slots=True)
class ParsedPolicy:
    """A `RegistryCleanupPolicy` as the operator works with it.

    Attributes:
        namespace: of the resource.
        name: of the resource.
        uid: of the resource; another one is another policy.
        generation: of its spec.
        created: when the resource was, aware; of two policies the older one prunes what both select.
        request: the value of its run-request annotation, if it has one.
        approval: the hash of the plan that its annotation approves, if it has one.
        undo: the ID of the run that its annotation wants undone, if it has one.
        intent: a fingerprint of what in its spec decides which tags go; whatever else changes, it stays the same.
        registry: where its registry is, and how to log in.
        policy: what the planner needs.
        schedule: when it runs; None on request only.
        dry_run: whether its runs stop after the plan.
        suspend: whether it does not run at all.
        starting_deadline: how late a scheduled run may start; None for no bound.
        timeout: how long a run may take.
        history_limit: so many ended runs stay in status.
        collection: what it wants of garbage collection.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    created: datetime
    request: str | None
    approval: str | None
    undo: str | None
    intent: str
    registry: RegistrySpec
    policy: Policy
    schedule: Schedule | None
    dry_run: bool
    suspend: bool
    starting_deadline: timedelta | None
    timeout: timedelta
    history_limit: int
    collection: CollectionRules = NO_COLLECTION


def parse_policy(body: Mapping[str, Any], bounds: Bounds = UNBOUNDED) -> ParsedPolicy:
    """Return the policy that a resource spells, as it holds within the administrator's `bounds`.

    Raises:
        InvalidSpecError: with all that is wrong with it.
        NotAllowedError: with all that the bounds do not allow.
    """
    metadata = body["metadata"]
    try:
        spec = PolicySpec.model_validate(body.get("spec") or {})
    except ValidationError as error:
        raise InvalidSpecError(_explain(problem) for problem in error.errors()) from error
    schedule = _schedule(spec)
    collection = _collection(spec, _annotation(metadata, COLLECT_ANNOTATION, _LONGEST_REQUEST))
    if refusals := bounds.refusals(_asked(spec.registry, schedule, collection)):
        raise NotAllowedError(refusals)
    return ParsedPolicy(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        request=_annotation(metadata, REQUEST_ANNOTATION, _LONGEST_REQUEST),
        approval=(_annotation(metadata, APPROVE_ANNOTATION, None) or "").strip()[:_LONGEST_APPROVAL] or None,
        undo=(_annotation(metadata, UNDO_ANNOTATION, None) or "").strip()[:_LONGEST_UNDO] or None,
        intent=_intent(spec),
        registry=spec.registry,
        policy=bounds.applied(_policy(metadata["uid"], spec)),
        schedule=schedule,
        dry_run=spec.dry_run,
        suspend=spec.suspend,
        starting_deadline=(
            timedelta(seconds=spec.starting_deadline_seconds) if spec.starting_deadline_seconds is not None else None
        ),
        timeout=parse_duration(spec.timeout),
        history_limit=spec.history_limit,
        collection=collection,
    )


def _intent(spec: PolicySpec) -> str:
    # Without what is as usual: a field that a later version adds must not make another policy of this one.
    deciding = spec.model_dump(mode="json", include=_DECIDING, exclude_defaults=True)
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def _annotation(metadata: Mapping[str, Any], name: str, longest: int | None) -> str | None:
    value = (metadata.get("annotations") or {}).get(name)
    return None if value is None else str(value)[:longest]


def _schedule(spec: PolicySpec) -> Schedule | None:
    return None if spec.schedule is None else Schedule(spec.schedule, parse_time_zone(spec.time_zone or "Etc/UTC"))


def _collection(spec: PolicySpec, request: str | None) -> CollectionRules:
    rules = spec.garbage_collection
    named = rules.workload_ref
    workload = WorkloadName(named.kind, named.name) if named is not None else None
    return CollectionRules(
        CollectionMode(rules.mode),
        None if rules.schedule is None else Schedule(rules.schedule, parse_time_zone(spec.time_zone or "Etc/UTC")),
        IMAGE_PRUNER if spec.registry.type == "OpenShift" else workload,
        Strategy(rules.strategy),
        rules.volume,
        parse_duration(rules.timeout),
        request,
        rules.prune_storage,
    )


def _asked(registry: RegistrySpec, schedule: Schedule | None, collection: CollectionRules) -> Asked:
    address, token_url = (None if url is None else Endpoint.of(url) for url in (registry.url, registry.token_url))
    collections = None if collection.mode is CollectionMode.NONE else collection.schedule
    return Asked(address, token_url, registry.insecure, schedule, collections)


def _policy(uid: str, spec: PolicySpec) -> Policy:
    keep_tags = spec.keep_tags if spec.prune_latest else [*spec.keep_tags, LATEST]
    return Policy(
        uid=uid,
        registry=Endpoint.of(spec.registry.url).host_port if spec.registry.url is not None else "",
        # What is kept there is never pruned, whatever is selected.
        repositories=replace(_selector(spec.repositories), never=spec.undo.repository),
        rules=tuple(_rule(rule) for rule in spec.rules),
        keep_tags=_patterns(keep_tags),
        minimum_tags=spec.min_tags_per_repository,
        tag_date=TagDate(spec.tag_date),
        untagged=Untagged(spec.untagged),
        grace_period=parse_period(spec.grace_period),
        limits=_limits(spec.limits),
        approval_required=spec.approval.required,
        in_use=_in_use(spec.in_use),
        undo=UndoRules(parse_period(spec.undo.window), spec.undo.repository, parse_duration(spec.timeout)),
    )


def _in_use(spec: InUseSpec) -> InUseRules:
    return InUseRules(
        enabled=spec.enabled,
        namespace_labels=_label_selector(spec.namespace_selector) if spec.namespace_selector is not None else None,
        include_history=spec.include_history,
        extra_references=tuple(
            ExtraReferences(each.api_version, each.kind, each.json_path) for each in spec.extra_references_from
        ),
        references_config_map=(
            spec.references_config_map_ref.name if spec.references_config_map_ref is not None else None
        ),
        aliases=tuple(spec.aliases),
    )


def _label_selector(spec: NamespaceSelectorSpec) -> str:
    """Return a selector as the API takes it in a query; keys and values hold none of its signs."""
    parts = [f"{key}={value}" for key, value in sorted((spec.match_labels or {}).items())]
    for each in spec.match_expressions:
        values = f"({','.join(each.values)})"
        match each.operator:
            case "In":
                parts.append(f"{each.key} in {values}")
            case "NotIn":
                parts.append(f"{each.key} notin {values}")
            case "Exists":
                parts.append(each.key)
            case "DoesNotExist":
                parts.append(f"!{each.key}")
    return ",".join(parts)


def _limits(spec: LimitsSpec) -> Limits:
    return Limits(
        spec.max_deletions,
        spec.max_percent_per_repository,
        OnExceeded(spec.on_exceeded),
        spec.requests_per_second,
        spec.max_concurrency,
    )


def _rule(rule: RuleSpec) -> Rule:
    return Rule(
        name=rule.name,
        include=_patterns(rule.tags.include),
        exclude=_patterns(rule.tags.exclude),
        repositories=_selector(rule.repositories) if rule.repositories is not None else None,
        older_than=parse_duration(rule.older_than) if rule.older_than is not None else None,
        most_recent=rule.keep.most_recent if rule.keep is not None else None,
        include_managed=rule.include_managed,
        order_by=OrderBy(rule.order_by),
        extract=rule.extract,
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
    return path + error.field if isinstance(error, FieldError) else path, str(error)
