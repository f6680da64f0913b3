"""PostgreSQL's scanner in Python, for servers on whose disk pglast, a library in C, cannot be put.

It stands in for `pglast.parser` where that cannot be imported, with the same tokens, names, kinds and places.
What needs PostgreSQL's grammar is answered with 0A000: a dataset's predicate would otherwise not be known to
be one expression, and rewriting calls is the proxy's business, which has pglast.

What always holds: `scan` and `decode_string` say what pglast says, for every text (a differential test holds
this); time is linear in the text; nothing is guessed: text that neither accepts is an error.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from federated_sql.errors import not_supported


class ParseError(Exception):
    """As pglast's: the message, and the 0-based place of what it is about."""


class Token(NamedTuple):
    """A token as the scanner names it; `end` is inclusive."""

    start: int
    end: int
    name: str
    kind: str


# PostgreSQL's keywords by kind; the token of one marked ! has _P behind its name.
_RESERVED = """
    all analyse analyze and any array as asc asymmetric both case cast check collate column constraint
    create current_catalog current_date current_role current_time current_timestamp current_user default
    deferrable desc distinct do else end! except false! fetch for foreign from grant group! having in!
    initially intersect into lateral! leading limit localtime localtimestamp not null! offset on only or
    order placing primary references returning select session_user some symmetric system_user table then
    to trailing true! union unique user using variadic when where window with
"""
_UNRESERVED = """
    abort! absent absolute! access action add! admin after aggregate also alter always asensitive
    assertion assignment at atomic attach attribute backward before begin! breadth by cache call called
    cascade cascaded catalog! chain characteristics checkpoint class close cluster columns comment
    comments commit committed compression conditional configuration conflict connection constraints
    content! continue! conversion! copy cost csv cube current! cursor cycle data! database day! deallocate
    declare defaults deferred definer delete! delimiter delimiters depends depth detach dictionary
    disable! discard document! domain! double! drop each empty! enable! encoding encrypted enforced enum!
    error! escape event exclude excluding exclusive execute explain expression extension external family
    filter finalize first! following force format forward function functions generated global granted
    groups handler header! hold hour! identity! if! immediate immutable implicit! import! include
    including increment indent index indexes inherit inherits inline! input! insensitive insert instead
    invoker isolation keep key keys label language large! last! leakproof level listen load local location
    lock! locked logged mapping match matched materialized maxvalue merge method minute! minvalue mode
    month! move name! names nested new next nfc nfd nfkc nfkd no normalized nothing notify nowait nulls!
    object! objects! of off oids old omit operator option options ordinality others over overriding owned
    owner parallel parameter parser partial partition passing password path period plan plans policy
    preceding prepare prepared preserve prior privileges procedural procedure procedures program
    publication quote quotes range read reassign recursive ref! referencing refresh reindex relative!
    release rename repeatable replace replica reset restart restrict return returns revoke role rollback
    rollup routine routines rows rule savepoint scalar schema schemas scroll search second! security
    sequence sequences serializable server session set sets share show simple skip snapshot source sql!
    stable standalone! start statement statistics stdin stdout storage stored strict! string! strip!
    subscription support sysid system! tables tablespace target temp template temporary text! ties
    transaction transform trigger truncate trusted type! types! uescape unbounded uncommitted
    unconditional unencrypted unknown unlisten unlogged until update vacuum valid validate validator
    value! varying version! view views virtual volatile whitespace! within without work wrapper write xml!
    year! yes! zone
"""
_TYPE_FUNC_NAME = """
    authorization binary collation concurrently cross current_schema freeze full ilike inner! is isnull
    join left like natural notnull outer! overlaps right similar tablesample verbose
"""
_COL_NAME = """
    between bigint bit boolean! char! character coalesce dec decimal! exists extract float! greatest
    grouping inout int! integer interval json json_array json_arrayagg json_exists json_object
    json_objectagg json_query json_scalar json_serialize json_table json_value least merge_action national
    nchar none normalize nullif numeric out! overlay position precision real row setof smallint substring
    time timestamp treat trim values varchar xmlattributes xmlconcat xmlelement xmlexists xmlforest
    xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
"""


