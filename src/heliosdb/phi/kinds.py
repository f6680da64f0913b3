"""The identifiers that data without a person's identity do not have: 45 CFR 164.514(b)(2)(i)(A) to (R).

What always holds: the value of a kind is what people read and what catalogs keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a column looks like, in the order of the paragraph."""

    NAME = "name of a person"
    PLACE = "place smaller than a state"
    DATE = "date"
    AGE = "age over 89"
    PHONE = "telephone number"
    FAX = "fax number"
    EMAIL = "mail address"
    NATIONAL = "social security or national number"
    RECORD = "medical record number"
    PLAN = "health plan number"
    ACCOUNT = "account number"
    LICENSE = "certificate or license number"
    VEHICLE = "vehicle identifier"
    DEVICE = "device identifier"
    URL = "web address"
    IP = "IP address"
    BIOMETRIC = "biometric identifier"
    PHOTO = "photograph"
    UNIQUE = "unique code"
    TEXT = "free text"


class Evidence(StrEnum):
    """From what it was found: the name and the type are in the catalog, values are rows'."""

    NAME = "name"
    TYPE = "type"
    VALUES = "values"


class Share(StrEnum):
    """How many of the values that were looked at; never a count."""

    FEW = "under a tenth"
    SOME = "a tenth to a half"
    MOST = "over a half"

    @classmethod
    def of(cls, part: float) -> Share:
        """Return the share that a part in [0, 1] lies in."""
        return cls.FEW if part < 0.1 else cls.SOME if part <= 0.5 else cls.MOST


@dataclass(frozen=True, slots=True)
class Finding:
    """One column that looks like an identifier. share: of findings by values alone."""

    column: str
    kind: Kind
    evidence: Evidence
    share: Share | None = None

    def to_json(self) -> dict[str, str | None]:
        """What `from_json` reads."""
        share = None if self.share is None else self.share.value
        return {
            "column_name": self.column,
            "kind": self.kind.value,
            "evidence": self.evidence.value,
            "share": share,
        }

    @classmethod
    def from_json(cls, finding: Mapping[str, str | None]) -> Finding:
        """Read what `to_json` wrote; KeyError or ValueError for what is no finding."""
        share = finding["share"]
        return cls(
            str(finding["column_name"]),
            Kind(str(finding["kind"])),
            Evidence(str(finding["evidence"])),
            None if share is None else Share(share),
        )
