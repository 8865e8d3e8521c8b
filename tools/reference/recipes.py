"""Pages on recipes: a page for each technique, one on the recipe file, one on those that ship."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path
from typing import Any

import edgeopt
from edgeopt.fields import Table
from edgeopt.quantize import Quantize
from edgeopt.recipe import FOLDER, LIMITS, Limits, recipe_names
from edgeopt.steps import REPEATABLE, TECHNIQUES
from edgeopt.steps.distil import Losses
from edgeopt.steps.training import Training
from tools.reference.markdown import code, literal, prose, table
from tools.reference.options import Options, ask

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


def options_of(name: str) -> Options:
    """Return what the options of a technique may be."""
    return ask(TECHNIQUES[name].read, names_of(TECHNIQUES[name]))


def _first_sentence(kind: Any) -> str:
    return prose(kind.__doc__).split("\n\n")[0].replace("\n", " ")


def _aim(name: str) -> str:
    kind: Any = TECHNIQUES[name]
    return kind.aims if isinstance(kind.aims, str) else "latency or accuracy"


def _technique(name: str) -> str:
    kind: Any = TECHNIQUES[name]
    parts = [f"# {name}", prose(kind.__doc__)]
    parts += ["## How it works", prose(ast.get_docstring(_source(name))), "## Options"]
    options = options_of(name)
    rows = [
        (literal(f.name), options.words(f.name), _default(f))
        for f in dataclasses.fields(kind)
        if f.init
    ]
    parts.append(table(("option", "value", "default"), rows).rstrip())
    if "losses" in names_of(kind):
        parts += ["## losses", _opening(prose(Losses.__doc__)), _losses(options)]
    if "training" in names_of(kind):
        parts += ["## training", prose(Training.__doc__)]
        given = next(f for f in dataclasses.fields(kind) if f.name == "training")
        default = given.default if isinstance(given.default, Training) else Training()
        parts.append(_sub_table(default, options, "training"))
    example = "\n".join(["[[compress]]", f'technique = "{name}"', *_EXAMPLES.get(name, ())])
    parts += ["## In a recipe", *_order(kind), code(example, "toml")]
    return "\n\n".join(parts) + "\n"


def _source(name: str) -> ast.Module:
    """Return the module that does a technique, read and not imported: it needs torch."""
    path = Path(edgeopt.__file__).parent / "compress" / f"{name}.py"
    return ast.parse(path.read_text(encoding="utf-8"))


def _opening(text: str) -> str:
    """Return ``text`` without its pointer into the code, which the page spells out."""
    return text.replace(" `edgeopt.compress.losses` says what each is.", "")


def _losses(options: Options) -> str:
    functions = {f.name: f for f in _source("losses").body if isinstance(f, ast.FunctionDef)}
    rows = []
    for f in dataclasses.fields(Losses):
        does = prose(ast.get_docstring(functions[f.name])).removeprefix("Return ")
        rows.append((literal(f.name), options.words(f"losses.{f.name}"), _shown(f.default), does))
    return table(("loss", "weight", "default", "is"), rows).rstrip()


def _sub_table(values: Any, options: Options, key: str) -> str:
    rows = [
        (literal(f.name), options.words(f"{key}.{f.name}"), _shown(getattr(values, f.name)))
        for f in dataclasses.fields(values)
    ]
    return table(("option", "value", "default"), rows).rstrip()


def _order(kind: Any) -> list[str]:
    """Say what the step makes and undoes, which orders a recipe's steps."""
    told = []
    undoes = getattr(kind, "undoes", frozenset())
    makes = getattr(kind, "makes", frozenset())
    if isinstance(makes, frozenset) and makes:
        told.append(f"It makes: {', '.join(sorted(makes))}.")
    if isinstance(makes, property):
        told.append(prose(makes.__doc__))
    if undoes:
        told.append(f"It has to stand before a step that makes: {', '.join(sorted(undoes))}.")
    if kind.__name__.lower() in REPEATABLE:
        told.append("It may stand in a recipe more than once.")
    return [" ".join(told)] if told else []


def _default(f: dataclasses.Field[Any]) -> str:
    if f.default is not dataclasses.MISSING:
        return _shown(f.default)
    if f.default_factory is not dataclasses.MISSING:
        return _shown(f.default_factory())
    return "required"


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
    options = ask(_read_quantize, names_of(Quantize))
    quantize = [
        (literal(f.name), options.words(f.name), _shown(f.default))
        for f in dataclasses.fields(Quantize)
    ]
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
        table(("option", "value", "default"), quantize).rstrip(),
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


def _read_quantize(read: Table) -> Quantize:
    return Quantize.read(read)


def _body(name: str) -> str:
    return (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
