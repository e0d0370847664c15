"""Which document of a file is the policy that is meant, and what is said where there is none, or none to obey."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.files.policy_file import Document, problems_of, read, read_one
from tests.support.crd_cases import BASE

_HEAD = "apiVersion: registrycleanup.dev/v1alpha1\nkind: RegistryCleanupPolicy\n"
_SPEC = yaml.safe_dump({"spec": BASE["spec"]})
_INVALID = "the policy is not valid:\npolicy.yaml:"
_IS_CONFIG_MAP = "policy.yaml:1: is a ConfigMap, not a RegistryCleanupPolicy"
_CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"


def _policy(name: str, namespace: str | None = None) -> str:
    where = "" if namespace is None else f", namespace: {namespace}"
    return f"{_HEAD}metadata: {{name: {name}{where}}}\n{_SPEC}"


def _file(folder: Path, text: str | bytes) -> Path:
    file = folder / "policy.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def _refusal(file: Path, name: str | None = None) -> str:
    with pytest.raises(CommandError) as caught:
        read_one(file, name)
    assert caught.value.code is Exit.USAGE
    return str(caught.value).replace(f"{file.parent}/", "")


def test_the_only_policy_of_a_file_is_meant_whatever_else_is_in_it(tmp_path: Path) -> None:
    file = _file(tmp_path, f"# words\n---\n{_CONFIG_MAP}---\n{_policy('a')}---\n")
    document = read_one(file)
    assert (document.file, document.line, document.name, document.namespace) == (str(file), 7, "a", None)
    assert document.body["spec"] == BASE["spec"]
    assert document.line_of("spec.registry.url") == 12


def test_a_policy_of_several_is_chosen_by_its_name(tmp_path: Path) -> None:
    file = _file(tmp_path, "---\n".join([_policy("a"), _policy("b", "team"), _policy("c", "team"), _policy("c")]))
    assert read_one(file, "b").namespace == "team"
    listed = "  line 1: a\n  line 17: team/b\n  line 33: team/c\n  line 49: c"
    assert _refusal(file) == f"policy.yaml: holds several policies; name one of them:\n{listed}"
    assert _refusal(file, "d") == f"policy.yaml: holds no policy 'd', but:\n{listed}"
    assert _refusal(file, "c") == "policy.yaml: holds several policies 'c':\n  line 33: team/c\n  line 49: c"


def test_the_items_of_a_list_are_documents_of_their_own(tmp_path: Path) -> None:
    items = [yaml.safe_load(_policy(name)) for name in ("a", "b")]
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [yaml.safe_load(_CONFIG_MAP), *items]})
    document = read_one(_file(tmp_path, text), "b")
    assert text.splitlines()[document.line - 1].lstrip(" -").startswith("apiVersion")
    assert text.splitlines()[document.line_of("metadata.name") - 1].strip() == "name: b"
    nested = {"apiVersion": "v1", "kind": "List", "items": [json.loads(json.dumps({"kind": "List", "items": items}))]}
    assert read_one(_file(tmp_path, json.dumps(nested)), "a").name == "a"


def test_json_is_read_with_its_lines_and_with_tabs(tmp_path: Path) -> None:
    document = read_one(_file(tmp_path, json.dumps(yaml.safe_load(_policy("a")), indent="\t")))
    assert (document.name, document.line_of("metadata.name")) == ("a", 5)


def test_a_policy_comes_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(_policy("a").encode())))
    assert read_one(Path("-")).file == "-"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "policy.yaml: is empty; it should hold a RegistryCleanupPolicy"),
        ("# nothing\n---\n", "policy.yaml: is empty; it should hold a RegistryCleanupPolicy"),
        (_CONFIG_MAP, _IS_CONFIG_MAP),
        (
            f"{_CONFIG_MAP}---\na: b\n",
            f"{_IS_CONFIG_MAP}\npolicy.yaml:5: is no resource, since it has no kind, not a RegistryCleanupPolicy",
        ),
        ("words\n", "policy.yaml:1: is no resource: it should have apiVersion, kind and metadata"),
        ("[]\n", "policy.yaml:1: is no resource: it should have apiVersion, kind and metadata"),
        ("kind: List\nitems: [3]\n", "policy.yaml:2: is no resource: it should have apiVersion, kind and metadata"),
        ("kind: List\nitems: []\n", "policy.yaml:1: is a List, not a RegistryCleanupPolicy"),
        ("a: [\n", "policy.yaml:2: is not YAML: did not find expected node content while parsing a flow node"),
        ("a:\n\tb: c\n", "policy.yaml:2: is indented with a tab; YAML takes spaces only"),
        (b"a: \n\xff\n", "policy.yaml:2: is not text in UTF-8"),
        (b"#" * (16 * 1024 * 1024 + 1), "policy.yaml: is larger than 16 MiB, and surely no policy"),
        (
            _policy("a").replace("v1alpha1", "v2"),
            f"{_INVALID}1: apiVersion: must be registrycleanup.dev/v1alpha1",
        ),
        (
            _policy("a").replace("Policy", "Polices"),
            f"{_INVALID}2: kind: must be RegistryCleanupPolicy",
        ),
        (
            _policy("a") + "  dryRun: true\n  dryRun: false\n",
            f"{_INVALID}17: spec.dryRun: is there twice, first in line 16; keep one of them",
        ),
        (
            _policy("a") + "  minTagsPerRepository: on\n",
            f"{_INVALID}16: spec.minTagsPerRepository: must be an integer, and true is a boolean",
        ),
    ],
)
def test_a_file_without_a_policy_to_obey_is_told_with_its_line(text: str | bytes, told: str, tmp_path: Path) -> None:
    assert _refusal(_file(tmp_path, text)) == told


def test_what_a_file_holds_commands_no_terminal_and_begins_no_line(tmp_path: Path) -> None:
    wild = "a\\e[31m\\n::error::b"
    told = _refusal(_file(tmp_path, _policy("a") + f'  "{wild}": 1\n'))
    assert told.splitlines()[1].startswith("policy.yaml:16: spec.a\\x1b[31m\\n::error::b: is not a field")
    several = _policy("a") + "---\n" + _policy(f'"{wild}"')
    assert _refusal(_file(tmp_path, several)).splitlines()[-1] == "  line 17: a\\x1b[31m\\n::error::b"


def test_a_file_that_is_not_there_or_a_folder_is_told(tmp_path: Path) -> None:
    assert _refusal(tmp_path / "none.yaml") == "none.yaml: No such file or directory"
    assert "Is a directory" in _refusal(tmp_path)


def test_many_documents_of_other_kinds_are_not_all_listed(tmp_path: Path) -> None:
    told = _refusal(_file(tmp_path, "---\n".join([_CONFIG_MAP] * 12))).splitlines()
    assert (len(told), told[-1]) == (11, "policy.yaml: 2 more documents are no RegistryCleanupPolicy either")


def test_keys_that_are_there_twice_in_an_item_of_a_list_are_told_of_that_item() -> None:
    text = "kind: List\nitems:\n- kind: RegistryCleanupPolicy\n- kind: RegistryCleanupPolicy\n  a: 1\n  a: 2\n"
    first, second = read("x", text).policies
    assert (first.twice, [(p.line, p.path) for p in second.twice]) == ((), [(6, "a")])


def test_a_byte_order_mark_and_the_line_ends_of_windows_do_no_harm(tmp_path: Path) -> None:
    text = _policy("a").replace("\n", "\r\n")
    document = read_one(_file(tmp_path, b"\xef\xbb\xbf---\r\n" + text.encode()))
    assert (document.name, document.line_of("spec.rules[0].olderThan")) == ("a", 13)


_keys = st.sampled_from(
    [
        *("apiVersion", "kind", "metadata", "name", "namespace", "labels", "annotations", "spec", "items", "status"),
        *("registry", "url", "repositories", "include", "exclude", "rules", "tags", "keep", "mostRecent", "extract"),
        *(
            "olderThan",
            "orderBy",
            "inUse",
            "namespaceSelector",
            "matchLabels",
            "matchExpressions",
            "operator",
            "limits",
        ),
    ]
) | st.text(max_size=6)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["30d", "**", "("]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)


def _changed(value: object, path: list[int], new: object) -> object:
    """Return `value` with something replaced at a place that exists: `path` chooses it."""
    if not path or not isinstance(value, (dict, list)) or not value:
        return new
    first, *rest = path
    if isinstance(value, list):
        place = first % len(value)
        return [_changed(item, rest, new) if index == place else item for index, item in enumerate(value)]
    chosen = sorted(value, key=str)[first % len(value)]
    return {key: _changed(item, rest, new) if key == chosen else item for key, item in value.items()}


def _all_told(text: str) -> None:
    """Read `text`; whatever is in it, it is told with lines that exist."""
    lines = len(text.splitlines()) + 1  # to YAML, too, a lone carriage return ends a line
    contents = read("x", text)
    for problem in [*contents.problems, *(p for each in contents.policies for p in problems_of(each))]:
        assert problem.line is not None
        assert 1 <= problem.line <= lines
        assert problem.message


@given(st.lists(st.integers(0, 9), max_size=6), _values)
def test_whatever_a_policy_holds_is_told_and_never_a_traceback(path: list[int], new: object) -> None:
    _all_told(yaml.safe_dump(_changed(dict(BASE), path, new), allow_unicode=True))


@given(st.text(alphabet=" \n\t-:[]{}&*!|>'\"#%@`,?a1.~<=\\y\x00é", max_size=40) | st.text(max_size=30))
def test_whatever_text_a_file_holds_is_told_and_never_a_traceback(text: str) -> None:
    _all_told(text)
    _all_told(f"{_HEAD}spec: {text}")


def test_a_document_without_lines_tells_its_first() -> None:
    assert Document("x", 3, {}).line_of("spec.rules") == 3
