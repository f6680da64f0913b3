"""A request for erasure that was carried out, and the certificate that says so.

What always holds: a certificate is canonical JSON of texts and whole numbers, so that whoever reads it and
writes it anew has the bytes that were signed; it says exact, approximate or incomplete, and by what; the data
subject is in it by a pseudonym alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from typing import Any

from heliosdb.domain.errors import invalid_value
from heliosdb.domain.orders import canonical_json, read_statement

FORMAT = 1
KIND = "certificate of erasure"
LEGAL_BASIS = "Regulation (EU) 2016/679 (GDPR), Article 17"
BACKUPS = (
    "This says nothing of copies: backups of the nodes' databases have the subject's rows, and backups of the"
    " coordinator's database have the numbers of retired versions, until they are overwritten; a restored one"
    " has to be erased from anew. Nodes that had subscribed to a retired version, and whoever stored its"
    " predictions or wrote its checkpoints into files, have what they have."
)
SCOPE = (
    "A node holds a subject if it has rows of the subject in a dataset that it shares, when it is"
    " asked, or had at an earlier request. Rows that a node had deleted before, and datasets that it"
    " does not share any more, are not asked about: versions that had learned from these are not found."
)
HELD = frozenset({"erased", "suppressed"})
NOT_IDENTIFIABLE = "not identifiable"
RETRAIN, SUPPRESS_ONLY = "retrain", "suppress_only"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node answered. statement: the text that it signed; signature: hexadecimal; certificate: PEM,
    None where it is not known any more. message: why there is no statement."""

    node: str
    state: str
    message: str | None
    statement: str | None
    signature: str | None
    certificate_sha256: str | None
    certificate: str | None

    @property
    def names_nobody(self) -> bool:
        """Whether a dataset there was shared without `subject`: it may hold rows of anybody."""
        said = read_statement(self.statement.encode()) if self.statement else {}
        datasets = said.get("datasets")
        actions = (
            [one.get("action") for one in datasets if isinstance(one, dict)]
            if isinstance(datasets, list)
            else []
        )
        return NOT_IDENTIFIABLE in (said.get("outcome"), *actions)


@dataclass(frozen=True, slots=True)
class ErasedVersion:
    """A version that had learned from rows of a node that held the subject. Hashes in hexadecimal.

    retired_at: None where it stays. replaced_by: the version that was current then, None for none.
    is_trained_anew: whether that is of a run like its own. began_with: the version that its run began with,
    None for none; certificates of before there were such runs say nothing of it, and nor do those of others.
    """

    model: str
    version: int
    run: str
    first_round: int
    sha256_before: str
    retired_at: str | None
    replaced_by: int | None
    sha256_after: str | None
    is_trained_anew: bool
    began_with: str | None = None

    def to_certificate(self) -> dict[str, Any]:
        """What a certificate says of it."""
        said = asdict(self)
        return said if self.began_with is not None else {k: v for k, v in said.items() if k != "began_with"}


@dataclass(frozen=True, slots=True)
class Erasure:
    """All that a certificate is made of. Times in ISO 8601, UTC. runs: how many nothing goes on from any
    more. files: checkpoints of these that were written on the database server. unasked: nodes from which
    versions that are left have learned, and that were unregistered before they could be asked.
    """

    request: str
    batch: str
    workspace: str
    model: str | None
    pseudonym: str | None
    method: str
    requested_at: str | None
    deadline: str | None
    ended_at: str | None
    completed_at: str | None
    runs: int
    files: tuple[str, ...]
    unasked: tuple[str, ...]
    answers: tuple[Answer, ...]
    versions: tuple[ErasedVersion, ...]

    @property
    def exactness(self) -> str:
        """Exact, approximate or incomplete, and by what."""
        silent = sorted(one.node for one in self.answers if one.state != "answered")
        done = self._done()
        unsure = sorted(one.node for one in self.answers if one.names_nobody)
        if unsure:
            done += f"; whose their rows are cannot be told by {', '.join(unsure)}"
        if silent := sorted({*silent, *self.unasked}):
            return f"incomplete: no word of {', '.join(silent)}; of the others {done}"
        return done

    def _done(self) -> str:
        if not self.versions:
            return "exact: no version had learned from a node that held the subject"
        if self.method == SUPPRESS_ONLY:
            return "approximate: suppressed only, versions keep what they learned"
        if any(one.is_trained_anew for one in self.versions):
            return "exact: trained anew from round 0"
        return "exact: the versions were retired"

    def to_certificate(self) -> dict[str, Any]:
        """What is signed."""
        said = asdict(self)
        said["nodes"], said["versions"] = said.pop("answers"), [one.to_certificate() for one in self.versions]
        return said | {
            "files": list(self.files),
            "unasked": list(self.unasked),
            "nodes": list(said["nodes"]),
            "format": FORMAT,
            "kind": KIND,
            "legal_basis": LEGAL_BASIS,
            "exactness": self.exactness,
            "scope": SCOPE,
            "backups": BACKUPS,
        }


def certificate_bytes(certificate: dict[str, Any]) -> bytes:
    """The bytes that are signed."""
    return canonical_json(certificate)


def certificate_sha256(certificate: dict[str, Any]) -> bytes:
    """By which the audit log knows a certificate."""
    return hashlib.sha256(certificate_bytes(certificate)).digest()


def erasure_from_certificate(certificate: dict[str, Any]) -> Erasure:
    """Read what `to_certificate` wrote; FederatedError INVALID_VALUE for anything else, also for what it
    would not have said of that erasure."""
    own = {field.name for field in fields(Erasure)} - {"answers", "versions", "files", "unasked"}
    try:
        erasure = Erasure(
            **{name: certificate[name] for name in own},
            files=tuple(certificate["files"]),
            unasked=tuple(certificate["unasked"]),
            answers=tuple(Answer(**one) for one in certificate["nodes"]),
            versions=tuple(ErasedVersion(**one) for one in certificate["versions"]),
        )
        again = erasure.to_certificate()
    except (KeyError, TypeError) as error:
        raise invalid_value("the certificate does not have the members of one") from error
    if again != certificate:
        raise invalid_value("the certificate does not say what follows from its own members")
    return erasure
