"""A certificate of erasure is in order as it was made, and not where anything in it was changed."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from heliosdb.cli.verify_certificate import verify_file
from heliosdb.domain.audit_entry import AuditEntry, entry_hash
from heliosdb.domain.erasure import (
    Answer,
    ErasedVersion,
    Erasure,
    certificate_bytes,
    certificate_sha256,
)
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.merkle import inclusion_path, leaf_hash, root
from heliosdb.domain.orders import canonical_json
from heliosdb.domain.tree_head import TreeHead, Witnessed, head_message, witnessed_message
from heliosdb.transport.authority import Authority
from heliosdb.transport.identity import Identity, fingerprint
from heliosdb.transport.verification import sign_certificate, sign_statement

REQUEST = "6f1f2f0e-6c3b-4d57-9f0e-1f6f7c1f0a01"
ORIGIN = UUID("0d8f5a2e-58a6-4a53-8bb1-0b8d8a2f7c11")
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
AUTHORITY = Authority.create("test authority")
COORDINATOR = AUTHORITY.issue("coordinator", ["localhost"])
NODES = {name: AUTHORITY.issue(name, ["localhost"]) for name in ("east", "west")}


def answered(node: str, outcome: str) -> Answer:
    """A node's answer, signed."""
    statement = canonical_json(
        {"order": REQUEST, "kind": "erase", "workspace": "clinics", "node": node, "outcome": outcome}
    )
    return Answer(
        node=node,
        state="answered",
        message=None,
        statement=statement.decode(),
        signature=sign_statement(NODES[node], statement).hex(),
        certificate_sha256=fingerprint(NODES[node].certificate_pem),
        certificate=NODES[node].certificate_pem.decode(),
    )


ERASURE = Erasure(
    request=REQUEST,
    batch="b1",
    workspace="clinics",
    model="risk",
    pseudonym="ab" * 32,
    method="retrain",
    requested_at="2026-01-30T12:00:00.000000Z",
    deadline="2026-02-28T12:00:00.000000Z",
    ended_at="2026-01-30T13:00:00.000000Z",
    completed_at="2026-01-31T12:00:00.000000Z",
    runs=1,
    files=("/var/lib/postgresql/round_2.bin",),
    unasked=(),
    answers=(answered("east", "suppressed"), answered("west", "not held")),
    versions=(
        ErasedVersion("risk", 1, "r1", 0, "11" * 32, "2026-01-31T11:00:00.000000Z", 2, "22" * 32, True),
    ),
)


def signed_json(statement: bytes, message: bytes, identity: Identity) -> dict[str, str]:
    """A signed text as a proof has it."""
    return {
        "statement": statement.decode(),
        "signature": identity.sign(message).hex(),
        "certificate": identity.certificate_pem.decode(),
    }


def proof_of(certificate: dict[str, Any]) -> dict[str, Any]:
    """A proof that the third of five entries has the certificate's hash."""
    details = json.dumps({"certificate_sha256": certificate_sha256(certificate).hex()})
    entry = AuditEntry(
        str(ORIGIN), "clinics", 3, "00" * 32, "e3", "2026-01-31T12:00:00.000000Z", "7", "coordinator",
        "federated_daemon", "certify", "erasure", REQUEST, details, "",
    )  # fmt: skip
    entry = replace(entry, hash=entry_hash(entry))
    leaves = [bytes([number]) * 32 for number in range(5)]
    leaves[2] = entry.leaf
    head = TreeHead(WorkspaceName("clinics"), ORIGIN, 5, root(leaves), NOW).statement()
    digest = hashlib.sha256(head).digest()
    seen = Witnessed(digest, NodeName("east"), NOW).statement()
    return {
        "leaf_index": 2,
        "tree_size": 5,
        "root_sha256": root(leaves).hex(),
        "path": [one.hex() for one in inclusion_path(leaves, 2)],
        "leaf_sha256": leaf_hash(entry.leaf).hex(),
        "entry": entry.to_json(),
        "head": signed_json(head, head_message(head), COORDINATOR),
        "cosignatures": [{"node": "east", **signed_json(seen, witnessed_message(seen), NODES["east"])}],
    }


