# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt recipes`` as a user runs it: the list, what a technique takes, what a recipe holds."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from edgeopt.options import options_of
from edgeopt.quantize import Quantize
from edgeopt.recipe import FOLDER, load_recipe, recipe_names
from edgeopt.steps import TECHNIQUES
from tests.commands import edgeopt


def first_words(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line[:1].strip()]


def test_the_list_has_a_line_for_each_recipe() -> None:
    out = edgeopt("recipes")
    assert (out.returncode, out.stderr) == (0, "")
    rows = {line.split()[0]: line.split() for line in out.stdout.splitlines() if line.strip()}
    assert set(recipe_names()) <= rows.keys()
    assert rows["prune"] == ["prune", "vocabulary,", "structured", "-"]
    assert rows["accurate"] == ["accurate", "-", "mixed", "true,", "max_drop", "0.002"]
    assert f"Techniques: {', '.join(TECHNIQUES)}\n" in out.stdout


def test_the_list_as_json() -> None:
    document = json.loads(edgeopt("recipes", "--json").stdout)
    rows = {row["name"]: row for row in document["recipes"]}
    assert list(rows) == list(recipe_names())
    assert rows["tiny"]["techniques"] == ["vocabulary", "distil", "embeddings"]
    assert rows["int8"]["quantize"] == {"max_drop": 0.005}
    assert document["techniques"] == list(TECHNIQUES)


@pytest.mark.parametrize("name", [*TECHNIQUES, "quantize"])
def test_every_option_is_shown_with_its_default_range_and_help(name: str) -> None:
    kind = TECHNIQUES.get(name, Quantize)
    out = edgeopt("recipes", "show", name, columns=200)
    assert (out.returncode, out.stderr) == (0, "")
    own = out.stdout.partition("[compress.")[0]
    lines = {line.split()[0]: line for line in own.splitlines() if line[:1].strip()}
    wanted = {f.name for f in fields(kind) if f.init}  # type: ignore[arg-type]
    assert wanted <= lines.keys()
    for option in options_of(kind):
        assert option.help in lines[option.name]
        for one in option.kinds:
            assert str(one) in lines[option.name]
            if one.stored is dict:
                assert f"[compress.{option.name}]" in out.stdout
                assert {f.name for f in fields(one.type)} <= set(first_words(out.stdout))
    documents = json.loads(edgeopt("recipes", "show", name, "--json").stdout)
    document = documents["table" if name == "quantize" else "technique"]
    assert {option["name"] for option in document["options"]} == wanted
    assert document["help"].split()[0] in out.stdout


def test_a_technique_is_shown_with_what_it_is_for_makes_and_undoes() -> None:
    out = edgeopt("recipes", "show", "movement", columns=200).stdout
    counted = "as what is counted on a target knows no zeros"
    assert f"Is for: latency; with outputs size, {counted}\n" in out
    left = "as squares that are no whole head stay, and with outputs"
    assert f"Makes: zeros with block, {left}\n" in out
    assert "Undoes: factored layers, zeros\n" in out
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert rows["learning_rate"].split()[1] == "5e-05"  # movement's own, not that of training
    qat = edgeopt("recipes", "show", "qat", columns=200).stdout
    assert "0; 32 with bits 4 " in qat
    document = json.loads(edgeopt("recipes", "show", "qat", "--json").stdout)["technique"]
    assert (document["aims"], document["makes"], document["undoes"], document["depends"]) == (
        "accuracy",
        ["quantised weights"],
        ["zeros"],
        {},
    )


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_shown_with_its_steps_bounds_and_quantisation(name: str) -> None:
    recipe = load_recipe(name)
    out = edgeopt("recipes", "show", name, columns=200)
    assert (out.returncode, out.stderr) == (0, "")
    shown = out.stdout[out.stdout.index(f"recipe {name}\n") :]
    rows = first_words(shown)
    assert [row for row in rows if row in TECHNIQUES] == [s.technique for s in recipe.compress]
    assert {"fp32", "fp16", "int8"} <= set(rows)
    assert ("Quantize" in rows) is not recipe.quantize.is_plain


def test_values_of_a_recipes_steps_are_shown() -> None:
    out = edgeopt("recipes", "show", "tiny", columns=200).stdout
    assert "losses.response 1.0, losses.labels 0.3" in out
    assert "training.learning_rate 0.0005" in out
    document = json.loads(edgeopt("recipes", "--json", "show", "tiny").stdout)["recipe"]
    assert [step["technique"] for step in document["compress"]] == first_names("tiny")
    assert document["bounds"]["int8"] == {"cosine_min": 0.95, "answers": {}}


def first_names(recipe: str) -> list[str]:
    return [step.technique for step in load_recipe(recipe).compress]


def test_a_name_of_both_shows_both() -> None:
    document = json.loads(edgeopt("recipes", "show", "distil", "--json").stdout)
    assert document["technique"]["name"] == document["recipe"]["name"] == "distil"
    out = edgeopt("recipes", "show", "distil").stdout
    assert out.index('technique = "distil"') < out.index("recipe distil")


def test_a_users_own_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        (FOLDER / "default.toml").read_text() + "error_max = 0.4\n"
        '[[compress]]\ntechnique = "layers"\ndrop = [1]\n'
    )
    out = edgeopt("recipes", "show", str(path), columns=200).stdout
    assert "drop [1]" in out
    assert "error_max 0.4" in out


def test_an_unknown_name_names_the_nearest_and_exits_with_2() -> None:
    out = edgeopt("recipes", "show", "structred", "--json")
    assert out.returncode == 2
    assert "unknown technique or recipe 'structred'; did you mean 'structured'" in out.stderr
    assert json.loads(out.stdout)["error"]["kind"] == "InputError"
    assert "did you mean 'fast'" in edgeopt("recipes", "show", "fsat").stderr
