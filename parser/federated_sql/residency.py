"""Whether data that lies in one place may serve a workspace bound to another.

What always holds: a place allows itself and what lies in it; what is not known to lie inside lies outside.
"""

from __future__ import annotations

# fmt: off
_EU_MEMBERS = frozenset({
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU",
    "IE", "IT", "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
})
# fmt: on
_EEA_MEMBERS = _EU_MEMBERS | {"IS", "LI", "NO"}
_GROUPS = {"EU": _EU_MEMBERS, "EEA": _EEA_MEMBERS | {"EU"}}


def residency_allows(workspace: str, node: str) -> bool:
    """Whether a node in `node` ('EU-WEST', 'DE', 'US-EAST') lies inside `workspace` ('EU', 'US').

    Places are written from the wide to the narrow, joined by hyphens; case does not matter.
    """
    wide, narrow = workspace.strip().upper(), node.strip().upper()
    if not wide or not narrow:
        return False
    if narrow == wide or narrow.startswith(wide + "-"):
        return True
    members = _GROUPS.get(wide, frozenset())
    return narrow.split("-")[0] in members
