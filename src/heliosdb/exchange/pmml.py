"""A version as PMML 4.4: a RegressionModel, or a MiningModel of trees.

What always holds: fields are those that an ONNX file has as inputs, but that an array is one field for each
element and NULL is a missing value; the result is the output field `prediction`, or of several classes
`probability_1` and so on, in the order of the labels.
"""

from __future__ import annotations

import json
from typing import Any, Final
from xml.etree import ElementTree as ET

import numpy as np

from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.errors import not_supported
from heliosdb.exchange.pmml_inputs import add_inputs, field_names, input_name
from heliosdb.exchange.pmml_trees import add_trees
from heliosdb.exchange.portable import Portable

NAMESPACE: Final = "http://www.dmg.org/PMML-4_4"
_SCORE = "heliosdb_score"
_CONTINUOUS: Final[dict[str, Any]] = {"optype": "continuous", "dataType": "double"}


def render_pmml(model: Portable) -> bytes:
    """Return the file. FederatedError NOT_SUPPORTED for networks, and for trees of several classes;
    PROGRAM_LIMIT for trees that are too large."""
    if model.kind == "network":
        raise _cannot("a neural network")
    if model.kind == "convolution":
        raise not_supported(
            "a convolutional network cannot be exported as PMML", hint="--format json takes every model."
        )
    if model.kind == "series":
        raise not_supported(
            "a network on series cannot be exported as PMML", hint="--format json takes every model."
        )
    if model.kind == "trees" and model.has_many_classes:
        raise _cannot("trees of more than two classes")
    root = ET.Element("PMML", version="4.4", xmlns=NAMESPACE)
    _header(root, model)
    _dictionary(root, model)
    add_inputs(ET.SubElement(root, "TransformationDictionary"), model)
    if model.kind == "trees":
        _trees(root, model)
    else:
        _regression(root, model)
    ET.indent(root, " ")
    text: bytes = ET.tostring(root, encoding="utf-8")
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + text + b"\n"


def _cannot(what: str) -> Exception:
    return not_supported(
        f"{what} cannot be exported as PMML",
        hint="--format onnx or json takes every model.",
    )


def _header(root: ET.Element, model: Portable) -> None:
    header = ET.SubElement(root, "Header", description=f"Federated model {_printable(model.title)}")
    about = {
        "heliosdb.content_sha256": model.content_sha256,
        "heliosdb.origin": json.dumps(model.origin, sort_keys=True),
        "heliosdb.notice": "This is a copy. Erasures at its origin do not reach it.",
    }
    if model.card is not None:
        about["heliosdb.card"] = json.dumps(model.card, sort_keys=True)
    for name, value in about.items():
        ET.SubElement(header, "Extension", extender="heliosdb", name=name, value=value)
    ET.SubElement(header, "Application", name="heliosdb")


def _printable(text: str) -> str:
    """XML has no characters for most control codes."""
    return ascii(text)[1:-1] if any(ord(one) < 32 for one in text) else text


def _dictionary(root: ET.Element, model: Portable) -> None:
    names = [name for one in model.encoding.columns for name in field_names(one)]
    for text in [*names, *model.classes, *(level for one in model.encoding.columns for level in one.levels)]:
        if any(ord(one) < 32 and one not in "\t\n\r" for one in text):
            raise not_supported("a name or a label has a control character, which XML has not")
    fields = ET.SubElement(root, "DataDictionary", numberOfFields=str(len(names) + _has_target(model)))
    for one in model.encoding.columns:
        is_text = one.kind is ColumnKind.CATEGORY
        for name in field_names(one):
            ET.SubElement(
                fields, "DataField", name=name, optype="categorical" if is_text else "continuous",
                dataType="string" if is_text else "double",
            )  # fmt: skip
    if _has_target(model):
        target = ET.SubElement(
            fields, "DataField", name=_target(model), optype="categorical" if model.classes else "continuous",
            dataType="string" if model.classes else "double",
        )  # fmt: skip
        for label in model.classes:
            ET.SubElement(target, "Value", value=label)


def _has_target(model: Portable) -> bool:
    """What a forest says of two classes is a share, and no class."""
    return not (model.kind == "trees" and model.link == "logistic" and not model.content["boosts"])


def _target(model: Portable) -> str:
    name = model.target or "target"
    taken = {name for one in model.encoding.columns for name in field_names(one)}
    return name if name not in taken else f"heliosdb_target_{name}"


def _schema(parent: ET.Element, model: Portable, *, target: bool) -> None:
    schema = ET.SubElement(parent, "MiningSchema")
    for one in model.encoding.columns:
        for name in field_names(one):
            ET.SubElement(schema, "MiningField", name=name, invalidValueTreatment="asIs")
    if target and _has_target(model):
        ET.SubElement(schema, "MiningField", name=_target(model), usageType="target")


