"""A model card's page: what a model is for, what it learned from, what that cost and how well it does.

What always holds: it says what federated_model_card says; what nobody recorded is shown as not recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heliosdb.cli.reports.page import Page, Section, section, show

_DEFINITION = (
    "workspace",
    "owner",
    "owner_contact",
    "intended_use",
    "algorithm",
    "target",
    "features",
    "created_at",
    "versions",
    "made_at",
)


def card_page(card: Mapping[str, Any]) -> Page:
    """The card, for people."""
    version: Mapping[str, Any] | None = card["version"]
    facts = tuple((key.replace("_", " "), show(card[key])) for key in _DEFINITION)
    return Page(
        f"Model card of {show(card['model'])}",
        facts if version is not None else (*facts, ("version", "none yet")),
        () if version is None else tuple(_sections(version)),
    )


def _sections(version: Mapping[str, Any]) -> Iterator[Section]:
    yield _pairs(
        f"Version {show(version['version'])}",
        version,
        ("is_current", "tags", "created_at", "round_number", "run_id", "parameters_sha256"),
    )
    data = version["data"]
    yield _pairs("Data", data, ("target", "features", "dataset"))
    sites = ("node", "data_residency", "rounds", "rows")
    yield section(
        "Sites",
        sites,
        ([one[key] for key in sites] for one in data["sites"]),
        "Rows as each node stated them: a noised count under a privacy budget.",
    )
    yield _pairs("Privacy", version["privacy"])
    yield _pairs(
        "Metrics over held-out rows",
        version["metrics"],
        note="Not recorded: not measured, or not defined for this kind of model.",
    )
    training = dict(version["training"])
    options: Mapping[str, Any] = training.pop("options")
    yield _pairs("Training", training)
    yield section("Options of the run", ("option", "value"), sorted(options.items()))


def _pairs(
    title: str, values: Mapping[str, Any], keys: tuple[str, ...] | None = None, note: str | None = None
) -> Section:
    chosen = sorted(values) if keys is None else keys
    return section(title, ("what", "value"), ((key.replace("_", " "), values[key]) for key in chosen), note)
