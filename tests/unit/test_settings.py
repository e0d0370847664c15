"""The operator's settings: each validated, all errors at once, and shown with where they come from."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from registry_cleanup.domain.tenancy import Reach
from registry_cleanup.settings import (
    PREFIX,
    Settings,
    WrongSettingsError,
    defaults,
    described,
    read_settings,
    shown,
    written,
)
from tests.support.processes import environment_without

_ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment_without().keys() - environment_without(PREFIX).keys():
        monkeypatch.delenv(name)


def _set(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(PREFIX + name, value)


def _problems(monkeypatch: pytest.MonkeyPatch, *namespaces: str, **values: str) -> tuple[str, ...]:
    _set(monkeypatch, **values)
    with pytest.raises(WrongSettingsError) as caught:
        read_settings(namespaces)
    return caught.value.problems


def test_without_any_variable_nothing_is_bound_and_the_whole_cluster_is_seen() -> None:
    settings = read_settings()
    assert [glob.text for glob in settings.bounds.registries] == ["*"]
    assert (settings.bounds.allow_insecure, settings.plan_only, settings.namespaces) == (True, False, ())
    assert settings.reach == Reach()


def test_lists_are_separated_by_commas_or_white_space_and_patterns_by_white_space_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _set(
        monkeypatch,
        ALLOWED_REGISTRIES="a.example.com:5000, *.example.org\n",
        PROTECTED_REPOSITORIES="prod/**,base/*",
        PROTECTED_TAGS="v[0-9]{1,3}\nrelease-.*",
        NAMESPACES="team-a team-b,team-a",
    )
    settings = read_settings()
    assert settings.allowed_registries == ("a.example.com:5000", "*.example.org")
    assert settings.protected_repositories == ("prod/**", "base/*")
    assert settings.protected_tags == ("v[0-9]{1,3}", "release-.*")
    assert settings.namespaces == ("team-a", "team-b")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ALLOWED_REGISTRIES", "https://a.example.com", "write for example 'registry.example.com'"),
        ("ALLOWED_REGISTRIES", "a:99999", "write for example 'registry.example.com'"),
        ("ALLOWED_REGISTRIES", " , ", "write '*' for any registry"),
        ("TRUSTED_TOKEN_HOSTS", "a/b", "not a host"),
        ("PROTECTED_REPOSITORIES", "Prod/**", "allowed are lower-case letters"),
        ("PROTECTED_TAGS", "v1 ((", "is not a regular expression of RE2 syntax"),
        ("SMALLEST_INTERVAL", "1 hour", "write for example '30d', '12h'"),
        ("MAX_DELETIONS", "0", "greater than or equal to 1"),
        ("MAX_CONCURRENCY", "many", "valid integer"),
        ("MAX_REQUESTS_PER_SECOND", "inf", "finite number"),
        ("ALLOW_INSECURE", "maybe", "valid boolean"),
        ("NAMESPACES", "Team", "write for example 'team-a'"),
        ("IN_USE_SCOPE", "cluster", "'Cluster' or 'Namespaces'"),
        ("IN_USE_SCOPE", "Namespaces", "needs the setting REGISTRY_CLEANUP_NAMESPACES or --namespace"),
    ],
)
def test_a_wrong_value_is_told_with_its_variable_and_what_to_write(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    (problem,) = _problems(monkeypatch, **{name: value})
    assert problem.startswith(f"{PREFIX}{name}: ")
    assert told in problem


def test_all_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = _problems(monkeypatch, PROTECTED_TAGS="(( [", MAX_DELETIONS="0", PLAN_ONYL="true")
    assert [problem.partition(":")[0] for problem in problems] == [
        f"{PREFIX}PROTECTED_TAGS",
        f"{PREFIX}MAX_DELETIONS",
        f"{PREFIX}PLAN_ONYL",
    ]
    assert "'(('" in problems[0]
    assert "'['" in problems[0]


@pytest.mark.parametrize("name", ["PLAN_ONYL", "ALLOWED_REGISTRY", "PORT_8080_TCP"])
def test_a_variable_that_is_no_setting_stops_the_start_since_a_bound_that_is_mistyped_would_bound_nothing(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (problem,) = _problems(monkeypatch, **{name: "x"})
    assert problem.startswith(f"{PREFIX}{name}: is no setting of this operator")


def test_namespaces_of_the_command_line_go_before_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, NAMESPACES="team-a", IN_USE_SCOPE="Namespaces")
    settings = read_settings(["team-b"])
    assert settings.reach == Reach(("team-b",), confined=True)
    (line,) = (line for line in shown(settings, ["team-b"]) if line.startswith(f"{PREFIX}NAMESPACES="))
    assert line.split("  # ")[1] == "command line"


def test_a_confined_operator_looks_at_the_whole_cluster_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, NAMESPACES="team-a")
    assert read_settings().reach == Reach((), confined=True)


def test_every_setting_is_shown_with_its_value_and_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, MAX_DELETIONS="200", PROTECTED_TAGS="a  b")
    lines = dict(line.split("=", 1) for line in shown(read_settings()))
    assert lines.keys() == described().keys()
    assert re.split(" +# ", lines[f"{PREFIX}MAX_DELETIONS"]) == ["200", "environment"]
    assert re.split(" +# ", lines[f"{PREFIX}PROTECTED_TAGS"]) == ["a b", "environment"]
    assert re.split(" +# ", lines[f"{PREFIX}PLAN_ONLY"]) == ["false", "default"]


def test_what_is_shown_can_be_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, ALLOWED_REGISTRIES="a,b:5000", PLAN_ONLY="1", MAX_REQUESTS_PER_SECOND="2.5", NAMESPACES="x y")
    before = read_settings()
    for field in Settings.model_fields:
        monkeypatch.setenv(PREFIX + field.upper(), written(before, field))
    assert read_settings() == before


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_described(field: str) -> None:
    text, _, rest = described()[PREFIX + field.upper()].rpartition(" [default: ")
    assert len(text) > 10
    assert rest != "]"


def test_the_config_map_of_the_base_names_every_setting_with_its_default() -> None:
    text = (_ROOT / "manifests" / "base" / "settings.yaml").read_text()
    head, _, comments = text.partition("# data:\n")
    assert "name: registry-cleanup-settings" in head
    named = yaml.safe_load("\n".join(line.removeprefix("#   ") for line in comments.splitlines()))
    # What is another at each start is no two pods', and in no ConfigMap of both; the Deployment sets the account, and
    # the folder that it mounts.
    deployed = {"service_account", "cache_dir"}
    fields = {field: text for field, text in defaults().items() if text is not None and field not in deployed}
    assert named == {PREFIX + field.upper(): text for field, text in fields.items()}


def _operator(*arguments: str, **values: str) -> subprocess.CompletedProcess[str]:
    environment = environment_without(PREFIX, **{PREFIX + name: value for name, value in values.items()})
    command = [sys.executable, "-m", "registry_cleanup", "operator", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


def test_check_prints_what_holds_and_does_no_more() -> None:
    done = _operator("--check", "--namespace=team-a", "--namespace=team-b", PLAN_ONLY="true")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^REGISTRY_CLEANUP_NAMESPACES=team-a,team-b +# command line$", done.stdout, re.MULTILINE)
    assert re.search(r"^REGISTRY_CLEANUP_PLAN_ONLY=true +# environment$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("arguments", [["--check"], []])
def test_check_and_start_alike_end_with_code_2_and_all_that_is_wrong(arguments: list[str]) -> None:
    done = _operator(*arguments, MAX_DELETIONS="0", PLAN_ONYL="true")
    assert done.returncode == 2
    assert done.stdout == ""
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        "Error",
        f"{PREFIX}MAX_DELETIONS",
        f"{PREFIX}PLAN_ONYL",
    ]


def test_help_names_every_setting() -> None:
    done = _operator("--help")
    assert done.returncode == 0
    assert set(re.findall(r"^  (REGISTRY_CLEANUP_[A-Z_]+)", done.stdout, re.MULTILINE)) == described().keys()


def test_a_protected_tag_with_a_comma_is_refused_since_it_would_protect_nothing() -> None:
    done = _operator("--check", PROTECTED_TAGS="v.*,release-.*")
    assert done.returncode == 2
    assert "separate the patterns by white space" in done.stderr
    assert _operator("--check", PROTECTED_TAGS="v[0-9]{1,3} release-.*").returncode == 0


def test_a_port_in_use_is_told_with_the_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104 - as the operator binds it
        taken.listen()
        done = _operator(HEALTH_PORT=str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "HEALTH_PORT to another" in done.stderr
