"""Scrapes of metrics, read as Prometheus reads them."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def read_series(text: str) -> dict[str, float]:
    """The series of a scrape by how one is written: `name{label="value"}`, labels in alphabetical order."""
    return {
        _written(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _written(name: str, labels: dict[str, str]) -> str:
    told = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{told}}}" if told else name


def scrape(port: int) -> dict[str, float]:
    """The series that a daemon of this machine shows now."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=120) as answer:
        return read_series(answer.read().decode())
