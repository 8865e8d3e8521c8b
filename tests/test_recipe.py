"""Recipes: the shipped one, a user's own, and what is refused."""

from pathlib import Path

import pytest

from edgeopt.errors import InputError
from edgeopt.recipe import FOLDER, load_recipe, recipe_names


def test_the_default_recipe() -> None:
    recipe = load_recipe("default")
    assert "default" in recipe_names()
    assert {p: b.cosine_min for p, b in recipe.bounds.items()} == {
        "fp32": 0.9999,
        "fp16": 0.999,
        "int8": 0.95,
    }
    assert recipe.calibration_texts == 128


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("cosine_min = 0.95", "cosine_min = 95", "bounds.int8.cosine_min: expected 0.0 to 1.0"),
        ("[bounds.int8]", "[bounds.int4]", "bounds.int8: is missing, expected a table"),
        ("[bounds.int8]", "[bounds.bf16]\n[bounds.int8]", "bounds.bf16: unknown key"),
        ("[bounds.int8]", "[bounds.int8]\nmax = 1", "bounds.int8.max: unknown key"),
        ("_texts = 128", "_texts = 0", "calibration_texts: expected 1 to 100000, found 0"),
        ("_texts = 128", "_text = 128", "calibration_texts: is missing, expected an integer"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = (FOLDER / "default.toml").read_text()
    assert old in text
    path = tmp_path / "strict.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: {complaint}")
