"""Numbers that are given to people and things, by their check digits.

What always holds: each function takes any text and says yes or no; separators that people write (spaces,
points, hyphens, slashes) are left out before.
"""

from __future__ import annotations

import re
from string import ascii_uppercase, digits

_SEPARATORS = str.maketrans("", "", " .-/\u00a0")


def compact(value: str) -> str:
    """Return a number without separators, its letters in upper case."""
    return value.translate(_SEPARATORS).upper()


def _is_digits(text: str, length: int) -> bool:
    return len(text) == length and text.isascii() and text.isdigit()


def _varies(text: str) -> bool:
    """Whether not all of its characters are the same: zeros pass every check."""
    return len(set(text)) > 1


def passes_luhn(number: str) -> bool:
    """Whether the last of some digits is their check digit (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


_CARD = re.compile(
    r"(?:4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|6\d{15})"
)


def is_card(value: str) -> bool:
    """A payment card's number: issuer's range, length and check digit."""
    number = compact(value)
    return (
        number.isascii() and _CARD.fullmatch(number) is not None and _varies(number) and passes_luhn(number)
    )


def is_imei(value: str) -> bool:
    """A mobile device's number (15 digits; 3GPP TS 23.003)."""
    number = compact(value)
    return _is_digits(number, 15) and _varies(number) and passes_luhn(number)


def is_npi(value: str) -> bool:
    """A National Provider Identifier (45 CFR 162.406): 10 digits, checked with 80840 before them."""
    number = compact(value)
    return _is_digits(number, 10) and number[0] in "12" and passes_luhn("80840" + number)


_SSN = re.compile(r"(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}")


def is_ssn(value: str) -> bool:
    """A US social security number, written with its hyphens."""
    return _SSN.fullmatch(value.strip()) is not None


def is_bare_ssn(value: str) -> bool:
    """Nine digits that may be one: most nine digits may."""
    number = value.strip()
    return _is_digits(number, 9) and is_ssn(f"{number[:3]}-{number[3:5]}-{number[5:]}")


_A = "[AC-HJKMNP-RT-Y]"
_AN = "[AC-HJKMNP-RT-Y0-9]"
_MBI = re.compile(rf"[1-9]{_A}{_AN}[0-9]{_A}{_AN}[0-9]{_A}{_A}[0-9][0-9]")


def is_mbi(value: str) -> bool:
    """A Medicare Beneficiary Identifier: its form, it has no check digit."""
    return _MBI.fullmatch(compact(value)) is not None


_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")


def is_iban(value: str) -> bool:
    """An account number (ISO 13616): 97 divides what it stands for, less one."""
    number = compact(value)
    if _IBAN.fullmatch(number) is None:
        return False
    return int("".join(str(int(each, 36)) for each in number[4:] + number[:4])) % 97 == 1


def is_nhs(value: str) -> bool:
    """An NHS number (England, Wales): 10 digits, modulo 11."""
    number = compact(value)
    if not _is_digits(number, 10) or not _varies(number):
        return False
    check = 11 - sum(int(digit) * (10 - place) for place, digit in enumerate(number[:9])) % 11
    return check % 11 == int(number[9]) and check != 10


def is_steuer_id(value: str) -> bool:
    """A German tax identification number (§ 139b AO): 11 digits, of which one is there twice or thrice, by
    ISO 7064 MOD 11,10."""
    number = compact(value)
    if not _is_digits(number, 11) or number[0] == "0" or max(map(number[:10].count, digits)) not in (2, 3):
        return False
    product = 10
    for digit in number[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(number[10])


def is_kvnr(value: str) -> bool:
    """A German health insurance number (§ 290 SGB V): a letter and nine digits."""
    number = compact(value)
    if not number.isascii() or re.fullmatch(r"[A-Z]\d{9}", number) is None:
        return False
    places = f"{ascii_uppercase.index(number[0]) + 1:02}{number[1:9]}"
    products = (int(digit) * (1 + place % 2) for place, digit in enumerate(places))
    return sum(product // 10 + product % 10 for product in products) % 10 == int(number[9])


_NIR = re.compile(r"[1-478]\d{2}(?:0[1-9]|1[0-2]|[2-9]\d)(?:\d{2}|2[AB])\d{6}\d{2}")


def is_nir(value: str) -> bool:
    """A French social security number: 13 places and the key, 97 less their remainder; 2A, 2B are Corsica."""
    number = compact(value)
    if not number.isascii() or _NIR.fullmatch(number) is None:
        return False
    body = number[:13].replace("2A", "19").replace("2B", "18")
    return body.isdigit() and 97 - int(body) % 97 == int(number[13:])


_CODICE = re.compile(
    r"[A-Z]{6}[0-9LMNPQRSTUV]{2}[ABCDEHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z]"
)
_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def is_codice_fiscale(value: str) -> bool:
    """An Italian tax code (D.M. 23 December 1976): 16 places, the last one checks the others."""
    number = compact(value)
    if not number.isascii() or _CODICE.fullmatch(number) is None:
        return False
    places = [int(each) if each.isdigit() else ascii_uppercase.index(each) for each in number[:15]]
    total = sum(place if at % 2 else _ODD[place] for at, place in enumerate(places))
    return ascii_uppercase[total % 26] == number[15]


_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"


def is_dni(value: str) -> bool:
    """A Spanish DNI or NIE: the letter is the remainder by 23."""
    number = compact(value)
    if not number.isascii() or re.fullmatch(r"[XYZ0-9]\d{7}[A-Z]", number) is None:
        return False
    body = str("XYZ".index(number[0])) + number[1:8] if number[0] in "XYZ" else number[:8]
    return _DNI_LETTERS[int(body) % 23] == number[8]


def is_bsn(value: str) -> bool:
    """A Dutch citizen service number: nine digits, 11 divides the weighted sum."""
    number = compact(value)
    if not _is_digits(number, 9) or not _varies(number):
        return False
    return (
        sum(int(digit) * weight for digit, weight in zip(number, (9, 8, 7, 6, 5, 4, 3, 2, -1), strict=True))
        % 11
        == 0
    )


def is_pesel(value: str) -> bool:
    """A Polish PESEL number: a date and a check digit."""
    number = compact(value)
    if not _is_digits(number, 11) or not 1 <= int(number[4:6]) <= 31 or not 1 <= int(number[2:4]) % 20 <= 12:
        return False
    weights = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)
    return sum(int(digit) * weight for digit, weight in zip(number, weights, strict=True)) % 10 == 0


def is_ahv(value: str) -> bool:
    """A Swiss AHV number: 756, and an EAN-13 check digit."""
    number = compact(value)
    if not _is_digits(number, 13) or not number.startswith("756"):
        return False
    return sum(int(digit) * (1 + 2 * (place % 2)) for place, digit in enumerate(number)) % 10 == 0


_VIN = re.compile(r"[A-HJ-NPR-Z0-9]{17}")
_VIN_VALUES = dict(
    zip(
        "ABCDEFGHJKLMNPRSTUVWXYZ",
        (1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 7, 9, 2, 3, 4, 5, 6, 7, 8, 9),
        strict=True,
    )
)
_VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def is_vin(value: str) -> bool:
    """A North American vehicle identification number (49 CFR 565.15): the ninth place checks the others."""
    number = compact(value)
    if not number.isascii() or _VIN.fullmatch(number) is None or number.isdigit():
        return False
    values = (_VIN_VALUES[each] if each in _VIN_VALUES else int(each) for each in number)
    rest = sum(each * weight for each, weight in zip(values, _VIN_WEIGHTS, strict=True)) % 11
    return ("X" if rest == 10 else str(rest)) == number[8]
