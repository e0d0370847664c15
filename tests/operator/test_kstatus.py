"""What tools that wait for a policy see, by kstatus: a new, changed, suspended, invalid, failing and running one."""

from pathlib import Path

import pytest

from tests.support.faulty import answers, before, faulty_registry
from tests.support.kstatus import Health, health
from tests.support.operator import Operator, operator
from tests.support.policies import NAME, Gate, Namespace, condition, last_run, policy_spec, push_builds
from tests.support.registries import RegistryServer


def test_a_policy_is_in_progress_until_its_generation_is_planned(
    registry3: RegistryServer, namespace: Namespace
) -> None:
    push_builds(registry3.url)
    with faulty_registry(registry3.url) as proxy:
        for generation in (1, 2):
            gate = Gate()
            proxy.inject(before(gate), path=".*/tags/list", times=1)
            if generation == 1:
                namespace.apply(policy_spec(proxy.url))
            else:
                namespace.change({"minTagsPerRepository": 2})
            gate.wait()
            seen = namespace.policy()
            assert health(seen) is Health.IN_PROGRESS
            assert seen["status"]["observedGeneration"] == generation
            gate.open()
            assert health(namespace.planned()) is Health.CURRENT


def test_a_policy_that_no_operator_has_seen_is_in_progress(own_namespace: Namespace) -> None:
    own_namespace.apply(policy_spec("https://registry.example.com"))
    assert health(own_namespace.policy()) is Health.IN_PROGRESS


def test_kubectl_waits_until_a_policy_is_ready(
    registry3: RegistryServer, namespace: Namespace, shared_operator: Operator
) -> None:
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url))
    wait = ("wait", f"rcp/{NAME}", "-n", namespace.name, "--timeout=30s")
    assert "condition met" in shared_operator.plane.kubectl(*wait, "--for=condition=Ready")
    # It looks at the generation of the condition, too.
    namespace.change({"minTagsPerRepository": 2})
    shared_operator.plane.kubectl(*wait, "--for=condition=Ready")
    assert condition(namespace.policy(), "Ready")["observedGeneration"] == 2


def test_a_policy_that_is_suspended_keeps_nobody_waiting(
    registry3: RegistryServer, namespace: Namespace, shared_operator: Operator
) -> None:
    namespace.apply(policy_spec(registry3.url, suspend=True))
    wait = ("wait", f"rcp/{NAME}", "-n", namespace.name, "--timeout=30s")
    shared_operator.plane.kubectl(*wait, "--for=condition=Ready")
    suspended = namespace.policy()
    assert health(suspended) is Health.CURRENT
    assert condition(suspended, "Ready")["reason"] == "Suspended"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"schedule": "0 3 * * *", "timeZone": "Mars/Olympus"}, "spec.timeZone"),
        ({"schedule": "0 0 31 2 *"}, "spec.schedule"),
    ],
)
def test_an_invalid_policy_has_failed_and_the_field_is_named(
    registry3: RegistryServer, namespace: Namespace, spec: dict[str, str], field: str
) -> None:
    namespace.apply(policy_spec(registry3.url, **spec))
    assert namespace.stalled("InvalidSpec").startswith(f"{field}: ")
    assert health(namespace.policy()) is Health.FAILED
    namespace.change({"schedule": None, "timeZone": None})
    assert health(namespace.planned()) is Health.CURRENT


def test_a_policy_whose_registry_fails_is_in_progress_while_it_is_tried_and_keeps_its_last_health_after_that(
    registry3: RegistryServer, namespace: Namespace
) -> None:
    push_builds(registry3.url)
    with faulty_registry(registry3.url) as proxy:
        proxy.inject(answers(500), path=".*/tags/list")
        namespace.apply(policy_spec(proxy.url))
        failed = namespace.phase("Failed")
        assert health(failed) is Health.IN_PROGRESS
        proxy.heal()
        namespace.request_run("now")
        assert health(namespace.planned()) is Health.CURRENT
        # Once is an accident; again, it is told to whoever looks.
        proxy.inject(answers(500), path=".*/tags/list")
        assert health(namespace.run("once more")) is Health.CURRENT
        again = namespace.run("and again")
        assert condition(again, "Ready")["status"] == "False"
        assert health(again) is Health.IN_PROGRESS


def test_a_run_in_progress_does_not_make_a_policy_unready(registry3: RegistryServer, namespace: Namespace) -> None:
    push_builds(registry3.url)
    with faulty_registry(registry3.url) as proxy:
        namespace.apply(policy_spec(proxy.url, dryRun=False))
        namespace.planned()
        gate = Gate()
        proxy.inject(before(gate), method="DELETE", path=".*/manifests/build-.*", times=1)
        namespace.request_run("now")
        gate.wait()
        running = namespace.policy()
        assert last_run(running)["phase"] == "Running"
        assert health(running) is Health.CURRENT
        gate.open()
        assert health(namespace.handled("now")) is Health.CURRENT


def test_what_changed_while_nobody_watched_is_in_progress_until_it_is_planned(
    registry3: RegistryServer, own_namespace: Namespace, tmp_path: Path
) -> None:
    push_builds(registry3.url)
    with faulty_registry(registry3.url) as proxy:
        own_namespace.apply(policy_spec(proxy.url))
        with operator(own_namespace.plane, tmp_path / "first"):
            own_namespace.planned()
        # As if it had been killed in a run.
        own_namespace.write_status({"lastRun": {"phase": "Running"}})
        own_namespace.change({"minTagsPerRepository": 2})
        assert health(own_namespace.policy()) is Health.IN_PROGRESS
        gate = Gate()
        proxy.inject(before(gate), path=".*/tags/list", times=1)
        with operator(own_namespace.plane, tmp_path / "second"):
            gate.wait()
            assert health(own_namespace.policy()) is Health.IN_PROGRESS
            gate.open()
            assert health(own_namespace.planned()) is Health.CURRENT
