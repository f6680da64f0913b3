"""What is said of a firing: one JSON object for programs, one text for people.

What always holds: both say what the catalog says of the firing, and nothing of a row or a data subject; the
JSON is ASCII, so that every encoding has it, and at most `LONGEST` bytes, which NOTIFY takes.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from heliosdb.catalog.alerts import Firing

LONGEST = 7_900

AUTHORITY_HOURS = 72
"""GDPR Art. 33(1)."""
PEOPLE_DAYS = 60
"""45 CFR 164.404(b)."""


def to_json(firing: Firing) -> str:
    """The object; what is too long for a channel is left out, which `truncated` says."""
    told: dict[str, Any] = {
        "id": str(firing.firing_id),
        "kind": firing.kind,
        "workspace": firing.workspace,
        "alert": firing.name,
        "fired_at": _time(firing.fired_at),
    }
    if firing.kind == "breach":
        told |= {
            "events": firing.events,
            "last_event_at": _time(firing.last_event_at),
            "notify_authority_by": _time(firing.fired_at, hours=AUTHORITY_HOURS),
            "notify_people_by": _time(firing.fired_at, days=PEOPLE_DAYS),
        }
    whole = json.dumps({**told, "conditions": firing.conditions, "observed": dict(firing.observed)})
    return whole if len(whole) <= LONGEST else json.dumps({**told, "truncated": True})


def to_subject(firing: Firing) -> str:
    """One line."""
    what = "breach of security" if firing.kind == "breach" else "alert"
    where = f" in workspace {firing.workspace}" if firing.workspace else ""
    return f"[heliosdb] {what} {firing.name}{where}"


def to_text(firing: Firing) -> str:
    """A few lines."""
    lines = [to_subject(firing).removeprefix("[heliosdb] "), "", f"Fired: {_time(firing.fired_at)}"]
    if firing.conditions:
        lines.append(f"Condition: {firing.conditions}")
    lines += [f"{name}: {_shown(value)}" for name, value in sorted(firing.observed.items())]
    if firing.kind == "breach":
        lines += [
            f"Events: {firing.events}, the last at {_time(firing.last_event_at)}",
            "",
            "Somebody has to decide whether this is a breach of personal data. If so:",
            f"supervisory authority (GDPR Art. 33): by {_time(firing.fired_at, hours=AUTHORITY_HOURS)}",
            f"people concerned (45 CFR 164.404): by {_time(firing.fired_at, days=PEOPLE_DAYS)} at the latest",
        ]
    return "\n".join([*lines, "", f"In federated_alerts it is the firing {firing.firing_id}.", ""])


def _shown(value: object) -> str:
    return "unknown" if value is None else str(value)


def _time(seconds: float, **later: float) -> str:
    return (datetime.fromtimestamp(seconds, UTC) + timedelta(**later)).isoformat(timespec="seconds")