def _keywords() -> dict[str, tuple[str, str]]:
    groups = {
        "RESERVED_KEYWORD": _RESERVED,
        "UNRESERVED_KEYWORD": _UNRESERVED,
        "TYPE_FUNC_NAME_KEYWORD": _TYPE_FUNC_NAME,
        "COL_NAME_KEYWORD": _COL_NAME,
    }
    return {
        word.rstrip("!"): (word.upper().replace("!", "_P"), kind)
        for kind, words in groups.items()
        for word in words.split()
    }


_KEYWORDS = _keywords()
_NONE = "NO_KEYWORD"
_SYMBOLS = {
    "::": "TYPECAST", "..": "DOT_DOT", ":=": "COLON_EQUALS", "=>": "EQUALS_GREATER", "<=": "LESS_EQUALS",
    ">=": "GREATER_EQUALS", "<>": "NOT_EQUALS", "!=": "NOT_EQUALS",
}  # fmt: skip
_NAMED_CHARACTERS = frozenset("$%()*+,-./:;<=>[\\]^")
_SELF = frozenset(",()[].;:+-*/%^<>=")
_LETTER = "A-Za-z_\x80-\U0010ffff"
_SPACE = re.compile(r"[ \t\n\r\f\v]+")
_WORD = re.compile(rf"[{_LETTER}][{_LETTER}0-9$]*")
_DOLLAR = re.compile(rf"\$(?:[{_LETTER}][{_LETTER}0-9]*)?\$")
_PARAMETER = re.compile(r"\$[0-9]+")
_LINE_COMMENT = re.compile(r"--[^\n\r]*")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_OPERATOR = re.compile(r"[~!@#^&|`?+\-*/%<>=]+")
_CLOSING = {quote: re.compile(f"(?:[^{quote}]|{quote}{quote})*+{quote}") for quote in "'\""}
_CLOSING_BITS = re.compile("[^']*'")
_CLOSING_ESCAPED = re.compile(r"(?:[^'\\]|''|\\[\s\S])*+'")
# Strings go on after white space that holds a new line; `-- …` counts as white space there.
_CONTINUED = re.compile(r"(?:[ \t\f\v]|--[^\n\r]*)*+[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*[\n\r])*+'")
_DIGITS = "[0-9](?:_?[0-9])*+"
_BASED = re.compile(r"0(?:[xX](?:_?[0-9A-Fa-f])++|[oO](?:_?[0-7])++|[bB](?:_?[01])++)")
_BASE_ONLY = re.compile(r"0(?:([xX])|([oO])|([bB]))_?")
_INTEGER = re.compile(_DIGITS)
_NUMBER = re.compile(rf"(?:{_DIGITS}(?:\.(?!\.)(?:{_DIGITS})?)?|\.{_DIGITS})(?:[Ee][-+]?{_DIGITS})?")
_PLAIN = re.compile(r"[0-9_.]+")
_BROKEN_EXPONENT = re.compile(r"[Ee][-+]")
_SIMPLE_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_MAX_INT = 2**31 - 1
_NAMEDATALEN = 64


def scan(text: str) -> list[Token]:
    """Return all tokens of `text`, comments too."""
    tokens: list[Token] = []
    place = 0
    size = len(text)
    while place < size:
        character = text[place]
        if (space := _SPACE.match(text, place)) is not None:
            place = space.end()
            continue
        find = _word if character > "\x7f" else _STARTS.get(character, _other)
        name, kind, end = find(text, place)
        tokens.append(Token(place, end - 1, name, kind))
        place = end
    return tokens


_Found = tuple[str, str, int]


def _word(text: str, place: int) -> _Found:
    """A word, or one of the prefixes that make a string or a quoted name out of what follows."""
    prefix = text[place].lower()
    following = text[place + 1 : place + 2]
    if following == "'" and prefix in _PREFIXED:
        name, message = _PREFIXED[prefix]
        if prefix == "n":
            return name, _KEYWORDS["nchar"][1], place + 1
        return name, _NONE, _string(text, place, place + 1, escapes=prefix == "e", unterminated=message)
    if prefix == "u" and following == "&":
        quote = text[place + 2 : place + 3]
        if quote == "'":
            return "USCONST", _NONE, _string(text, place, place + 2)
        if quote == '"':
            return "UIDENT", _NONE, _quoted_name(text, place, place + 2)
    match = _WORD.match(text, place)
    if match is None:
        return _other(text, place)
    name, kind = _KEYWORDS.get(_fold(match[0]), ("IDENT", _NONE))
    return name, kind, match.end()