def document(erasure: Erasure = ERASURE) -> dict[str, Any]:
    """What federated_erasure_certificate returns."""
    certificate = json.loads(json.dumps(erasure.to_certificate()))
    return {
        "certificate": certificate,
        "signature": sign_certificate(COORDINATOR, certificate_bytes(certificate)).hex(),
        "signer": COORDINATOR.certificate_pem.decode(),
        "inclusion": proof_of(certificate),
        "inclusion_reason": None,
    }


def verified(content: object, directory: Path, authority: Path | None = None) -> tuple[bool, list[str]]:
    """Whether a document is in order, and what was shown."""
    path, shown = directory / "certificate.json", list[str]()
    path.write_text(json.dumps(content))
    return verify_file(path, authority, shown.append), shown


def leaves_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each text, number or null."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves_of(inner, (*path, key))
    else:
        yield path


def changed(value: object) -> object:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if value is None:
        return "something"
    assert isinstance(value, str)
    middle = len(value) // 2
    return value[:middle] + ("1" if value[middle : middle + 1] == "0" else "0") + value[middle + 1 :]


def test_a_certificate_is_in_order_as_it_was_made(tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    authority.write_bytes(AUTHORITY.certificate_pem)

    intact, shown = verified(document(), tmp_path, authority)

    assert intact, shown
    assert shown[0] == f"request {REQUEST} in workspace clinics: exact: trained anew from round 0"
    assert [line.split(":")[0] for line in shown[1:]] == [
        f"signed by {name}"
        for name in (
            "the coordinator",
            "node east",
            "node west",
            "the audit log's head",
            "witness east",
        )
    ]


@pytest.mark.parametrize("path", list(leaves_of(document())), ids=str)
def test_whatever_is_changed_in_it_is_a_fault(tmp_path: Path, path: tuple[Any, ...]) -> None:
    tampered = copy.deepcopy(document())
    place = tampered
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = changed(place[path[-1]])

    intact, shown = verified(tampered, tmp_path)

    assert not intact
    assert any(line.startswith("fault: ") for line in shown)


def test_what_is_added_or_left_out_is_a_fault(tmp_path: Path) -> None:
    added, short = document(), document()
    added["certificate"]["nodes"].append(added["certificate"]["nodes"][0])
    del short["certificate"]["nodes"][1]
    for content in (added, short):
        assert not verified(content, tmp_path)[0]
    further = document()
    further["inclusion"]["note"] = "nobody signed this"
    assert not verified(further, tmp_path)[0]


@pytest.mark.parametrize(("content", "said"), [(None, "cannot read"), (b"none", "holds no certificates")])
def test_an_authority_that_is_none_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    authority = tmp_path / "authority.pem"
    if content is not None:
        authority.write_bytes(content)
    with pytest.raises(FederatedError, match=said):
        verified(document(), tmp_path, authority)


def test_certificates_of_another_authority_are_a_fault(tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(Authority.create("test authority").certificate_pem)
    intact, shown = verified(document(), tmp_path, stranger)
    assert not intact
    assert "fault: the certificate of the coordinator is none of the authority's" in shown


@pytest.mark.parametrize("content", [[], {}, {"certificate": []}, "x", None])
def test_what_is_no_certificate_is_one_error(tmp_path: Path, content: object) -> None:
    with pytest.raises(FederatedError, match="is no certificate of erasure"):
        verified(content, tmp_path)


def test_it_says_exact_approximate_or_incomplete_and_by_what() -> None:
    assert replace(ERASURE, versions=()).exactness.startswith("exact: no version had learned")
    assert replace(ERASURE, method="suppress_only").exactness.startswith("approximate: suppressed only")
    kept = replace(ERASURE.versions[0], is_trained_anew=False)
    assert replace(ERASURE, versions=(kept,)).exactness == "exact: the versions were retired"
    nameless = replace(ERASURE, answers=(answered("west", "not identifiable"), answered("east", "not held")))
    assert (
        nameless.exactness == "exact: trained anew from round 0; whose their rows are cannot be told by west"
    )
    gone = replace(ERASURE, unasked=("south",))
    assert gone.exactness == "incomplete: no word of south; of the others exact: trained anew from round 0"
    silent = Answer("north", "pending", "away", None, None, None, None)
    assert (
        replace(ERASURE, answers=(*ERASURE.answers, silent)).exactness
        == "incomplete: no word of north; of the others exact: trained anew from round 0"
    )
