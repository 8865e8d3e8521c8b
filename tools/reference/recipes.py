# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Pages on recipes: a page for each technique, one on the recipe file, one on those that ship."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import edgeopt
from edgeopt.options import Option, options_of
from edgeopt.quantize import Quantize
from edgeopt.recipe import FOLDER, LIMITS, Limits, recipe_names
from edgeopt.steps import REPEATABLE, TECHNIQUES
from edgeopt.steps.distil import Losses
from edgeopt.steps.step import Step
from tools.reference.markdown import code, literal, prose, table

_EXAMPLES = {
    "layers": ("drop = [4, 5]",),
    "low_rank": ("share = 0.7",),
    "embeddings": ("bits = 4",),
    "tokens": ("layers = [2]", "keep = [0.5]"),
}
"""Those techniques that have to be told something."""


def pages() -> dict[str, str]:
    """Return the text of each page by its name, such as ``techniques/distil.md``."""
    found = {f"techniques/{name}.md": _technique(name) for name in TECHNIQUES}
    rows = [
        (f"[`{name}`](techniques/{name}.md)", _first_sentence(TECHNIQUES[name]), _aim(name))
        for name in TECHNIQUES
    ]
    toctree = "\n".join(f"techniques/{name}" for name in TECHNIQUES)
    found["techniques.md"] = (
        "# Techniques\n\n"
        "A recipe's `[[compress]]` tables, in their order, each name one of these. What they share "
        "is in [Recipes](recipes.md); how to use them, in [Compress](../compress.md).\n\n"
        f"{table(('technique', 'does', 'is for'), rows)}\n"
        f"```{{toctree}}\n:hidden:\n\n{toctree}\n```\n"
    )
    found["recipes.md"] = _recipes()
    return found


def names_of(kind: Any) -> list[str]:
    """Return the options of a dataclass, as a TOML file names them."""
    return [f.name for f in dataclasses.fields(kind) if f.init]


def _options(options: Sequence[Option]) -> str:
    """Return the table of options: what each takes, its default, and what it is."""
    rows = [(literal(o.name), _takes(o), _default(o), prose(o.help)) for o in options]
    return table(("option", "takes", "default", "is"), rows).rstrip()


def _takes(option: Option) -> str:
    return " or ".join(map(str, option.kinds))


def _first_sentence(kind: Any) -> str:
    return prose(kind.__doc__).split("\n\n")[0].replace("\n", " ")


def _aim(name: str) -> str:
    kind: Any = TECHNIQUES[name]
    if isinstance(kind.aims, str):
        return kind.aims
    return "latency or size" if name == "movement" else "latency or accuracy"


def _technique(name: str) -> str:
    kind: Any = TECHNIQUES[name]
    parts = [f"# {name}", prose(kind.__doc__)]
    parts += [
        "## How it works",
        prose(ast.get_docstring(_source(f"compression/{name}"))),
        "## Options",
    ]
    options = options_of(kind)
    parts.append(_options(options))
    for option in options:
        below = next((k.type for k in option.kinds if dataclasses.is_dataclass(k.type)), None)
        if below is not None:
            parts += [f"## {option.name}", _opening(prose(below.__doc__))]
            found = options_of(below, option.default)
            parts.append(_losses(found) if below is Losses else _options(found))
    example = "\n".join(["[[compress]]", f'technique = "{name}"', *_EXAMPLES.get(name, ())])
    parts += ["## In a recipe", *_order(kind), code(example, "toml")]
    return "\n\n".join(parts) + "\n"


def _source(name: str) -> ast.Module:
    """Return the module ``edgeopt/NAME.py``, read and not imported: it needs torch."""
    path = Path(edgeopt.__file__).parent / f"{name}.py"
    return ast.parse(path.read_text(encoding="utf-8"))


def _opening(text: str) -> str:
    """Return ``text`` without its pointer into the code, which the page spells out."""
    return text.replace("; `edgeopt.train.losses` has them", "")


def _losses(options: Sequence[Option]) -> str:
    functions = {f.name: f for f in _source("train/losses").body if isinstance(f, ast.FunctionDef)}
    rows = []
    for o in options:
        does = prose(ast.get_docstring(functions[o.name])).removeprefix("Return ")
        rows.append((literal(o.name), _takes(o), _default(o), f"{prose(o.help)}: {does}"))
    return table(("loss", "weight", "default", "is"), rows).rstrip()


def _order(kind: Any) -> list[str]:
    """Say what the step makes and undoes, which orders a recipe's steps."""
    told = []
    undoes, makes = kind.undoes, kind.makes
    if isinstance(makes, frozenset):
        told.append(f"It makes: {', '.join(sorted(makes))}.")
    elif makes is not Step.makes:
        told.append(prose(makes.__doc__))
    if isinstance(undoes, frozenset):
        told.append(f"It has to stand before a step that makes: {', '.join(sorted(undoes))}.")
    if kind.__name__.lower() in REPEATABLE:
        told.append("It may stand in a recipe more than once.")
    return [" ".join(told)] if told else []


def _default(option: Option) -> str:
    if option.default is dataclasses.MISSING:
        return "required"
    told = [_shown(option.default)]
    told += [
        f"{_shown(rule.default)} if `{rule.option}` is {_shown(rule.value)}"
        for rule in option.defaults_if
    ]
    return ", ".join(told)


def _shown(value: Any) -> str:
    """Return a default as TOML spells it."""
    if value is None:
        return "-"
    if dataclasses.is_dataclass(value):
        return "see below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{v}"' if isinstance(v, str) else str(v) for v in value) + "]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _recipes() -> str:
    bounds = [
        (literal(f.name), *(f"{getattr(limits, f.name):g}" for limits in LIMITS.values()))
        for f in dataclasses.fields(Limits)
    ]
    shipped = [f"### {name}\n\n" + code(_body(name), "toml") for name in recipe_names()]
    parts = [
        "# Recipes",
        "A recipe is a TOML file: one that ships, by its name, or your own, by its path. An "
        "unknown key is an error. `calibration_texts` (an integer, 1 to 100,000, required) is how "
        "many texts calibrate INT8.",
        "## [[compress]]",
        "The steps, in their order; see [Techniques](techniques.md).",
        "## [quantize]",
        prose(Quantize.__doc__),
        _options(options_of(Quantize)),
        "## [bounds.PRECISION]",
        "`[bounds.fp32]`, `[bounds.fp16]` and `[bounds.int8]` have to be there, and "
        '`[bounds.int4]` if `[quantize]` says `weights = "int4"`. `cosine_min` (a number, 0 to 1, '
        "required) is of tensors against FP32. The others have these defaults; what each means is "
        "in [Compress](../compress.md#bounds).",
        table(("key", *LIMITS), bounds).rstrip(),
        "## Those that ship",
        *shipped,
    ]
    return "\n\n".join(parts) + "\n"


def _body(name: str) -> str:
    return (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