def _output(parent: ET.Element, model: Portable) -> None:
    output = ET.SubElement(parent, "Output")
    if model.has_many_classes:
        for place, label in enumerate(model.classes, 1):
            _probability(output, f"probability_{place}", label)
    elif model.classes and _has_target(model):
        _probability(output, "prediction", model.classes[1])
    else:
        ET.SubElement(
            output, "OutputField", name="prediction", feature="predictedValue", **_CONTINUOUS
        )  # fmt: skip


def _probability(output: ET.Element, name: str, label: str) -> None:
    ET.SubElement(
        output, "OutputField", name=name, feature="probability", value=label, **_CONTINUOUS
    )  # fmt: skip


def _regression(root: ET.Element, model: Portable) -> None:
    method = {"logistic": "logit", "exp": "exp", "softmax": "softmax", "identity": "none"}[model.link]
    made = ET.SubElement(
        root, "RegressionModel", functionName="classification" if model.classes else "regression",
        normalizationMethod=method,
    )  # fmt: skip
    _schema(made, model, target=True)
    _output(made, model)
    content = model.content
    slopes = np.atleast_2d(np.array(content["slopes"], dtype=np.float64))
    intercepts = np.atleast_1d(
        np.array(content.get("intercepts", content.get("intercept")), dtype=np.float64)
    )
    intercepts = intercepts - slopes @ np.array(content["shifts"], dtype=np.float64)
    if model.link == "identity":
        slopes = content["target_scale"] * slopes
        intercepts = content["target_mean"] + content["target_scale"] * intercepts
    labels: list[str | None] = list(model.classes) if model.has_many_classes else [None]
    if model.link == "logistic":
        labels = [model.classes[1]]
    for intercept, row, label in zip(intercepts, slopes, labels, strict=True):
        table = ET.SubElement(
            made,
            "RegressionTable",
            intercept=repr(float(intercept)),
        )
        if label is not None:
            table.set("targetCategory", label)
        for place, slope in enumerate(row):
            if slope != 0.0:
                ET.SubElement(
                    table, "NumericPredictor", name=input_name(place), coefficient=repr(float(slope))
                )
    if model.link == "logistic":
        ET.SubElement(made, "RegressionTable", intercept="0.0", targetCategory=model.classes[0])


def _trees(root: ET.Element, model: Portable) -> None:
    if not (model.content["boosts"] and model.link == "logistic"):
        made = ET.SubElement(root, "MiningModel", functionName="regression")
        _schema(made, model, target=True)
        _output(made, model)
        if model.link == "identity":
            _rescale(made, model)
        add_trees(made, model, lambda tree: _schema(tree, model, target=False))
        return
    chain = ET.SubElement(root, "MiningModel", functionName="classification")
    _schema(chain, model, target=True)
    segments = ET.SubElement(chain, "Segmentation", multipleModelMethod="modelChain")
    first = ET.SubElement(segments, "Segment", id="scores")
    ET.SubElement(first, "True")
    summed = ET.SubElement(first, "MiningModel", functionName="regression")
    _schema(summed, model, target=False)
    output = ET.SubElement(summed, "Output")
    ET.SubElement(
        output, "OutputField", name=_SCORE, feature="predictedValue", **_CONTINUOUS
    )  # fmt: skip
    add_trees(summed, model, lambda tree: _schema(tree, model, target=False))
    second = ET.SubElement(segments, "Segment", id="link")
    ET.SubElement(second, "True")
    link = ET.SubElement(
        second, "RegressionModel", functionName="classification", normalizationMethod="logit"
    )
    schema = ET.SubElement(link, "MiningSchema")
    ET.SubElement(schema, "MiningField", name=_SCORE)
    ET.SubElement(schema, "MiningField", name=_target(model), usageType="target")
    _output(link, model)
    base = repr(float(model.arrays["base"][0]))
    table = ET.SubElement(link, "RegressionTable", intercept=base, targetCategory=model.classes[1])
    ET.SubElement(table, "NumericPredictor", name=_SCORE, coefficient="1.0")
    ET.SubElement(link, "RegressionTable", intercept="0.0", targetCategory=model.classes[0])


def _rescale(made: ET.Element, model: Portable) -> None:
    scale, mean = float(model.content["target_scale"]), float(model.content["target_mean"])
    base = float(model.arrays["base"][0]) if model.content["boosts"] else 0.0
    targets = ET.SubElement(made, "Targets")
    constant = repr(mean + scale * base)
    ET.SubElement(
        targets, "Target", field=_target(model), rescaleFactor=repr(scale), rescaleConstant=constant
    )
