"""What is known by its form and has no check digit: addresses of all kinds, dates, free text.

What always holds: each function takes any text and says yes or no, in time that grows with its length alone.
"""

from __future__ import annotations

import re
from datetime import date
from ipaddress import ip_address
from uuid import UUID

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])")
_URL = re.compile(r"\b(?:https?://|ftp://|www\.)[^\s<>\"]{4,}", re.IGNORECASE)
_PHONE = re.compile(
    r"(?<![\w.+-])(?:\+\d{1,3}[ ./-]?(?:\(0?\d{1,4}\)|\d{1,4})(?:[ ./-]?\d{2,4}){2,4}"
    r"|\(\d{2,5}\)[ ./-]?\d{3,4}[ ./-]?\d{3,4}|\d{3}-\d{3}-\d{4}|0\d{2,4}[ /]\d{5,8})(?![\w-])"
)
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}")
_ZIP = re.compile(r"\d{5}-\d{4}|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-CEGHJ-NPR-TVXY]\d[A-Z] ?\d[A-Z]\d")
_YEAR_FIRST = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ].{0,20})?")
_YEAR_LAST = re.compile(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4}|\d{2})")
_PERSON = re.compile(r"[^\W\d_](?:[^\W\d_]|['’-])+,? (?:[^\W\d_]\.? )?[^\W\d_](?:[^\W\d_]|['’-])+")


def has_email(value: str) -> bool:
    """A mail address, anywhere in it."""
    return "@" in value and _EMAIL.search(value) is not None


def has_url(value: str) -> bool:
    """A web address, anywhere in it."""
    return _URL.search(value) is not None


def has_phone(value: str) -> bool:
    """A telephone number as people write it, anywhere in it; digits without separators are none."""
    return _PHONE.search(value) is not None


def has_ssn(value: str) -> bool:
    """A US social security number with its hyphens, anywhere in it."""
    return _SSN.search(value) is not None


def is_ip(value: str) -> bool:
    """An IP address of either version, with or without the length of a network."""
    text = value.strip().split("/")[0]
    if not ("." in text or ":" in text):
        return False
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_mac(value: str) -> bool:
    """The hardware address of a network device."""
    return _MAC.fullmatch(value.strip()) is not None


def is_uuid(value: str) -> bool:
    """A UUID."""
    text = value.strip()
    if len(text) not in (32, 36):
        return False
    try:
        UUID(text)
    except ValueError:
        return False
    return len(text) == 36 or not text.isdigit()


def is_postcode(value: str) -> bool:
    """A postal code that looks like nothing else: ZIP+4, British, Canadian; five digits may be anything."""
    return _ZIP.fullmatch(value.strip().upper()) is not None


def is_date(value: str) -> bool:
    """A date with its day, in the usual orders, that the calendar has."""
    text = value.strip()
    if (found := _YEAR_FIRST.fullmatch(text)) is not None:
        year, month, day = map(int, found.groups())
        return _exists(year, month, day)
    if (found := _YEAR_LAST.fullmatch(text)) is not None:
        first, second, year = map(int, found.groups())
        full = year if year > 99 else 2000 + year
        return _exists(full, second, first) or _exists(full, first, second)
    return False


def _exists(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return 1800 <= year <= 2200


def is_person(value: str) -> bool:
    """Two or three capitalised words: may be somebody's name, or a title."""
    text = value.strip()
    return (
        len(text) <= 60 and _PERSON.fullmatch(text) is not None and all(w[0].isupper() for w in text.split())
    )


def is_free_text(value: str) -> bool:
    """Sentences that somebody wrote."""
    return len(value) >= 40 and len(value.split()) >= 6
