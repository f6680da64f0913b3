"""Looks through columns: what their names and types say, and what a sample of their values looks like.

What always holds: a finding by values needs `FEWEST` values that look like it and a share that chance does
not give, so that it hardly depends on one row; a boolean identifies nobody, whatever it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from heliosdb.phi import numbers, texts
from heliosdb.phi.kinds import Evidence, Finding, Kind, Share
from heliosdb.phi.names import is_age, kind_of_name

MOST_VALUES = 1_000
"""Of one column that are looked at."""

MOST_CELLS = 100_000
"""Of all columns together."""

LONGEST = 200
"""Characters of a value that are looked at."""

FEWEST = 5
"""Values that look like an identifier, at least: as many as `disclosure` asks for of a cell."""

_TYPES = (
    ("timestamp", Kind.DATE),
    ("date", Kind.DATE),
    ("uuid", Kind.UNIQUE),
    ("inet", Kind.IP),
    ("cidr", Kind.IP),
    ("macaddr", Kind.DEVICE),
    ("point", Kind.PLACE),
    ("geometry", Kind.PLACE),
    ("geography", Kind.PLACE),
)
_WHOLE_NUMBERS = ("smallint", "integer", "bigint", "numeric")
_TEXTS = ("text", "character", "varchar", "citext", "name", '"char"')


@dataclass(frozen=True, slots=True)
class Column:
    """A column to look through. type: as PostgreSQL writes it; a domain says nothing by its name."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class _Recogniser:
    """least: share of the values that chance does not reach. digits: whether whole numbers may be it too.
    distinct: share of the values that have to differ."""

    kind: Kind
    recognises: Callable[[str], bool]
    least: float
    digits: bool = False
    distinct: float = 0.0


# A check digit is right by chance in one number of ten or so, in one of 97 or of a few letters hardly ever.
_BY_CHANCE, _HARDLY, _WEAK = 0.6, 0.02, 0.9

_RECOGNISERS = (
    _Recogniser(Kind.EMAIL, texts.has_email, _HARDLY),
    _Recogniser(Kind.URL, texts.has_url, _HARDLY),
    _Recogniser(Kind.NATIONAL, texts.has_ssn, _HARDLY),
    _Recogniser(Kind.NATIONAL, numbers.is_nir, 0.2, digits=True),
    _Recogniser(Kind.NATIONAL, numbers.is_codice_fiscale, _HARDLY),
    _Recogniser(Kind.NATIONAL, numbers.is_dni, 0.2),
    _Recogniser(Kind.NATIONAL, numbers.is_ahv, _BY_CHANCE, digits=True),
    _Recogniser(Kind.NATIONAL, numbers.is_steuer_id, _BY_CHANCE, digits=True),
    _Recogniser(Kind.NATIONAL, numbers.is_nhs, _BY_CHANCE, digits=True, distinct=0.5),
    _Recogniser(Kind.NATIONAL, numbers.is_pesel, _BY_CHANCE, digits=True, distinct=0.5),
    _Recogniser(Kind.NATIONAL, numbers.is_bsn, _BY_CHANCE, digits=True, distinct=0.5),
    _Recogniser(Kind.PLAN, numbers.is_kvnr, _BY_CHANCE),
    _Recogniser(Kind.PLAN, numbers.is_mbi, 0.2),
    _Recogniser(Kind.ACCOUNT, numbers.is_iban, 0.2),
    _Recogniser(Kind.ACCOUNT, numbers.is_card, _BY_CHANCE, digits=True),
    _Recogniser(Kind.LICENSE, numbers.is_npi, _BY_CHANCE, digits=True),
    _Recogniser(Kind.VEHICLE, numbers.is_vin, _BY_CHANCE),
    _Recogniser(Kind.DEVICE, texts.is_mac, _HARDLY),
    _Recogniser(Kind.DEVICE, numbers.is_imei, _BY_CHANCE, digits=True),
    _Recogniser(Kind.IP, texts.is_ip, 0.2),
    _Recogniser(Kind.DATE, texts.is_date, 0.2),
    _Recogniser(Kind.PHONE, texts.has_phone, 0.1),
    _Recogniser(Kind.PLACE, texts.is_postcode, _BY_CHANCE, distinct=0.1),
    _Recogniser(Kind.UNIQUE, texts.is_uuid, 0.2),
    _Recogniser(Kind.TEXT, texts.is_free_text, 0.2),
    _Recogniser(Kind.NATIONAL, numbers.is_bare_ssn, _WEAK, digits=True, distinct=_WEAK),
    _Recogniser(Kind.NAME, texts.is_person, _WEAK, distinct=0.5),
)
_FEWEST_UNIQUE = 50


