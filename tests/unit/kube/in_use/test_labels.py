"""Label selectors that are applied here are those that the API would apply."""

import pytest

from registry_cleanup.kube.in_use.labels import bears
from registry_cleanup.kube.model import NamespaceSelectorSpec
from registry_cleanup.kube.spec import _label_selector as label_selector

_LABELS = {"team": "a", "example.com/tier": "gold", "empty": ""}


@pytest.mark.parametrize(
    ("selector", "holds"),
    [
        ({"matchLabels": {"team": "a"}}, True),
        ({"matchLabels": {"team": "b"}}, False),
        ({"matchLabels": {"team": "a", "example.com/tier": "gold"}}, True),
        ({"matchLabels": {"team": "a", "example.com/tier": "tin"}}, False),
        ({"matchLabels": {"empty": ""}}, True),
        ({"matchLabels": {"absent": ""}}, False),
        ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["b", "a"]}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["b", "c"]}]}, False),
        ({"matchExpressions": [{"key": "absent", "operator": "In", "values": ["a"]}]}, False),
        ({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["b", "c"]}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["b", "a"]}]}, False),
        ({"matchExpressions": [{"key": "absent", "operator": "NotIn", "values": ["a"]}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "absent", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "absent", "operator": "DoesNotExist"}]}, True),
        (
            {
                "matchLabels": {"example.com/tier": "gold"},
                "matchExpressions": [
                    {"key": "team", "operator": "In", "values": ["a", "b"]},
                    {"key": "absent", "operator": "DoesNotExist"},
                ],
            },
            True,
        ),
        (
            {
                "matchLabels": {"example.com/tier": "gold"},
                "matchExpressions": [
                    {"key": "team", "operator": "NotIn", "values": ["a", "b"]},
                    {"key": "empty", "operator": "Exists"},
                ],
            },
            False,
        ),
    ],
)
def test_a_namespace_bears_what_a_selector_of_a_policy_says(selector: dict[str, object], *, holds: bool) -> None:
    assert bears(_LABELS, label_selector(NamespaceSelectorSpec.model_validate(selector))) is holds
