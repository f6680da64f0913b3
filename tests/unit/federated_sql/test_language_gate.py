"""The gate before the scanner: prose and data do not get through, and nothing that would change is kept out."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_sql.gate import may_be_ours, may_concern
from federated_sql.grammar import RULES
from federated_sql.rewrite import rewrite
from heliosdb.proxy.rewriting import LONG_TEXT, federated_rewriter

# The package gives its function the same name.
rewriting = importlib.import_module("federated_sql.rewrite")

IDENTITY = (Path(__file__).parent / "identity.sql").read_text().splitlines()
PROSE = (
    "Models are trained in a federated way; see federated_predict and federated learning.",
    "create a federated model",
    "We learn from federated data, and replace federated ones.",
    "the federated_evaluate function of public.federated_training_status",
    "SELECT * FROM federated.workspace",
    "x federated_dataset.elders, xfederated training, FEDERATEDx",
    "delete from federateds; delete federated; from federated",
)
GAPS = (
    " ",
    "\n",
    "\t ",
    "  ",
    " " * 300,
    "/* so */",
    " /*a*/ /* b -- */ ",
    " -- note\n",
    "--\r",
    "\f",
    "\v",
    "'",
    ";",
    " x ",
)
PIECES = [
    *GAPS, *sorted({word for key in RULES for word in key}), "FEDERATED", "Federated", "federated", "m", "'n'", "pause",
    "show", "nodes", "federated_predict", '"federated_predict"', "('m', a => 1)", "(", ")", "SELECT ", ".", "$$", "ü", "\\",
]  # fmt: skip


def without_gate(text: str, monkeypatch: pytest.MonkeyPatch) -> object:
    with monkeypatch.context() as patch:
        patch.setattr(rewriting, "may_be_ours", may_concern_text)
        return rewrite(text)


def may_concern_text(text: str) -> bool:
    return may_concern(text.encode(errors="surrogatepass"))


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_nothing_that_would_change_is_kept_out(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        assert rewrite(text) == without_gate(text, patch)


@pytest.mark.parametrize("gap", [gap for gap in GAPS if not gap.strip() or "/*" in gap or "--" in gap])
def test_every_statement_is_let_through_whatever_stands_between_its_words(gap: str) -> None:
    for key in RULES:
        text = gap.join(key[: key.index("federated") + 1]).upper()
        assert may_be_ours(text), text
        assert may_be_ours(f"SELECT 1;{gap}{text}{gap}m"), text


@pytest.mark.parametrize(
    "call", ["{}('m')", '"{}" (1)', "{}\n(", "{}/**/(", "{} -- x\n(", "PUBLIC.{}  ('m')"]
)
@pytest.mark.parametrize("name", ["federated_predict", "FEDERATED_predict_proba", "federated_evaluate"])
def test_every_call_is_let_through(call: str, name: str) -> None:
    assert may_be_ours("SELECT " + call.format(name))


def test_data_and_prose_are_never_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    def scan(_text: str) -> None:
        raise AssertionError("scanned")

    monkeypatch.setattr(rewriting, "scan_raw", scan)
    for text in PROSE:
        assert rewrite(f"INSERT INTO docs VALUES ('{text}')") is None
    with pytest.raises(AssertionError):
        rewrite("CREATE FEDERATED WORKSPACE w")


def test_a_long_text_of_data_is_not_worked_out_beside_the_loop() -> None:
    rewriter = federated_rewriter()
    rows = ", ".join(f"({number}, '{PROSE[number % 2]}')" for number in range(LONG_TEXT // 64))
    assert len(rows) > LONG_TEXT
    assert not rewriter.takes_long(f"INSERT INTO docs VALUES {rows}")
    assert rewriter.takes_long(f"INSERT INTO docs VALUES {rows}; CREATE FEDERATED WORKSPACE w")


def test_all_that_the_language_knows_is_let_through() -> None:
    for statement in IDENTITY:
        assert may_be_ours(statement)
        assert rewrite(statement) is not None


def test_what_is_no_unicode_is_no_error() -> None:
    assert rewrite("CREATE FEDERATED WORKSPACE w \ud800") is None
    assert not may_be_ours("\ud800 federated")
