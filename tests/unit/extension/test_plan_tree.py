"""How a plan is shown: the same values under the same names, as lines and as JSON."""

from __future__ import annotations

import json

from heliosdb.extension.plan_tree import Group, Listed, Property, json_text, text_lines

PLAN = Group(
    "Federated Training",
    "risk",
    (
        Property("Able", 2),
        Property("Fits", value=True),
        Property("Epsilon", 0.123456789),
        Property("Bytes", 24, "a node"),
        Property("Rows", None),
        Property("Steps", ("train", "evaluate")),
        Property("None of Them", ()),
        Listed(
            "Members", (Group("Node", "a\n->  b", (Property("Reason", "line\nbreak"),)), Group("Node", "c"))
        ),
    ),
)


def test_text_is_indented_and_a_value_never_leaves_its_line() -> None:
    assert text_lines(PLAN) == [
        "Federated Training: risk",
        "  Able: 2",
        "  Fits: yes",
        "  Epsilon: 0.1235",
        "  Bytes: 24 a node",
        "  Rows: unknown",
        "  Steps: train, evaluate",
        "  None of Them: none",
        "  ->  Node: a -> b",
        "        Reason: line break",
        "  ->  Node: c",
    ]


def test_json_holds_the_values_themselves() -> None:
    assert json.loads(json_text(PLAN)) == [
        {
            "Federated Training": {
                "Name": "risk",
                "Able": 2,
                "Fits": True,
                "Epsilon": 0.123456789,
                "Bytes": 24,
                "Rows": None,
                "Steps": ["train", "evaluate"],
                "None of Them": [],
                "Members": [{"Name": "a\n->  b", "Reason": "line\nbreak"}, {"Name": "c"}],
            }
        }
    ]
