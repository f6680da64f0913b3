"""Nodes of an ONNX graph, named as they are added.

What always holds: what is computed is of double precision, and constants are stored once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

ML_DOMAIN = "ai.onnx.ml"
OPSET, ML_OPSET, IR_VERSION = 18, 3, 8
"""Old enough for runtimes of 2023: nothing newer is needed."""

OWN = "heliosdb/"
"""Before the names of what the graph computes: inputs are called as features, which are called anything."""


class Nodes:
    """A graph that grows. A name is the result of a node, an input or a constant."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], tuple[str, NDArray[Any]]] = {}

    def take(self, name: str, kind: int, *width: int) -> str:
        """Add an input, one row a row."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, ["rows", *width]))
        return name

    def give(self, value: str, name: str, *width: int) -> None:
        """Make a result an output."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["rows", *width]))

    def constant(self, value: ArrayLike, dtype: Any = np.float64) -> str:
        """Add a constant."""
        array = np.array(value, dtype=dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        name, _ = self._constants.setdefault(key, (f"{OWN}constant_{len(self._constants)}", array))
        return name

    def add(self, operator: str, *values: str, domain: str = "", **attributes: Any) -> str:
        """Add a node of one result; return its name."""
        name = f"{OWN}{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(values), [name], domain=domain, **attributes))
        return name

    def as_double(self, value: str) -> str:
        """Cast to double."""
        return self.add("Cast", value, to=TensorProto.DOUBLE)

    def as_column(self, value: str) -> str:
        """(rows,) → (rows, 1)."""
        return self.add("Unsqueeze", value, self.constant([1], np.int64))

    def clip(self, value: str, bound: float) -> str:
        """Cut to ±bound."""
        return self.add("Clip", value, self.constant(-bound), self.constant(bound))

    def sum_of_rows(self, value: str, *, axis: int = 1, keep: bool = False) -> str:
        """The sum along an axis."""
        return self.add("ReduceSum", value, self.constant([axis], np.int64), keepdims=int(keep))

    def model(self, name: str, about: dict[str, str]) -> onnx.ModelProto:
        """Return the whole, checked. about: metadata."""
        stored = [numpy_helper.from_array(array, constant) for constant, array in self._constants.values()]
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, stored)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML_DOMAIN, ML_OPSET)]
        made = helper.make_model(graph, opset_imports=opsets, producer_name="heliosdb")
        made.ir_version = IR_VERSION
        helper.set_model_props(made, about)
        onnx.checker.check_model(made, full_check=True)
        return made