def find_in_catalog(columns: Sequence[Column]) -> list[Finding]:
    """Return what names and types say, one finding a column at most: nothing here is of rows."""
    found = []
    for column in columns:
        if column.type == "boolean":
            continue
        by_type = next((kind for start, kind in _TYPES if column.type.startswith(start)), None)
        by_name = kind_of_name(column.name)
        if by_name is not None:
            found.append(Finding(column.name, by_name, Evidence.NAME))
        elif by_type is not None:
            found.append(Finding(column.name, by_type, Evidence.TYPE))
    return found


def has_telling_values(column: Column) -> bool:
    """Whether values of this type are looked at: texts, whole numbers, and ages of any type."""
    return column.type.startswith((*_TEXTS, *_WHOLE_NUMBERS)) or (
        is_age(column.name) and column.type.startswith(("real", "double precision"))
    )


def sample_size(columns: int) -> int:
    """Return how many rows of so many columns are looked at."""
    return max(FEWEST, min(MOST_VALUES, MOST_CELLS // max(columns, 1)))


def find_in_values(column: Column, values: Sequence[str]) -> list[Finding]:
    """Return what a sample of a column's values, as text and without NULL, looks like.

    The values are looked at one by one up to `LONGEST` characters; of several kinds all are told.
    """
    shown = [value[:LONGEST] for value in values]
    if len(shown) < FEWEST:
        return []
    distinct = len(set(shown)) / len(shown)
    is_text = column.type.startswith(_TEXTS)
    kinds: dict[Kind, float] = {}
    for one in _RECOGNISERS:
        if (is_text or one.digits) and one.kind not in kinds:
            share = _share(one, shown, distinct)
            if share is not None:
                kinds[one.kind] = share
    kinds.update(_of_all(column, shown, distinct, is_text=is_text and not kinds))
    return [Finding(column.name, kind, Evidence.VALUES, Share.of(part)) for kind, part in kinds.items()]


def _share(one: _Recogniser, values: Sequence[str], distinct: float) -> float | None:
    if distinct < one.distinct:
        return None
    alike = sum(map(one.recognises, values))
    share = alike / len(values)
    return share if alike >= FEWEST and share >= one.least else None


def _of_all(
    column: Column, values: Sequence[str], distinct: float, *, is_text: bool
) -> Iterator[tuple[Kind, float]]:
    """Yield what only the values together tell: codes of which none is there twice, and very old people."""
    if is_text and distinct == 1.0 and len(values) >= _FEWEST_UNIQUE:
        yield Kind.UNIQUE, 1.0
    if is_age(column.name):
        old = sum(map(_is_over_89, values))
        if old >= FEWEST:
            yield Kind.AGE, old / len(values)


def _is_over_89(value: str) -> bool:
    try:
        return 89 < float(value) < 150
    except ValueError:
        return False


def is_decided(findings: Sequence[Finding], accepted: Sequence[str]) -> bool:
    """Whether every column that looks like an identifier is one that somebody has accepted."""
    return not pending(findings, accepted)


def pending(findings: Sequence[Finding], accepted: Sequence[str]) -> list[Finding]:
    """Return the findings about columns that nobody has accepted."""
    known = set(accepted)
    return [one for one in findings if one.column not in known]