_PREFIXED = {
    "e": ("SCONST", "unterminated quoted string"),
    "b": ("BCONST", "unterminated bit string literal"),
    "x": ("XCONST", "unterminated hexadecimal string literal"),
    "n": ("NCHAR", ""),
}


def _fold(word: str) -> str:
    return word.lower() if word.isascii() else word


def _plain_string(text: str, place: int) -> _Found:
    return "SCONST", _NONE, _string(text, place, place)


def _string(
    text: str,
    start: int,
    quote: int,
    *,
    escapes: bool = False,
    unterminated: str = "unterminated quoted string",
) -> int:
    """Return the end of the string literal that begins at `start` and whose quote is at `quote`."""
    pattern = _CLOSING_BITS if text[start] in "bBxX" else _CLOSING_ESCAPED if escapes else _CLOSING["'"]
    place = quote + 1
    value = b""
    while True:
        match = pattern.match(text, place)
        if match is None:
            if escapes:
                _unescape(text[place:], place)
            _refuse(unterminated, text, start)
        if escapes:
            value += _unescape(match[0][:-1], place)
        more = _CONTINUED.match(text, match.end())
        if more is None:
            _checked(value)
            return match.end()
        place = more.end()


def _quoted(text: str, place: int) -> _Found:
    return "IDENT", _NONE, _quoted_name(text, place, place)


def _quoted_name(text: str, start: int, quote: int) -> int:
    match = _CLOSING['"'].match(text, quote + 1)
    if match is None:
        _refuse("unterminated quoted identifier", text, start)
    if match.end() == quote + 2:
        _refuse("zero-length delimited identifier", text, start, quote + 2)
    return match.end()


def _dollar(text: str, place: int) -> _Found:
    if (parameter := _PARAMETER.match(text, place)) is not None:
        digits = parameter[0].lstrip("$0") or "0"
        if len(digits) > 10 or int(digits) > _MAX_INT:
            _refuse("parameter number too large", text, place, parameter.end())
        return "PARAM", _NONE, parameter.end()
    tag = _DOLLAR.match(text, place)
    if tag is None:
        return "ASCII_36", _NONE, place + 1
    end = text.find(tag[0], tag.end())
    if end < 0:
        _refuse("unterminated dollar-quoted string", text, place)
    return "SCONST", _NONE, end + len(tag[0])


def _number(text: str, place: int) -> _Found:
    match = _BASED.match(text, place) or _NUMBER.match(text, place)
    if match is None:
        return _other(text, place)
    end = match.end()
    junk_end = _junk_end(text, place, end)
    broken = _BASE_ONLY.match(text, place)
    if broken is not None and end < broken.end() == junk_end:
        base = next(name for name, found in zip(_BASES, broken.groups(), strict=True) if found)
        _refuse(f"invalid {base} integer", text, place, junk_end)
    if junk_end > end:
        _refuse("trailing junk after numeric literal", text, place, junk_end)
    return ("ICONST" if _is_small_integer(match[0]) else "FCONST"), _NONE, end


def _junk_end(text: str, start: int, end: int) -> int:
    """Where a number ends that a word directly follows: PostgreSQL matches the longest such text."""
    # A number that has its exponent, or is not decimal, takes no other.
    exponent = _PLAIN.fullmatch(text, start, end) and _BROKEN_EXPONENT.match(text, end)
    longest = exponent.end() if exponent else start
    place = start
    while place <= end:
        word = _WORD.match(text, place)
        place = word.end() if word else place + 1
        longest = max(longest, word.end() if word else start)
    return longest


_BASES = ("hexadecimal", "octal", "binary")


