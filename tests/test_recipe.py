# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Recipes: the shipped one, a user's own, and what is refused."""

from pathlib import Path

import pytest

from edgeopt.errors import InputError
from edgeopt.quantize import PLAIN, Quantize
from edgeopt.recipe import FOLDER, load_recipe, recipe_names
from edgeopt.steps.layers import Layers
from edgeopt.steps.structured import Structured
from edgeopt.steps.vocabulary import Vocabulary


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


def test_steps_of_compression_keep_their_order(tmp_path: Path) -> None:
    steps = load_recipe("prune").compress
    assert steps == (Vocabulary(first=1000), Structured(max_drop=0.02))
    assert load_recipe("default").compress == ()
    path = tmp_path / "own.toml"
    text = (FOLDER / "default.toml").read_text()
    path.write_text(
        text
        + """
[[compress]]
technique = "layers"
drop = [1, 3]
[[compress]]
technique = "structured"
heads = 8
neurons = 1024
widths = "uneven"
max_drop = 0.5
"""
    )
    assert load_recipe(path).compress == (
        Layers(drop=(1, 3)),
        Structured(heads=8, neurons=1024, widths="uneven", max_drop=0.5),
    )


def test_options_of_quantising(tmp_path: Path) -> None:
    assert load_recipe("default").quantize == PLAIN
    assert load_recipe("int8").quantize == Quantize(max_drop=0.005)
    assert load_recipe("accurate").quantize == Quantize(mixed=True, max_drop=0.002)
    path = tmp_path / "own.toml"
    path.write_text(
        (FOLDER / "default.toml").read_text()
        + """
[bounds.int4]
cosine_min = 0.9

[quantize]
weights = "int4"
group_size = 64
algorithm = "hqq"
keep = ["classifier"]
keep_fp = 0.25
"""
    )
    recipe = load_recipe(path)
    assert recipe.bounds["int4"].cosine_min == 0.9
    assert recipe.quantize == Quantize(
        weights="int4", group_size=64, algorithm="hqq", keep=("classifier",), keep_fp=0.25
    )
    assert recipe.quantize.lowering(("b", "a")) == Quantize(
        weights="int4", group_size=64, algorithm="hqq", keep=("a", "b")
    )


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ('weights = "int3"', "quantize.weights: expected one of int8, int4, found 'int3'"),
        ('weights = "int4"', "bounds.int4: is missing, expected a table"),
        ("group_size = 48", "quantize.group_size: expected one of 0, 32, 64, 128, 256, found 48"),
        ("keep_fp = 1.5", "quantize.keep_fp: expected 0.0 to 1.0, found 1.5"),
        ("keep_fp = -1", "quantize.keep_fp: expected 0 to 100000, found -1"),
        ("smooth = 1", "quantize.smooth: unknown key; did you mean 'smooth_quant'? (known: "),
        (
            'activations = "dynamic"\ncalibration = "mse"',
            "quantize.calibration: is for static activations, not 'dynamic'",
        ),
        (
            'weights = "int4"\nactivations = "static"',
            "quantize.activations: static ones go with int8 weights, not with int4",
        ),
    ],
)
def test_wrong_options_of_quantising_are_refused(
    tmp_path: Path, options: str, complaint: str
) -> None:
    path = tmp_path / "own.toml"
    path.write_text((FOLDER / "default.toml").read_text() + f"[quantize]\n{options}\n")
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: {complaint}")


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        ('technique = "quantum"', "compress[0].technique: expected one of vocabulary, structured"),
        ('technique = "layers"', "compress[0].drop: expected either drop (layers by index) or"),
        ('technique = "layers"\ncount = 1\ndrop = [0]', "compress[0].drop: expected either drop"),
        ('technique = "layers"\ndrop = [2, 1]', "compress[0].drop: expected ascending integers"),
        (
            'technique = "vocabulary"\nsise = 9',
            "compress[0].sise: unknown key; did you mean 'size'",
        ),
        ('technique = "vocabulary"\nmax_drop = 2', "compress[0].max_drop: expected 0.0 to 1.0"),
        ('technique = "structured"\nremove = 1.0', "compress[0].remove: expected 0.0 to 0.95"),
        (
            'technique = "structured"\nparts = ["heads"]\nneurons = 9',
            "compress[0].neurons: is given, but parts leaves neurons alone",
        ),
        (
            'technique = "structured"\nheads = 1\nneurons = 9\nremove = 0.5',
            "compress[0].remove: is given beside heads and neurons, which say it all",
        ),
        (
            'technique = "structured"\nimportance = "magnitude"\nrearrange = true',
            "compress[0].rearrange: needs",
        ),
        (
            'technique = "vocabulary"\n[[compress]]\ntechnique = "vocabulary"',
            "compress[1].technique: 'vocabulary' stands there twice",
        ),
        (
            'technique = "unstructured"\n[[compress]]\ntechnique = "structured"',
            "compress[1].technique: 'structured' would undo the zeros that 'unstructured' makes "
            "before it\nPut 'structured' before 'unstructured'.",
        ),
        (
            'technique = "unstructured"\npattern = "4:4"',
            "compress[0].pattern: keeps 4 of 4, so that nothing goes",
        ),
        (
            'technique = "unstructured"\npattern = "2:4"\nsparsity = 0.5',
            "compress[0].sparsity: is given beside pattern, which says it",
        ),
        (
            'technique = "unstructured"\nscope = "global"',
            'compress[0].scope: global needs method = "magnitude" and no pattern',
        ),
        (
            'technique = "unstructured"\n[[compress]]\ntechnique = "distil"',
            "compress[1].technique: 'distil' would undo the zeros that 'unstructured' makes",
        ),
        (
            'technique = "movement"\nthreshold = 0.2',
            "compress[0].threshold: says nothing where method is 'topk'",
        ),
        (
            'technique = "movement"\nbegin = 0.5\nend = 0.4',
            "compress[0].end: expected more than begin (0.5)",
        ),
        (
            'technique = "movement"\nblock = 8\n[[compress]]\ntechnique = "lottery"',
            "compress[1].technique: 'lottery' would undo the zeros that 'movement' makes before it",
        ),
    ],
)
def test_a_wrong_step_is_refused(tmp_path: Path, step: str, complaint: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text((FOLDER / "default.toml").read_text() + "\n[[compress]]\n" + step + "\n")
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: {complaint}")
