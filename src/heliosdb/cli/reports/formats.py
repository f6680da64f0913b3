"""What a report is on, and what it and a model card are written as.

What always holds: these are the words of the command line; nothing is imported to know them.
"""

from __future__ import annotations

from enum import StrEnum


class Regulation(StrEnum):
    """What a report is on."""

    HIPAA = "HIPAA"
    GDPR = "GDPR"


class ReportFormat(StrEnum):
    """What a report is written as."""

    HTML = "html"
    JSON = "json"
    CSV = "csv"
    OSCAL = "oscal"
    PDF = "pdf"


class CardFormat(StrEnum):
    """What a model card is written as."""

    JSON = "json"
    MARKDOWN = "md"
    HTML = "html"
