"""What documentation, dashboard and alert rules say of metrics is what the daemons show."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from federated_sql.reference import replace_parts
from heliosdb.observing.metric import Kind, Metric
from heliosdb.observing.settings import TracedSettings
from heliosdb.observing.table import METRICS, reference_parts

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
RULES = yaml.safe_load((ROOT / "packaging/prometheus/heliosdb.rules.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((ROOT / "packaging/grafana/heliosdb.json").read_text(encoding="utf-8"))

_ALL = {metric.name: metric for metrics in METRICS.values() for metric in metrics}
_PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
_ADDED = {"instance", "job"}


def series_of(metric: Metric) -> set[str]:
    """The names that a scrape shows of a metric."""
    if metric.kind is Kind.HISTOGRAM:
        return {f"{metric.name}_{part}" for part in ("bucket", "count", "sum")}
    return {metric.name}


SERIES = {name: metric for metric in _ALL.values() for name in series_of(metric)}


def selectors(expression: Any) -> list[promql_parser.VectorSelector]:
    """All selectors within a parsed expression."""
    found: list[promql_parser.VectorSelector] = []

    def visit(one: Any) -> None:
        if isinstance(one, promql_parser.VectorSelector):
            found.append(one)

    promql_parser.walk(expression, visit)
    return found


def check(text: str) -> set[str]:
    """The metrics that an expression reads; AssertionError where one of them, or a label, is none."""
    known = text.replace("$__rate_interval", "5m").replace("$workspace", ".*")
    found = selectors(promql_parser.parse(known))
    assert found, text
    for one in found:
        assert one.name in SERIES.keys() | _PROCESS, f"{one.name} in {text}"
        labels = set(SERIES[one.name].labels if one.name in SERIES else ()) | _ADDED
        assert {matcher.name for matcher in one.matchers.matchers} <= labels, text
    return {one.name for one in found}


def test_the_page_has_every_metric() -> None:
    assert replace_parts(PAGE, reference_parts()) == PAGE, "run: make reference"
    assert all(f"| `{name}` |" in PAGE for name in _ALL)


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", PAGE, re.S))
def test_the_examples_of_settings_are_accepted(example: str) -> None:
    TracedSettings.model_validate(tomllib.loads(example))


def test_the_example_of_a_log_line_is_json() -> None:
    for example in re.findall(r"```json\n(.*?)```", PAGE, re.S):
        assert {"time", "level", "logger", "message"} <= json.loads(example).keys()


def test_alert_rules_read_metrics_that_there_are() -> None:
    assert RULES.keys() == {"groups"}
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 15
    for rule in rules:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "1m"))
        assert rule["labels"]["severity"] in {"warning", "critical"}
        read = check(rule["expr"])
        labels = {label for name in read if name in SERIES for label in SERIES[name].labels} | _ADDED
        named = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert named <= labels, rule["alert"]


def test_the_dashboard_reads_metrics_that_there_are() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    read: set[str] = set()
    for panel in panels:
        assert {"id", "type", "title", "gridPos"} <= panel.keys()
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        for target in panel.get("targets", []):
            assert (
                target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            )
            read |= check(target["expr"])
            legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert legend <= {label for metric in _ALL.values() for label in metric.labels} | _ADDED
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables.keys() == {"datasource", "workspace"}
    [(name, label)] = re.findall(r"label_values\((\w+), (\w+)\)", variables["workspace"]["definition"])
    assert label in SERIES[name].labels
    for daemon in METRICS:
        assert any(name.startswith(f"heliosdb_{daemon}_") for name in read)


def test_panels_do_not_cover_each_other() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        covered = {
            (x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
        }
        assert not covered & cells, panel["title"]
        cells |= covered


@pytest.mark.parametrize(
    "wrong",
    ["sum(heliosdb_no_such_total)", 'heliosdb_ready{wrong="1"}', "1 + sum(rate(heliosdb_no_such_total[5m]))"],
)
def test_the_check_finds_what_is_wrong(wrong: str) -> None:
    with pytest.raises(AssertionError):
        check(wrong)
