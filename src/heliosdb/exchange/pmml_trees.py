"""Trees as segments of a MiningModel.

What always holds: of a node's two children the first has the condition, and the second takes all else; a
comparison with a missing value is not met.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from xml.etree import ElementTree as ET

import numpy as np

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.state import State
from heliosdb.exchange.pmml_inputs import input_name
from heliosdb.exchange.portable import Portable, levels_left, threshold

MOST_NODES: Final = 200_000


def add_trees(parent: ET.Element, model: Portable, add_schema: Callable[[ET.Element], None]) -> None:
    """Add the trees, whose leaves are summed up (boosting) or averaged. add_schema: adds a tree's fields."""
    trees = model.arrays
    if trees["tree"].size > MOST_NODES:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT,
            f"trees of {trees['tree'].size} nodes are too large to be exported as PMML",
            detail=f"At most {MOST_NODES} are written.",
        )
    method = "sum" if model.content["boosts"] else "average"
    segments = ET.SubElement(parent, "Segmentation", multipleModelMethod=method)
    for number, root in enumerate(np.unique(trees["tree"], return_index=True)[1]):
        segment = ET.SubElement(segments, "Segment", id=f"tree_{number}")
        ET.SubElement(segment, "True")
        tree = ET.SubElement(
            segment, "TreeModel", functionName="regression", splitCharacteristic="binarySplit"
        )
        add_schema(tree)
        top = ET.SubElement(tree, "Node", id=str(root))
        ET.SubElement(top, "True")
        _grow(top, trees, int(root))


def _grow(parent: ET.Element, trees: State, node: int) -> None:
    """Add what lies below a node, or its value."""
    if trees["feature"][node] < 0:
        parent.set("score", repr(float(trees["values"][node, 0])))
        return
    left = int(trees["left"][node])
    first = ET.SubElement(parent, "Node", id=str(left))
    first.append(_condition(trees, node))
    _grow(first, trees, left)
    second = ET.SubElement(parent, "Node", id=str(left + 1))
    ET.SubElement(second, "True")
    _grow(second, trees, left + 1)


def _condition(trees: State, node: int) -> ET.Element:
    place = int(trees["feature"][node])
    name = input_name(place)
    if trees["levels"][place]:
        met = _is_among(name, levels_left(trees, node))
    else:
        met = ET.Element(
            "SimplePredicate", field=name, operator="lessOrEqual", value=repr(threshold(trees, node))
        )
    if not trees["missing_left"][node]:
        return met
    either = ET.Element("CompoundPredicate", booleanOperator="or")
    ET.SubElement(either, "SimplePredicate", field=name, operator="isMissing")
    either.append(met)
    return either


def _is_among(name: str, levels: list[int]) -> ET.Element:
    if not levels:
        return ET.Element("False")
    found = ET.Element("SimpleSetPredicate", field=name, booleanOperator="isIn")
    ET.SubElement(found, "Array", n=str(len(levels)), type="real").text = " ".join(
        repr(float(one)) for one in levels
    )
    return found
