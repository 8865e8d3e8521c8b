# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Targets: what is built for a device profile, and how it is measured there.

``targets/*.toml`` become ``Target`` values. ``--target jetson-nano`` names one of them; a path to
a user's own file works as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgeopt import fields
from edgeopt.device import DeviceProfile, load_profile
from edgeopt.engine_names import ENGINES
from edgeopt.errors import InputError
from edgeopt.fields import Table, nearest
from edgeopt.host import detect
from edgeopt.recipe import FOLDER as RECIPES
from edgeopt.recipe import PRECISIONS, load_recipe

FOLDER = Path(__file__).parent / "targets"

__all__ = ["ENGINES", "PRECISIONS", "EngineSpec", "Target", "load_target", "target_names"]

T = TypeVar("T")

_VERSION = r"\d+(\.\d+)+(\.?(a|b|rc|post|dev)\d+)*"
_OPSETS = 7, 28  # 7 is the oldest that onnxruntime runs, 28 the newest that onnx 1.23 writes
_IR_VERSIONS = 3, 14  # likewise
# From 2.5, the first that calls a file by its signatures; 2.21 is TensorFlow's newest.
_MIN_RUNTIME = r"2\.([5-9]|1\d|2[01])(\.\d+)?"
# How LLVM spells a CPU: cortex-a72, gracemont, x86-64-v3. LLVM itself tells whether it has it.
_MCPU = r"[a-z][a-z0-9]*([-.][a-z0-9]+)*"
_OPTIONS = {"tvm": {"mcpu": _MCPU}}


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSpec:
    """One engine of a target: the version that runs on the device, and what is built for it.

    ``opset`` and ``ir_version`` bound the ONNX file (None for the other engines). ``min_runtime``
    is the oldest release of TensorFlow Lite that is to run the .tflite file, None if LiteRT alone
    is. ``options`` are the backend's own (TVM: ``mcpu``); ``why`` is the reason for this choice,
    in a sentence.
    """

    engine: str
    version: str
    precisions: tuple[str, ...]
    opset: int | None
    ir_version: int | None
    options: Mapping[str, str]
    why: str
    min_runtime: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What is built for one device profile.

    ``not_built`` maps an engine to the reason why this target has no artifact for it.
    ``seq_lens`` (tokens, ascending) are the static lengths of the engines that need them; the
    longest is also the default of a measurement. A model that takes more gets further ones up to
    ``longest`` (0: none); ``ladder`` has all of them, once the model is known. ``threads``,
    ``warmup`` and ``runs`` are the defaults of a measurement; ``cpus`` are those that the threads
    may use, as the kernel numbers them ("4-7", "0,2"), None for any. ``budget`` may hold
    ``latency_ms`` and ``memory_mib``.
    """

    name: str
    description: str
    device: DeviceProfile
    engines: tuple[EngineSpec, ...]
    not_built: Mapping[str, str]
    recipe: str
    seq_lens: tuple[int, ...]
    threads: int
    cpus: str | None
    warmup: int
    runs: int
    budget: Mapping[str, float]
    path: str
    longest: int = 0
    ladder: tuple[int, ...] = ()

    @property
    def is_host(self) -> bool:
        """True for the target that stands for the machine edgeopt itself runs on."""
        return self.device.reach == "local"


def _cpus(measure: fields.Table, device: DeviceProfile) -> str | None:
    text = measure.get("cpus", str, "")
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    if text and (
        not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text)
        or sorted(numbers) != numbers
        or numbers[-1] >= device.core_count
    ):
        raise measure.wrong(
            "cpus",
            f"expected ascending CPUs below {device.core_count} such as 4-7 or 0,2, found {text!r}",
        )
    return text or None


def target_names() -> tuple[str, ...]:
    """Return the names of the shipped targets."""
    return fields.shipped_names(FOLDER)


def load_target(name_or_path: str | Path) -> Target:
    """Read a shipped target by name, or a user's own by path, with its device profile.

    A user's target names its device profile and its recipe by name, or by a path relative to its
    own file. Raises InputError with the file and the dotted key for whatever a file has wrong.
    """
    path = fields.locate(name_or_path, FOLDER, "target")
    top = fields.read_toml(path)
    device = _named(
        top, "device", lambda name: load_profile(name, detect=detect, beside=path.parent)
    )
    recipe = _named(top, "recipe", lambda name: load_recipe(name, beside=path.parent.absolute()))
    engines = tuple(_engine(name, table, device) for name, table in top.table("engines").items())
    if not engines:
        raise top.wrong("engines", f"is empty, expected one or more of {', '.join(ENGINES)}")
    not_built = _not_built(top, tuple(spec.engine for spec in engines))
    measure = top.table("measure")
    target = Target(
        name=path.stem,
        description=top.text("description"),
        device=device,
        engines=engines,
        not_built=not_built,
        recipe=recipe.name if Path(recipe.path).parent == RECIPES else recipe.path,
        seq_lens=top.ascending("seq_lens", low=1, high=8192),
        threads=measure.integer("threads", high=1024),
        cpus=_cpus(measure, device),
        warmup=measure.integer("warmup", low=0, high=10_000),
        runs=measure.integer("runs", high=1_000_000),
        budget=_budget(top),
        path=str(path),
        longest=top.integer("longest", 0, low=0, high=8192),
    )
    if target.threads > device.core_count:
        raise measure.wrong(
            "threads",
            f"expected at most the {device.core_count} cores of {device.id}, "
            f"found {target.threads}",
        )
    measure.close()
    top.close()
    return target


def _named(top: Table, key: str, load: Callable[[str], T]) -> T:
    """Return what ``load`` makes of the string ``key``; an unknown name is put at that key."""
    try:
        return load(top.text(key))
    except InputError as exc:
        if exc.where is not None:
            raise  # it stands in the other file, and says so
        raise top.wrong(key, exc.message, exc.hint) from exc


def _engine(name: str, table: Table, device: DeviceProfile) -> EngineSpec:
    _known_engine(name, table)
    is_onnx = name == "onnx"
    for key in ("opset", "ir_version"):
        if key in table and not is_onnx:
            raise table.wrong(key, f"belongs to onnx alone, {name} has none")
    if "min_runtime" in table and name != "tflite":
        raise table.wrong("min_runtime", f"belongs to tflite alone, {name} has none")
    spec = EngineSpec(
        engine=name,
        version=table.text("version", like=_VERSION),
        precisions=table.words("precisions", PRECISIONS),
        opset=table.integer("opset", low=_OPSETS[0], high=_OPSETS[1]) if is_onnx else None,
        ir_version=(
            table.integer("ir_version", low=_IR_VERSIONS[0], high=_IR_VERSIONS[1])
            if is_onnx
            else None
        ),
        options=_options(name, table),
        why=table.text("why"),
        min_runtime=table.text("min_runtime", None, like=_MIN_RUNTIME),
    )
    if name == "tvm" and "mcpu" not in spec.options and device.reach != "local":
        raise table.wrong(
            "options.mcpu",
            f"is missing, expected the CPU in LLVM's spelling, such as {device.clusters[0].core!r}",
        )
    table.close()
    return spec


def _options(engine: str, table: Table) -> dict[str, str]:
    given = table.optional_table("options")
    if given is None:
        return {}
    if engine in ENGINES:
        likes = _OPTIONS.get(engine, {})
        options = {key: given.text(key, like=like) for key, like in likes.items() if key in given}
        given.close(*likes)
    else:
        options = given.strings()  # a third party's backend knows its own
    return options


def _known_engine(name: str, table: Table) -> None:
    if name in ENGINES:
        return
    from importlib.metadata import entry_points

    others = {point.name for point in entry_points(group="edgeopt.backends")}
    if name not in others:
        known = (*ENGINES, *sorted(others))
        raise InputError(
            f"unknown engine{nearest(name, known)} (known: {', '.join(known)})",
            where=f"{table.file}: {table.key}",
        )


def _not_built(top: Table, built: tuple[str, ...]) -> dict[str, str]:
    table = top.optional_table("not_built")
    if table is None:
        return {}
    for name in table.data:
        if name in built:
            raise table.wrong(name, f"is built as well (engines.{name}), expected it in one place")
    reasons = {name: table.text(name) for name in ENGINES if name in table}
    table.close(*ENGINES)
    return reasons


def _budget(top: Table) -> dict[str, float]:
    table = top.optional_table("budget")
    if table is None:
        return {}
    limits = {"latency_ms": 3_600_000.0, "memory_mib": 2.0**24}
    budget = {
        key: table.number(key, low=0.001, high=high) for key, high in limits.items() if key in table
    }
    table.close(*limits)
    return budget