def _is_small_integer(spelled: str) -> bool:
    digits = spelled.replace("_", "")
    base = {"x": 16, "o": 8, "b": 2}.get(digits[1:2].lower(), 10)
    if base == 10 and not digits.isdigit():
        return False
    digits = (digits if base == 10 else digits[2:]).lstrip("0")
    # Longer than any number of 31 bits: not worth converting.
    return len(digits) <= 31 and int(digits or "0", base) <= _MAX_INT


def _operator(text: str, place: int) -> _Found:
    """The longest operator that PostgreSQL finds here: cut before a comment, and before a trailing + or -."""
    if text.startswith("--", place):
        match = _LINE_COMMENT.match(text, place)
        return "SQL_COMMENT", _NONE, match.end() if match else place + 2
    if text.startswith("/*", place):
        return "C_COMMENT", _NONE, _comment_end(text, place)
    match = _OPERATOR.match(text, place)
    if match is None:
        return _other(text, place)
    run = match[0]
    cuts = [cut for cut in (run.find("--", 1), run.find("/*", 1)) if cut > 0]
    run = run[: min(cuts)] if cuts else run
    if run[-1] in "+-" and len(run) > 1 and not any(c in "~!@#^&|`?%" for c in run):
        run = run.rstrip("+-") or run[0]
    if len(run) == 1 and run in _SELF:
        return _other(text, place)
    if len(run) >= _NAMEDATALEN:
        _refuse("operator too long", text, place, place + len(run))
    return _SYMBOLS.get(run, "Op"), _NONE, place + len(run)


def _comment_end(text: str, start: int) -> int:
    depth = 0
    place = start
    while (edge := _COMMENT_EDGE.search(text, place)) is not None:
        place = edge.end()
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return place
    _refuse("unterminated /* comment", text, start)


def _point(text: str, place: int) -> _Found:
    if text[place + 1 : place + 2].isdigit() and text[place + 1].isascii():
        return _number(text, place)
    return _symbol(text, place)


def _symbol(text: str, place: int) -> _Found:
    pair = text[place : place + 2]
    if pair in _SYMBOLS:
        return _SYMBOLS[pair], _NONE, place + 2
    return _other(text, place)


def _other(text: str, place: int) -> _Found:
    character = text[place]
    name = f"ASCII_{ord(character)}" if character in _NAMED_CHARACTERS else "UNKNOWN"
    return name, _NONE, place + 1


def _starts() -> dict[str, Callable[[str, int], _Found]]:
    starts: dict[str, Callable[[str, int], _Found]] = dict.fromkeys("0123456789", _number)
    starts |= dict.fromkeys("~!@#^&|`?+-*/%<>=", _operator)
    starts |= {"'": _plain_string, '"': _quoted, "$": _dollar, ".": _point, ":": _symbol}
    starts |= dict.fromkeys(
        (chr(code) for code in range(128) if chr(code).isalpha() or chr(code) == "_"), _word
    )
    return starts


_STARTS = _starts()


def _refuse(message: str, text: str, start: int, end: int | None = None) -> NoReturn:
    raise ParseError(f'{message} at or near "{text[start:end]}"', start)


_ESCAPE = re.compile(
    r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([\s\S]))|''"
)


def _unescape(body: str, place: int) -> bytes:
    """Return what stands between two quotes of E'…'; raise where PostgreSQL does.

    Whether it is text is asked of the whole literal: a character may go on behind a line's end.
    """
    if "\\" not in body:
        return body.replace("''", "'").encode()
    parts: list[bytes] = []
    last = 0
    high: int | None = None
    for match in _ESCAPE.finditer(body):
        between = body[last : match.start()]
        last = match.end()
        octal, hexadecimal, short, long, plain = match.groups()
        code = int(short or long, 16) if short or long else None
        if high is not None and (between or code is None or not 0xDC00 <= code <= 0xDFFF):
            raise ParseError("invalid Unicode surrogate pair", place + match.start())
        parts.append(between.encode())
        if octal or hexadecimal:
            parts.append(bytes([(int(octal, 8) if octal else int(hexadecimal, 16)) & 0xFF]))
        elif code is not None:
            high = _add_character(parts, code, high, place + match.start())
        elif plain in ("u", "U"):
            raise ParseError("invalid Unicode escape", place + match.start())
        else:
            parts.append(b"'" if plain is None else _SIMPLE_ESCAPES.get(plain, plain).encode())
    if high is not None:
        raise ParseError("invalid Unicode surrogate pair", place + len(body))
    parts.append(body[last:].encode())
    return b"".join(parts)


