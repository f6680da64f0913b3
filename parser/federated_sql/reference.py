"""The parts of the language's reference that the grammar and the option table know.

What always holds: only what stands between `<!-- generated: name -->` and `<!-- end -->` is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from federated_sql.alert_metrics import METRICS
from federated_sql.compliance import mode_lines
from federated_sql.grammar import RULES
from federated_sql.option_table import OPTIONS, OptionKind, specs
from federated_sql.option_values import Built, OptionSpec, allowed_text, describe_allowed

_PART = re.compile(r"<!-- generated: (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def language_parts(built: Built) -> dict[str, str]:
    """Return each part that the language itself knows, by name."""
    parts = {
        "statements": _statements(),
        "metrics": _metrics(),
        "modes": "".join(mode_lines()),
    }
    return parts | {kind.value: _options(kind, built) for kind in OptionKind}


def replace_parts(page: str, parts: Mapping[str, str]) -> str:
    """Return `page` with every marked part that is in `parts` as it is there."""
    return _PART.sub(
        lambda found: (
            f"<!-- generated: {found[1]} -->\n{parts[found[1]]}<!-- end -->"
            if found[1] in parts
            else found[0]
        ),
        page,
    )


def _statements() -> str:
    shapes = dict.fromkeys(rule.shape for rule in RULES.values())
    return "```\n" + "".join(f"{shape}\n" for shape in shapes) + "```\n"


def _metrics() -> str:
    rows = "".join(f"| `{metric.name}` | {metric.unit} | {metric.meaning} |\n" for metric in METRICS.values())
    return "| metric | unit | value |\n|---|---|---|\n" + rows


def _options(kind: OptionKind, built: Built) -> str:
    if kind is OptionKind.TRAINING:
        return ", ".join(f"`{name}`" for name in OPTIONS[kind]) + "\n"
    rows = "".join(f"| {' | '.join(_row(spec))} |\n" for spec in specs(kind, built).values())
    return "| option | value | default | meaning | has its effect |\n|---|---|---|---|---|\n" + rows


def _row(spec: OptionSpec) -> Iterator[str]:
    yield f"`{spec.name}`"
    yield describe_allowed(spec)
    yield spec.derived or ("none" if spec.default is None else f"`{allowed_text(spec.default)}`")
    yield spec.meaning
    if not spec.built:
        yield "not yet"
    elif spec.built_values is None:
        yield "yes"
    else:
        yield "only " + ", ".join(f"`{allowed_text(value)}`" for value in spec.built_values)
