"""Why nobody knows what is in use: the failure that blocks a run, with what was missing and how to grant it."""

from __future__ import annotations

from collections.abc import Sequence

from registry_cleanup.domain.run import Failure
from registry_cleanup.domain.tenancy import IN_USE_SCOPE, WHOLE_CLUSTER, Reach
from registry_cleanup.kube.api import APIError, ForbiddenError
from registry_cleanup.kube.raw import Kind
from registry_cleanup.ports import RunError

REASON = "InUseUnknown"
ROLE = "registry-cleanup-workloads"
# A ClusterRole with this label is part of the role registry-cleanup-in-use, which is the operator's.
AGGREGATION_LABEL = "registrycleanup.dev/aggregate-to-in-use"
_WITH_EXTRA = "registry-cleanup-in-use"
_TOLD = 3
_CONFINED = (
    f"the operator is confined to namespaces: let it see what the others use by a ClusterRoleBinding of ClusterRole "
    f"{ROLE} to its ServiceAccount, or, only where no other namespace uses these registries, set "
    f"{IN_USE_SCOPE}=Namespaces"
)
_NOTHING_PRUNED = "so nobody knows what is in use, and nothing was pruned"


def granted(role: str) -> str:
    """Return how an administrator gives a person one of the ClusterRoles of manifests/base."""
    return (
        "an administrator grants it with: kubectl create clusterrolebinding NAME-OF-YOURS "
        f"--clusterrole={role} --user=YOU"
    )


def rule(kind: Kind, verb: str) -> str:
    """Return the rule of a role that lets the operator do this, as YAML has it."""
    return f'{{apiGroups: ["{kind.group}"], resources: [{kind.plural}], verbs: [{verb}]}}'


def doubt(message: str, step: str = "", *, mendable: bool = True) -> RunError:
    """Return the error that a run ends with where a person has to mend something (`step`), or where it may pass."""
    told = f"{message}, {_NOTHING_PRUNED}" + (f"; {step}" if step else "")
    return RunError(Failure(REASON, told, mendable=mendable, blocks=True))


def unreadable(
    kind: Kind, verb: str, error: APIError, *, extra: bool = False, reach: Reach = WHOLE_CLUSTER
) -> RunError:
    """Return what ends a run where a kind that exists, or may exist, cannot be had.

    Args:
        kind: which.
        verb: that was tried.
        error: why.
        extra: whether an administrator named the kind.
        reach: where the look went.
    """
    of = f" of {kind.group}" if kind.group else ""
    who = "you may not" if reach.personal and isinstance(error, ForbiddenError) else "the operator cannot"
    if reach.personal and not isinstance(error, ForbiddenError):
        who = "you cannot"
    what = f"{who} {verb} {kind.plural}{of} (kind {kind.kind}): {error}"
    if not isinstance(error, ForbiddenError):
        return doubt(what, "" if reach.personal else "it is tried again", mendable=False)
    if reach.personal:
        return doubt(what, granted(_WITH_EXTRA if extra else ROLE))
    if reach.confined and not reach.namespaces and not extra:
        return doubt(what, _CONFINED)
    where = f"a ClusterRole with the label {AGGREGATION_LABEL}: 'true'" if extra else f"ClusterRole {ROLE}"
    return doubt(what, f"add the rule {rule(kind, verb)} to {where}")


def without_verdict(error: RunError) -> str:
    """Return what is wrong, without what that means for a run."""
    return error.failure.message.replace(f", {_NOTHING_PRUNED}", "")


def stopped(error: RunError) -> RunError:
    """Return what ends a run in which pods were looked at, and are not any more."""
    failure = error.failure
    return RunError(Failure(failure.reason, failure.message, mendable=failure.mendable, stops_run=True, blocks=True))


def together(errors: Sequence[RunError]) -> RunError:
    """Return one error that tells of several; what a person must mend comes first."""
    ordered = sorted(errors, key=lambda error: not error.failure.mendable)
    told = [without_verdict(error) for error in ordered[:_TOLD]]
    if len(ordered) > _TOLD:
        told.append(f"and {len(ordered) - _TOLD} more kinds")
    # Of a confined operator, and of a person, all kinds have one remedy, which is long.
    shared = (_CONFINED, granted(_WITH_EXTRA), granted(ROLE))
    step = next((each for each in shared if any(text.endswith(f"; {each}") for text in told)), "")
    for each in shared:
        told = [text.removesuffix(f"; {each}") for text in told]
    return doubt("; ".join(told), step, mendable=ordered[0].failure.mendable)
