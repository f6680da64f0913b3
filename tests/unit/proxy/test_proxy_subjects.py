"""Where the proxy has a coordinator's key, data subjects are named to the server by what that coordinator can read."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from federated_sql import FederatedError, parse
from federated_sql.clause_values import SealedSubject
from federated_sql.statements import RevokeConsent
from heliosdb.domain.sealed_box import UnopenedBoxError
from heliosdb.domain.sealed_subject import about, read_key, unwrap, wrap, write_key
from heliosdb.proxy.config import ProxyConfig
from heliosdb.proxy.rewriting import federated_rewriter
from heliosdb.proxy.server import Proxy
from heliosdb.proxy.subjects import load_seal, sealing_rewriter
from heliosdb.transport.sealing import SealingKey
from tests.unit.proxy.session_talk import Talk

CANARY = "kanarie-7731"
STATEMENT = f"REVOKE FEDERATED CONSENT FOR SUBJECT '{CANARY}' FROM WORKSPACE w"


@pytest.fixture
def key(tmp_path: Path) -> SealingKey:
    made = SealingKey.generate()
    write_key(tmp_path / "key.pub", made.public)
    return made


def named(text: str) -> str:
    """What a rewritten REVOKE names its subject by."""
    command = parse(text.split("$federated$")[1])
    assert isinstance(command, RevokeConsent) and isinstance(command.subject, SealedSubject)
    return command.subject.sealed


def test_the_coordinator_opens_what_the_proxy_seals(tmp_path: Path, key: SealingKey) -> None:
    rewriter = sealing_rewriter(federated_rewriter(), load_seal(tmp_path / "key.pub"))
    found = rewriter.rewrite(STATEMENT)
    assert found is not None and CANARY not in found.text
    sealed = named(found.text)
    opened = unwrap(wrap(sealed), "revoke", lambda raw, of: key.open_box(raw, about=of))
    assert opened == CANARY.encode()
    with pytest.raises(UnopenedBoxError):
        key.open_box(base64.b64decode(sealed), about=about("export"))


def test_no_identifier_is_kept_and_none_looks_the_same_twice(tmp_path: Path, key: SealingKey) -> None:
    common = federated_rewriter()
    rewriter = sealing_rewriter(common, load_seal(tmp_path / "key.pub"))
    texts = set()
    for _ in range(2):
        assert not rewriter.knows(STATEMENT)
        found = rewriter.begin(STATEMENT).result()
        rewriter.learn(STATEMENT, found)
        assert found is not None
        texts.add(found.text)
    assert len(texts) == 2
    assert (common.entries, common.rewrites) == (0, 2)


def test_other_texts_are_the_common_rewriters(tmp_path: Path, key: SealingKey) -> None:
    common = federated_rewriter()
    rewriter = sealing_rewriter(common, load_seal(tmp_path / "key.pub"))
    text = "STOP FEDERATED TRAINING m"
    assert not rewriter.takes_long(text)
    assert rewriter.rewrite(text) == common.rewrite(text)
    assert rewriter.knows(text) and common.hits == 1
    assert rewriter.takes_long(STATEMENT), "sealing takes milliseconds, and the loop serves all clients"


def test_an_identifier_in_an_orders_box_is_no_sealed_one() -> None:
    assert unwrap(b"p-17", "erase", lambda _raw, _about: b"never") == b"p-17"


@pytest.mark.parametrize(
    "content", [None, b"", b"heliosdb-subject-key AAAA\n", b"\xff" * 60, b"heliosdb-subject-key !\n"]
)
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "key.pub"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FederatedError) as caught:
        read_key(path)
    assert caught.value.sqlstate == "22023"
    config = ProxyConfig.model_validate({"default_upstream": {"host": "127.0.0.1", "subject_key": path}})
    with pytest.raises(FederatedError):
        Proxy(config, federated_rewriter())


def test_each_route_has_its_own_coordinators_key(tmp_path: Path, key: SealingKey) -> None:
    config = ProxyConfig.model_validate(
        {
            "default_upstream": {"host": "127.0.0.1", "subject_key": tmp_path / "key.pub"},
            "routes": {"east": {"host": "127.0.0.1", "port": 5433}},
        }
    )
    proxy = Proxy(config, federated_rewriter())
    sealing = proxy.rewriter_for(config.upstream_for("coordinator")).rewrite(STATEMENT)
    plain = proxy.rewriter_for(config.upstream_for("east")).rewrite(STATEMENT)
    assert sealing is not None and CANARY not in sealing.text
    assert plain is not None and CANARY in plain.text


def test_a_session_waits_for_the_seal_and_sends_the_rest_behind_it(tmp_path: Path, key: SealingKey) -> None:
    rewriter = sealing_rewriter(federated_rewriter(), load_seal(tmp_path / "key.pub"))
    talk = Talk(rewriter)
    sent = talk.session.from_client(query(STATEMENT) + query("SELECT 1"))
    assert (sent, talk.session.wanted) == (b"", STATEMENT)
    rest = talk.session.resume(STATEMENT, rewriter.begin(STATEMENT).result())
    assert CANARY.encode() not in rest and b"SEALED" in rest and rest.endswith(query("SELECT 1"))


def query(text: str) -> bytes:
    body = text.encode() + b"\0"
    return b"Q" + (len(body) + 4).to_bytes(4, "big") + body
