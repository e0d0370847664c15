"""Which Job of OpenShift's image pruner a collection waits for, when none is started, and what status says of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from registry_cleanup.domain.image_pruner import JobState, PrunerJob, PrunerSetup, Start, decide, job_name
from registry_cleanup.domain.run import Failure

_NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
_WORDS = (
    *("oc", "adm", "prune", "images", "--confirm=true", "--certificate-authority=/var/run/configmaps/serviceca/ca.crt"),
    *("--keep-tag-revisions=3", "--keep-younger-than=60m", "--ignore-invalid-refs=true", "--loglevel=1"),
    *("--prune-registry=true", "--registry-url=https://image-registry.openshift-image-registry.svc:5000"),
)
_SETUP = PrunerSetup("0 0 * * *", suspended=False, words=_WORDS, last_start=_NOON)
_OWN = PrunerJob("registry-cleanup-1", JobState.SUCCEEDED, _NOON, words=_WORDS)


def _other(name: str, state: JobState = JobState.RUNNING, minutes: int = 0) -> PrunerJob:
    return PrunerJob(name, state, _NOON + timedelta(minutes=minutes), ours=False)


def test_the_job_of_a_collection_is_found_again_by_its_name_and_no_other_has_it() -> None:
    names = {job_name(uid, collection) for uid in ("uid-1", "uid-2") for collection in ("1", "2")}
    assert len(names) == 4
    assert job_name("uid-1", "1") in names
    assert all(name.startswith("registry-cleanup-") and len(name) < 63 for name in names)


@pytest.mark.parametrize("state", list(JobState))
def test_a_job_that_was_made_before_is_the_collections_whatever_else_there_is(state: JobState) -> None:
    own = replace(_OWN, state=state)
    assert decide(replace(_SETUP, suspended=True), own, [_other("image-pruner-1")]) == own


def test_one_that_runs_is_waited_for_rather_than_that_a_second_is_started() -> None:
    assert decide(_SETUP, None, [_other("image-pruner-1")]) == _other("image-pruner-1")


def test_of_several_that_run_the_newest_is_waited_for() -> None:
    running = [_other("a", minutes=1), _other("c", minutes=9), _other("b", minutes=4)]
    assert decide(_SETUP, None, running) == running[1]


def test_one_that_somebody_started_by_hand_is_waited_for_also_while_the_pruner_is_suspended() -> None:
    assert decide(replace(_SETUP, suspended=True), None, [_other("by-hand")]) == _other("by-hand")


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED])
def test_one_that_has_ended_is_not_waited_for(state: JobState) -> None:
    assert decide(_SETUP, None, [_other("image-pruner-1", state)]) == Start()


def test_a_suspended_pruner_is_not_started_and_the_command_that_resumes_it_is_told() -> None:
    found = decide(replace(_SETUP, suspended=True), None, [])
    assert isinstance(found, Failure)
    assert (found.reason, found.mendable) == ("ImagePrunerSuspended", True)
    assert found.message.endswith(
        "oc patch imagepruners.imageregistry.operator.openshift.io/cluster --type=merge -p "
        '\'{"spec":{"suspend":false}}\''
    )


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("sleep", "1000"),
        tuple(word for word in _WORDS if word != "--confirm=true"),
        tuple(word.replace("--confirm=true", "--confirm=false") for word in _WORDS),
        ("oc", "adm", "prune", "builds", "--confirm=true"),
    ],
)
def test_what_does_not_prune_images_is_never_started(words: tuple[str, ...]) -> None:
    found = decide(replace(_SETUP, words=words), None, [])
    assert isinstance(found, Failure)
    assert (found.reason, found.mendable) == ("ImagePrunerUnknown", True)


@pytest.mark.parametrize(
    "words",
    [
        _WORDS,
        ("sh", "-c", "for i in 1 2 3 4 5; do " + " ".join(_WORDS) + " && exit 0; sleep 30; done; exit 1"),
        ("sh", "-c", 'until oc "$@"; do sleep 30; done', "oc", *_WORDS[1:]),
        ("oc", "adm", "prune", "images", "--confirm"),
    ],
)
def test_the_pruner_is_known_also_where_a_shell_repeats_it(words: tuple[str, ...]) -> None:
    assert decide(replace(_SETUP, words=words), None, []) == Start()


def test_the_options_that_decide_what_goes_are_told_and_addresses_are_not() -> None:
    assert _SETUP.told == (
        "it runs with --keep-tag-revisions=3 --keep-younger-than=60m --ignore-invalid-refs=true --prune-registry=true"
    )
    assert PrunerSetup("", suspended=False, words=("oc", "adm", "prune", "images", "--confirm")).told == (
        "it runs with no options of its own"
    )


def test_it_is_told_where_the_pruner_frees_no_blob() -> None:
    words = ("oc adm prune images --confirm=true --prune-registry=false",)
    assert replace(_SETUP, words=words).told == "it runs with --prune-registry=false, so that no blob is freed"


def test_a_report_says_when_the_pruner_runs_and_claims_no_figures() -> None:
    assert _SETUP.report.startswith(
        "the cluster's image pruner runs by its schedule '0 0 * * *'; last started at 2026-06-15T12:00:00Z, last "
        "succeeded never; it runs with --keep-tag-revisions=3"
    )
    assert "what it would free is not known" in _SETUP.report
    assert "runs not at all: it is suspended" in replace(_SETUP, suspended=True).report


@pytest.mark.parametrize(
    ("job", "told"),
    [
        (
            _OWN,
            (
                "succeeded with --keep-tag-revisions=3 --keep-younger-than=60m --ignore-invalid-refs=true "
                "--prune-registry=true; what it freed stands in its log only, which is not read"
            ),
        ),
        (
            replace(_OWN, words=("oc adm prune images --confirm --prune-registry=false",), state=JobState.RUNNING),
            "is running with --prune-registry=false, so that no blob is freed",
        ),
        (
            replace(_OWN, state=JobState.FAILED, reason="BackoffLimitExceeded"),
            (
                "failed (BackoffLimitExceeded); see `oc logs -n openshift-image-registry job/registry-cleanup-1` and "
                "the ClusterOperator image-registry"
            ),
        ),
        (
            replace(_OWN, state=JobState.GONE),
            "was taken away before its end was seen: how it ended is not known",
        ),
    ],
)
def test_what_became_of_a_job_is_told_with_what_to_do_next(job: PrunerJob, told: str) -> None:
    assert job.told == f"Job openshift-image-registry/registry-cleanup-1 of the cluster's image pruner {told}"


def test_of_a_job_that_ran_before_it_is_told_that_it_may_not_know_all_that_was_pruned() -> None:
    assert (
        "running already and may not know what was pruned after it began, succeeded"
        in _other("image-pruner-1", JobState.SUCCEEDED).told
    )


def test_a_job_that_takes_too_long_is_left_to_go_on() -> None:
    assert replace(_OWN, state=JobState.RUNNING).overdue.endswith(
        ", and has been for longer than spec.garbageCollection.timeout; it is left to go on, and a collection that "
        "begins meanwhile waits for it"
    )
