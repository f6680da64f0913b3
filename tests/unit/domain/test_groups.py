"""How the nodes of a run are dealt to groups."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.domain.groups import dealt
from heliosdb.domain.ids import NodeName, WorkspaceName

WORKSPACE = WorkspaceName("consortium")
NODES = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=60, unique=True)


@given(NODES, st.data(), st.text())
def test_every_node_is_in_one_group_and_groups_are_even(
    names: list[str], data: st.DataObject, workspace: str
) -> None:
    nodes = [NodeName(name) for name in names]
    count = data.draw(st.integers(1, len(nodes)))
    groups = dealt(nodes, count, WorkspaceName(workspace))
    assert len(groups) == count
    assert sorted(node for group in groups for node in group) == sorted(nodes)
    sizes = {len(group) for group in groups}
    assert max(sizes) - min(sizes) <= 1


def test_the_order_in_which_nodes_are_named_does_not_matter() -> None:
    nodes = [NodeName(f"n{number}") for number in range(9)]
    assert dealt(nodes, 3, WORKSPACE) == dealt(nodes[::-1], 3, WORKSPACE)


@pytest.mark.parametrize("node", ["n0", "n7"])
def test_a_nodes_group_hangs_on_the_workspace(node: str) -> None:
    nodes = [NodeName(f"n{number}") for number in range(9)]
    found = {
        next(
            index for index, group in enumerate(dealt(nodes, 3, WorkspaceName(f"w{number}"))) if node in group
        )
        for number in range(40)
    }
    assert found == {0, 1, 2}