def _add_character(parts: list[bytes], code: int, high: int | None, place: int) -> int | None:
    """Add a character given by its code; return it instead where it is the first half of a pair."""
    if high is not None:
        parts.append(chr(0x10000 + ((high - 0xD800) << 10) + code - 0xDC00).encode())
        return None
    if 0xD800 <= code <= 0xDBFF:
        return code
    if 0xDC00 <= code <= 0xDFFF:
        raise ParseError("invalid Unicode surrogate pair", place)
    if code == 0 or code > 0x10FFFF:
        raise ParseError("invalid Unicode escape value", place)
    parts.append(chr(code).encode())
    return None


def _checked(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise ParseError(
            f'invalid byte sequence for encoding "UTF8": 0x{value[error.start]:02x}', None
        ) from None
    if "\0" in text:
        raise ParseError('invalid byte sequence for encoding "UTF8": 0x00', None)
    return text


def decode_string(literal: str) -> str:
    """Return the value of a string literal in any of PostgreSQL's spellings."""
    head = literal[:1].lower()
    if head == "$":
        tag = literal[: literal.index("$", 1) + 1]
        return literal[len(tag) : -len(tag)]
    if head == "u":
        return _decode_unicode(literal)
    quote = literal.index("'")
    return _joined(literal, quote, escapes=head == "e")


def _joined(literal: str, quote: int, *, escapes: bool = False) -> str:
    """The value of a literal that may go on over several lines."""
    pattern = _CLOSING_ESCAPED if escapes else _CLOSING["'"]
    bodies: list[str] = []
    place = quote + 1
    while (match := pattern.match(literal, place)) is not None:
        bodies.append(match[0][:-1])
        more = _CONTINUED.match(literal, match.end())
        if more is None:
            break
        place = more.end()
    if escapes:
        return _checked(b"".join(_unescape(body, quote + 1) for body in bodies))
    return "".join(bodies).replace("''", "'")


def _decode_unicode(literal: str) -> str:
    literals = [t for t in scan(literal) if t.name in ("USCONST", "SCONST")]
    escape = decode_string(literal[literals[1].start : literals[1].end + 1]) if literals[1:] else "\\"
    if len(escape) != 1 or not escape.isascii() or escape.isspace() or escape in "+'\"" + string.hexdigits:
        raise ParseError("invalid Unicode escape character", 0)
    body = _joined(literal[: literals[0].end + 1], literal.index("'"))
    pattern = re.compile(
        f"{re.escape(escape)}(?:([0-9A-Fa-f]{{4}})|\\+([0-9A-Fa-f]{{6}})|({re.escape(escape)})|)"
    )
    parts: list[bytes] = []
    last = 0
    high: int | None = None
    for found in pattern.finditer(body):
        between = body[last : found.start()]
        last = found.end()
        short, long, itself = found.groups()
        code = int(short or long, 16) if short or long else None
        if high is not None and (between or code is None or not 0xDC00 <= code <= 0xDFFF):
            raise ParseError("invalid Unicode surrogate pair", 0)
        parts.append(between.encode())
        if code is not None:
            high = _add_character(parts, code, high, 0)
        elif itself:
            parts.append(escape.encode())
        else:
            raise ParseError("invalid Unicode escape", 0)
    if high is not None:
        raise ParseError("invalid Unicode surrogate pair", 0)
    parts.append(body[last:].encode())
    return _checked(b"".join(parts))


def parse_sql(text: str) -> NoReturn:
    """Answer 0A000: there is no grammar here."""
    raise not_supported(
        "an SQL expression in a federated statement needs the extension installed as files",
        hint="The plain installation cannot check the expression: share a view instead.",
    )
