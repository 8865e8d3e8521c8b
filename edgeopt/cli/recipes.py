# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt recipes``: what recipes do to a model, and the options of each technique."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli.output import columns, emit, json_option, section

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.options import Option, Options
    from edgeopt.recipe import Recipe
    from edgeopt.steps import Step

_QUANTIZE = "quantize"
_HEADS = ("option", "default", "takes", "what it is")


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def recipes(ctx: click.Context, as_json: bool) -> None:
    """List recipes; show one, or a step's options."""
    if ctx.invoked_subcommand is not None:
        ctx.obj = as_json  # so that the flag may stand before the subcommand, too
        return
    from edgeopt.recipe import load_recipe, recipe_names
    from edgeopt.steps import TECHNIQUES

    known = [load_recipe(name) for name in recipe_names()]
    document = {"recipes": [_summary(one) for one in known], "techniques": list(TECHNIQUES)}
    emit(document, as_json, lambda console: _render_list(known, console))


@recipes.command()
@click.argument("name")
@json_option
@click.pass_obj
def show(outer_json: bool, name: str, as_json: bool) -> None:
    """Show what NAME holds.

    NAME is a technique (its options, what they take and mean), `quantize` (the options of that
    table), or a recipe: a name out of `edgeopt recipes`, or the path to a file of your own. What
    names a technique and a recipe shows both.
    """
    from edgeopt.errors import InputError
    from edgeopt.fields import nearest
    from edgeopt.quantize import Quantize
    from edgeopt.recipe import load_recipe, recipe_names
    from edgeopt.steps import TECHNIQUES

    technique = TECHNIQUES.get(name)
    recipe = None
    document: dict[str, Any] = {}
    if technique is not None:
        document["technique"] = _technique(name, technique)
    elif name == _QUANTIZE:
        document["table"] = _table(name, Quantize)
    is_path = name.endswith(".toml") or "/" in name
    if is_path or name in recipe_names():
        recipe = load_recipe(name)
        document["recipe"] = asdict(recipe)
    if not document:
        known = sorted({*TECHNIQUES, _QUANTIZE, *recipe_names()})
        raise InputError(
            f"unknown technique or recipe {name!r}{nearest(name, known)} "
            f"(known: {', '.join(known)})",
            hint="For a recipe of your own give the path to its file, ending in .toml.",
        )

    def render(console: Console) -> None:
        if technique is not None:
            _render_technique(document["technique"], technique, console)
        elif name == _QUANTIZE:
            _render_options("[quantize]", document["table"]["help"], Quantize, console)
        if recipe is not None:
            _render_recipe(recipe, console)

    emit(document, as_json or outer_json, render)


def _summary(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "techniques": [step.technique for step in recipe.compress],
        "quantize": recipe.quantize.options(),
    }


def _render_list(known: list[Recipe], console: Console) -> None:
    from edgeopt.steps import TECHNIQUES

    table = columns("recipe", "techniques", "quantize")
    for recipe in known:
        names = ", ".join(step.technique for step in recipe.compress)
        table.add_row(recipe.name, names or "-", _told(recipe.quantize.options()))
    console.print(table)
    console.print(f"\nTechniques: {', '.join(TECHNIQUES)}", style="dim")
    console.print(
        "What a recipe holds, or the options of a technique or of quantize: "
        "edgeopt recipes show NAME",
        style="dim",
    )


def _table(name: str, kind: type[Options]) -> dict[str, Any]:
    from edgeopt.options import options_of

    paragraphs = (inspect.getdoc(kind) or "").replace("``", "").split("\n\n")
    about = "\n".join(" ".join(lines.split()) for lines in paragraphs)
    options = [option.document() for option in options_of(kind)]
    return {"name": name, "help": about, "options": options}


def _technique(name: str, kind: type[Step]) -> dict[str, Any]:
    """Return a technique as plain values; None for what its options decide, ``depends`` says how.

    >>> from edgeopt.steps.movement import Movement
    >>> found = _technique("movement", Movement)
    >>> found["aims"], found["makes"], found["depends"]
    ('latency', None, {'makes': 'zeros with block: squares that are no whole head stay'})
    """
    from edgeopt.steps import Step

    facts: dict[str, Any] = {}
    depends: dict[str, str] = {}
    for fact in ("aims", "makes", "undoes"):
        found = getattr(kind, fact)
        if found is getattr(Step, fact):
            facts[fact] = []
        elif isinstance(found, property):
            facts[fact] = None
            line = (inspect.getdoc(found) or "").splitlines()[0]
            depends[fact] = line[0].lower() + line[1:].rstrip(".")
        else:
            facts[fact] = sorted(found) if isinstance(found, frozenset) else found
    return _table(name, kind) | facts | {"depends": depends}


def _render_technique(document: Mapping[str, Any], kind: type[Step], console: Console) -> None:
    told = [document["help"]]
    for fact, words in (("aims", "Is for"), ("makes", "Makes"), ("undoes", "Undoes")):
        found = document["depends"].get(fact) or document[fact] or "nothing"
        told.append(f"{words}: {', '.join(found) if isinstance(found, list) else found}")
    _render_options(f'technique = "{document["name"]}"', "\n".join(told), kind, console)


def _render_options(title: str, about: str, kind: type[Options], console: Console) -> None:
    from edgeopt.options import options_of

    console.print(about + "\n")
    options = options_of(kind)
    section(console, title, _HEADS, map(_row, options))
    for option in options:
        for below in option.kinds:
            if below.stored is dict:
                rows = map(_row, options_of(below.type, option.default))
                section(console, f"[compress.{option.name}]", _HEADS, rows)


def _row(option: Option) -> tuple[str, str, str, str]:
    document = option.document()
    default = "must be given" if document["required"] else _value(document["default"])
    for rule in option.defaults_if:
        default += f"; {_value(rule.default)} with {rule.option} {_value(rule.value)}"
    return option.name, default, ", or ".join(map(str, option.kinds)), option.help


def _render_recipe(recipe: Recipe, console: Console) -> None:
    from edgeopt.options import changed

    facts = (("calibrates on", f"{recipe.calibration_texts} texts"), ("file", recipe.path))
    section(console, f"recipe {recipe.name}", (), facts)
    if recipe.compress:
        steps = ((step.technique, _told(changed(step))) for step in recipe.compress)
        section(console, "Steps", ("technique", "other than by default"), steps)
    if not recipe.quantize.is_plain:
        quantize = ((name, _value(value)) for name, value in recipe.quantize.options().items())
        section(console, "Quantize", ("option", "value"), quantize)
    bounds = (
        (precision, f"{bound.cosine_min:g}", _told(dict(bound.answers)))
        for precision, bound in recipe.bounds.items()
    )
    section(console, "Bounds", ("precision", "cosine to FP32", "answers"), bounds)


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items()) or "-"


def _value(value: Any) -> str:
    """Return a value as TOML spells it, "-" for None; a word needs no quotes here."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)
