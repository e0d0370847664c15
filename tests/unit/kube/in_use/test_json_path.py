"""Paths of an administrator: what they lead to, and what cannot be read."""

import pytest

from registry_cleanup.kube.in_use.json_path import JSONPath

_DOCUMENT = {
    "spec": {
        "image": "a:1",
        "steps": [{"image": "b:1"}, {"image": "c:1"}, {"script": "x"}, {"image": 7}, {"image": ""}],
        "by-name": {"one": {"image": "d:1"}, "two": {"image": "e:1"}},
        "odd.key/x": "f:1",
    },
    "list": ["g:1", "h:1"],
}


@pytest.mark.parametrize(
    ("path", "texts"),
    [
        (".spec.image", ["a:1"]),
        ("$.spec.image", ["a:1"]),
        ("{.spec.image}", ["a:1"]),
        (".spec['image']", ["a:1"]),
        ('.spec["image"]', ["a:1"]),
        (".spec.steps[*].image", ["b:1", "c:1"]),
        (".spec.steps[1].image", ["c:1"]),
        (".spec.steps[9].image", []),
        (".spec.by-name.*.image", ["d:1", "e:1"]),
        (".spec.by-name[*].image", ["d:1", "e:1"]),
        (".spec['odd.key/x']", ["f:1"]),
        (".list[*]", ["g:1", "h:1"]),
        (".spec.steps", []),
        (".nothing.there[*].image", []),
        (".spec.image.deeper", []),
        (".spec.image[0]", []),
    ],
)
def test_a_path_leads_to_texts_only(path: str, texts: list[str]) -> None:
    assert list(JSONPath.parse(path).texts(_DOCUMENT)) == texts


@pytest.mark.parametrize(
    "path",
    [
        "",
        "$",
        "{}",
        "spec.image",
        ".spec..image",
        ".spec[?(@.x)]",
        ".spec[-1]",
        ".spec[1:2]",
        ".spec.",
        ".a b",
        ".a['b",
    ],
)
def test_what_cannot_be_read_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be read|is empty"):
        JSONPath.parse(path)
