"""Columns as the inputs of a model, as derived fields of PMML.

What always holds: of a linear model an input that is missing has the value that it is filled with; of trees
it stays missing.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind
from heliosdb.exchange.portable import Portable, level_place


def field_names(one: ColumnEncoding) -> list[str]:
    """The fields that hold a column's values."""
    if one.kind.is_several:
        return [f"{one.column}[{place}]" for place in range(1, one.elements + 1)]
    return [one.column]


def input_name(place: int) -> str:
    """The derived field of an input."""
    return f"heliosdb_i{place}"


def add_inputs(transformations: ET.Element, model: Portable) -> None:
    """Add a derived field for each input, and for what several of them are made of."""
    fills = model.content.get("fills")
    place = 0
    for number, one in enumerate(model.encoding.columns):
        known = _known(transformations, one, number)
        values = [_input(one, known, at) for at in range(len(one.inputs))]
        for value in values:
            derived = _derive(transformations, input_name(place))
            derived.append(value if fills is None else _filled(one, known, value, float(fills[place])))
            place += 1


def _derive(parent: ET.Element, name: str) -> ET.Element:
    return ET.SubElement(parent, "DerivedField", name=name, optype="continuous", dataType="double")


def _known(transformations: ET.Element, one: ColumnEncoding, number: int) -> list[str]:
    """The fields that hold a column's numbers, missing where they are; of a category the levels' indices."""
    fields = field_names(one)
    if one.kind is ColumnKind.CATEGORY:
        name = f"heliosdb_c{number}"
        _derive(transformations, name).append(_levels(one))
        return [name]
    if one.form != "log1p":
        return fields
    names = []
    for at, field in enumerate(fields):
        names.append(f"heliosdb_c{number}_{at}")
        _derive(transformations, names[-1]).append(_log1p(field))
    return names


def _levels(one: ColumnEncoding) -> ET.Element:
    absent, other = level_place(one)
    made = ET.Element("MapValues", outputColumn="index", dataType="double")
    if absent is not None:
        made.set("mapMissingTo", repr(absent))
    if other is not None:
        made.set("defaultValue", repr(other))
    ET.SubElement(made, "FieldColumnPair", field=one.column, column="level")
    table = ET.SubElement(made, "InlineTable")
    for place, level in enumerate(one.levels):
        row = ET.SubElement(table, "row")
        ET.SubElement(row, "level").text = level
        ET.SubElement(row, "index").text = repr(float(place))
    return made


def _log1p(field: str) -> ET.Element:
    sum_of = _apply("+", _field(field), _constant(1.0))
    return _apply("if", _apply("greaterThan", _field(field), _constant(-1.0)), _apply("ln", sum_of))


def _input(one: ColumnEncoding, known: list[str], at: int) -> ET.Element:
    if one.missing_indicator and at == len(one.inputs) - 1:
        missing = _apply("isMissing", _field(known[0]))
        for name in known[1:]:
            missing = _apply("and", missing, _apply("isMissing", _field(name)))
        return _apply("if", missing, _constant(1.0), _constant(0.0))
    match one.form:
        case "bins":
            condition = _apply("greaterThan", _field(known[0]), _constant(one.edges[at]))
        case "indicators":
            condition = _apply("equal", _field(known[0]), _constant(float(at + 1)))
        case _:
            return _field(known[at])
    return _apply("if", condition, _constant(1.0), _constant(0.0))


def _filled(one: ColumnEncoding, known: list[str], value: ET.Element, fill: float) -> ET.Element:
    """The value of an input, or what it is filled with; one that says what is missing is never missing."""
    if value.tag == "Apply" and value[0].get("function") in ("isMissing", "and"):
        return value
    source = known[0] if one.form in ("bins", "indicators") else value.get("field", known[0])
    return _apply("if", _apply("isNotMissing", _field(source)), value, _constant(fill))


def _apply(function: str, *values: ET.Element) -> ET.Element:
    made = ET.Element("Apply", function=function)
    made.extend(values)
    return made


def _field(name: str) -> ET.Element:
    return ET.Element("FieldRef", field=name)


def _constant(value: float) -> ET.Element:
    made = ET.Element("Constant", dataType="double")
    made.text = repr(value)
    return made
