"""Texts as features: words are hashed where the rows are, and a prediction hashes the same way."""

from __future__ import annotations

import numpy as np
import pytest

from heliosdb.scoring.words import LONGEST, hash_text
from tests.integration.coordinator.support import MODEL, World, create_model, create_workspace
from tests.integration.features.columns import add_site, closed_rounds, encoding, scaling, train

pytestmark = pytest.mark.xdist_group("features")

SIZE = 64
ILL, WELL = ("fever", "cough", "chills", "husten"), ("walking", "garden", "cheerful", "schlaf")


def _setup(first: int) -> str:
    """300 rows: every third is ill, and its note has words of illness; some notes are as ugly as they come."""
    ill, well = (f"ARRAY{list(words)}" for words in (ILL, WELL))
    return (
        "CREATE TABLE t (notes text, age float8, ill boolean);"
        " INSERT INTO t SELECT CASE WHEN i % 20 = 0 THEN NULL WHEN i % 20 = 1 THEN '' WHEN i % 20 = 2 THEN E'  \\n '"
        f" ELSE 'Patient ' || ({ill})[1 + i % 4] || ', ' || ({well})[1 + i % 3]"
        " || CASE WHEN i % 3 = 0 THEN ' ÄRGER fever' ELSE ' ok garden' END"
        # A name that one person has.
        " || CASE WHEN i = 77 THEN ' Zzyzxwerth' ELSE '' END END,"
        f" {first} + i % 37, i % 3 = 0 FROM generate_series(1, 300) AS i"
    )


async def test_words_train_a_model_and_predict_in_the_database_as_at_the_nodes(world: World) -> None:
    options = {"feature_transforms": [f"hashed(notes, {SIZE})"], "rounds": 6}
    run = await train(world, {"north": _setup(20), "south": _setup(31)}, ("notes", "age"), "ill", **options)

    assert closed_rounds(world) == 6, run
    column = encoding(world).columns[0]
    assert (column.kind.value, column.form, column.elements, column.levels) == ("text", "hashed", SIZE, ())
    assert scaling(world)["means"][:SIZE] == [0.0] * SIZE
    assert scaling(world)["scales"][:SIZE] == [1.0 / 8.0] * SIZE

    texts = [
        "Patient fever",
        "patient FEVER",
        "garden, cheerful",
        None,
        "",
        " ",
        "Ärger\u0301",
        "x" * (LONGEST + 9),
    ]
    found = [
        world.query("SELECT federated_model.risk(notes => %s::text, age => 40) AS p", text)[0]["p"]
        for text in texts
    ]
    (row,) = world.query("SELECT prediction FROM federated.held_version ORDER BY version DESC LIMIT 1")
    content = row["prediction"]
    slopes = np.array(content["slopes"])
    for text, predicted in zip(texts, found, strict=True):
        inputs = np.append(hash_text(text, SIZE), 40.0)
        score = content["intercept"] + float(slopes @ (inputs - np.array(content["shifts"])))
        assert predicted == pytest.approx(1.0 / (1.0 + np.exp(-score)), rel=1e-12)
    assert found[0] == found[1] > 0.5 > found[2]
    assert found[3] == found[4] == found[5]

    (by_json,) = world.query(
        "SELECT federated_predict('risk', jsonb_build_object('notes', 'Patient fever', 'age', 40)) AS p"
    )
    assert by_json["p"] == found[0]


@pytest.mark.parametrize(
    ("algorithm", "further"),
    [
        ("gradient_boosting", {"max_depth": 2, "learning_rate": 0.3}),
        ("neural_network", {"layers": "[4, 1]", "learning_rate": 0.3}),
    ],
)
async def test_other_algorithms_learn_from_words(
    world: World, algorithm: str, further: dict[str, object]
) -> None:
    options = {"algorithm": algorithm, "feature_transforms": ["hashed(notes, 16)"], "rounds": 4, **further}
    run = await train(world, {"north": _setup(20), "south": _setup(31)}, ("notes",), "ill", **options)

    assert closed_rounds(world) == 4, run
    ill, well = (
        world.query("SELECT federated_predict('risk', jsonb_build_object('notes', %s::text)) AS p", text)[0][
            "p"
        ]
        for text in ("Patient fever fever", "Patient ok garden")
    )
    assert ill > well


async def test_words_are_read_under_a_budget_and_nothing_is_asked_of_them(world: World) -> None:
    options = {"feature_transforms": [f"hashed(notes, {SIZE})"], "rounds": 2}
    create_workspace(world, min_nodes=2, privacy_budget=8.0)
    for name in ("north", "south"):
        await add_site(world, name, _setup(20), ("notes", "ill"))
    create_model(world, features=("notes",), target="ill", **options)
    world.start_coordinator()
    world.execute(f"START FEDERATED TRAINING {MODEL}")
    run = await world.finished()

    assert closed_rounds(world) == 2, run
    assert scaling(world)["scales"] == [1.0 / 8.0] * SIZE


async def test_a_transform_of_a_number_is_one_clear_error(world: World) -> None:
    options = {"feature_transforms": [f"hashed(age, {SIZE})"]}
    run = await train(world, {"north": _setup(20), "south": _setup(31)}, ("age",), "ill", **options)

    assert run["status"] == "failed"
    assert 'asks for hashed(age, 64), and "age" is of kind number' in run["message"]
