"""What a coordinator signed at delivery vouches for a file as well, and for nothing that it did not sign."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from heliosdb.catalog.exchange import Found
from heliosdb.cli.embedded.pki import ensure_authority, ensure_identity
from heliosdb.cli.exchange import ExportWishes, export_model, find_signature
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import ModelName, NodeName, SubscriptionName, VersionKey, WorkspaceName
from heliosdb.domain.subscription import Content, Contract, Offer, Outcome
from heliosdb.exchange.document import Document, write_document
from heliosdb.transport.delivery_messages import encode_delivery
from heliosdb.transport.identity import Identity
from heliosdb.transport.verification import sign_delivery
from tests.support.encoded_model import ENCODING, linear
from tests.support.portable import document


@pytest.fixture
def identities(tmp_path: Path) -> tuple[Path, Path, Identity]:
    """Certificates of a coordinator and of somebody else, and the coordinator's identity."""
    authority = ensure_authority(tmp_path / "ca")
    made, other = (ensure_identity(authority, tmp_path, name) for name in ("coordinator", "other"))
    return made.certificate, other.certificate, Identity.load(made.certificate, made.private_key)


def delivered(identity: Identity) -> dict[str, Any]:
    """A version as a participant exports it."""
    exported = document(linear("logistic"), ENCODING)
    content = Content.of(
        exported["features"], Contract("logistic_regression", "outcome"), exported["prediction"].encode()
    )
    offer = Offer(
        WorkspaceName("clinics"), NodeName("north"), SubscriptionName("s"), ModelName("stay"), None, Outcome.OFFERED,
        version=3, key=VersionKey(UUID(int=1)),
    )  # fmt: skip
    header = encode_delivery(offer, content, b"\1" * 32)
    signature = sign_delivery(identity, header)
    return exported | {
        "delivery": {"header": base64.b64encode(header).decode(), "signature": base64.b64encode(signature).decode()}
    }  # fmt: skip


def taken(exported: dict[str, Any], certificate: Path | None) -> tuple[Document, Found]:
    raw = write_document(exported)
    return find_signature(raw, exported, Path("none.sig"), certificate, named=False)


def found(exported: dict[str, Any], certificate: Path | None) -> str:
    return taken(exported, certificate)[1].signature


def test_a_delivered_version_is_vouched_for_by_who_delivered_it(
    identities: tuple[Path, Path, Identity],
) -> None:
    certificate, other, identity = identities
    exported = delivered(identity)
    assert found(exported, certificate) == "delivery"
    assert found(exported, None) == "none"
    changed: tuple[dict[str, Any], ...] = (
        {"version": 4}, {"features": exported["features"][::-1]}, {"contract": {"algorithm": "linear_regression"}},
        {"content_sha256": "00" * 32}, {"delivery": None}, {"prediction": exported["prediction"][:-1]}, {"arrays": "AAAA"},
        {"delivery": {**exported["delivery"], "signature": base64.b64encode(b"x" * 70).decode()}},
    )  # fmt: skip
    for members in changed:
        with pytest.raises(FederatedError) as caught:
            found(exported | members, certificate)
        assert caught.value.code is ErrorCode.IDENTITY
    with pytest.raises(FederatedError) as caught:
        found(exported, other)
    assert caught.value.code is ErrorCode.IDENTITY


def test_what_was_not_signed_at_delivery_is_not_taken(identities: tuple[Path, Path, Identity]) -> None:
    certificate, _, identity = identities
    exported = delivered(identity)
    forged = {
        "card": {"model": "stay", "approved": True}, "notice": "none", "model": "another",
        "origin": {"held": "trained", "workspace": "elsewhere", "version_key": "x", "exported_at": "2099-01-01T00:00:00Z"},
    }  # fmt: skip
    document, about = taken(exported | forged, certificate)
    assert (document["card"], document["model"], about.signature) == (None, "stay", "delivery")
    assert document["origin"] == {
        "held": "delivered", "workspace": "clinics", "model": "stay", "version_key": str(UUID(int=1)),
    }  # fmt: skip
    # Without a certificate nothing is vouched for, and the file's words are kept as that.
    document, about = taken(exported | forged, None)
    assert (document["card"], about.signature) == (forged["card"], "none")


@pytest.mark.parametrize(
    "delivery", [[], {}, "x", {"header": 1, "signature": "x"}, {"header": "\u00e9", "signature": ""}]
)
def test_what_is_no_signature_is_refused(identities: tuple[Path, Path, Identity], delivery: Any) -> None:
    certificate, _, identity = identities
    with pytest.raises(FederatedError) as caught:
        found(delivered(identity) | {"delivery": delivery}, certificate)
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_no_place_is_written_to_that_should_not_be(tmp_path: Path) -> None:
    taken, link = tmp_path / "taken", tmp_path / "link"
    taken.write_text("mine")
    link.symlink_to(taken)
    refused = (
        (None, ExportWishes("onnx"), ErrorCode.INVALID_VALUE),
        (taken, ExportWishes("json"), ErrorCode.DUPLICATE_OBJECT),
        (link, ExportWishes("json", force=True), ErrorCode.DUPLICATE_OBJECT),
        (tmp_path, ExportWishes("json", force=True), ErrorCode.DUPLICATE_OBJECT),
        (tmp_path / "no" / "file", ExportWishes("json"), ErrorCode.UNDEFINED_OBJECT),
    )
    for place, wishes, code in refused:
        with pytest.raises(FederatedError) as caught:
            export_model("host=/nowhere", "risk", place, wishes)
        assert caught.value.code is code
    assert taken.read_text() == "mine"


def test_a_stale_signature_that_cannot_be_removed_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = document(linear("logistic"), ENCODING)
    monkeypatch.setattr("heliosdb.cli.exchange.ask", lambda *_: exported)
    (tmp_path / "risk.json.sig").mkdir()
    with pytest.raises(FederatedError) as caught:
        export_model("", "stay", tmp_path / "risk.json", ExportWishes("json", force=True))
    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert not (tmp_path / "risk.json").exists()
