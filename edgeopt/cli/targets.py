# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt targets``: what edgeopt can build for, and why it builds what it builds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli.output import columns, emit, json_option, section

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.device import DeviceProfile
    from edgeopt.recipe import Recipe
    from edgeopt.target import EngineSpec, Target

_REACH = {
    "ssh": "reached over SSH",
    "adb": "reached over adb",
    "app": "no shell, an app of yours must run there",
    "local": "this machine",
}


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def targets(ctx: click.Context, as_json: bool) -> None:
    """List targets; show what one builds, and why."""
    if ctx.invoked_subcommand is not None:
        ctx.obj = as_json  # so that the flag may stand before the subcommand, too
        return
    from edgeopt.target import load_target, target_names

    known = [load_target(name) for name in target_names()]
    document = {"targets": [_summary(target) for target in known]}
    emit(document, as_json, lambda console: _render_list(known, console))


@targets.command()
@click.argument("target")
@json_option
@click.pass_obj
def show(outer_json: bool, target: str, as_json: bool) -> None:
    """Show the device behind TARGET and what is built for it.

    TARGET is a name out of `edgeopt targets`, or the path to a file of your own.
    """
    from edgeopt.recipe import load_recipe
    from edgeopt.target import load_target

    loaded = load_target(target)
    recipe = load_recipe(loaded.recipe)
    document = {"target": asdict(loaded), "recipe": asdict(recipe)}
    emit(document, as_json or outer_json, lambda console: _render(loaded, recipe, console))


def _summary(target: Target) -> dict[str, Any]:
    return {
        "name": target.name,
        "description": target.description,
        "device": target.device.id,
        "device_name": target.device.name,
        "arch": target.device.arch,
        "cores": [asdict(cluster) for cluster in target.device.clusters],
        "engines": {spec.engine: list(spec.precisions) for spec in target.engines},
        "not_built": list(target.not_built),
    }


def _render_list(known: list[Target], console: Console) -> None:
    from rich.text import Text

    from edgeopt.target import ENGINES

    table = columns("target", "device", *ENGINES)
    for target in known:
        cores = " + ".join(f"{c.count} {c.core}" for c in target.device.clusters)
        device = Text.assemble(target.device.name, "\n", (cores, "dim"))
        built = {spec.engine: " ".join(map(_bits, spec.precisions)) for spec in target.engines}
        table.add_row(target.name, device, *(built.get(engine, "-") for engine in ENGINES))
    console.print(table)
    console.print(
        "\nBits of a weight: 32 is FP32, 16 FP16, 8 INT8; - is not built.\n"
        "What is built for one, and why: edgeopt targets show NAME",
        style="dim",
    )


def _bits(precision: str) -> str:
    return precision.removeprefix("fp").removeprefix("int")


def _render(target: Target, recipe: Recipe, console: Console) -> None:
    section(console, target.name, ("", "fact", "source"), _facts(target))
    section(console, "Sources", (), target.device.sources.items())
    built = ((_engine(spec), "\n".join(spec.precisions), spec.why) for spec in target.engines)
    section(console, "Built", ("engine", "precisions", "why"), built)
    if target.not_built:
        section(console, "Not built", ("engine", "why"), target.not_built.items())
    section(console, "Checked and measured", (), _defaults(target, recipe))


def _defaults(target: Target, recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield (what, value) of what the recipe demands and how a measurement runs."""
    bounds = ", ".join(f"{p} {b.cosine_min:g}" for p, b in recipe.bounds.items())
    yield "recipe", f"{recipe.name}; INT8 is calibrated on {recipe.calibration_texts} texts"
    yield "ships", f"only with a cosine to FP32 PyTorch of at least {bounds}"
    lengths = ", ".join(map(str, target.seq_lens))
    yield "tokens", f"{max(target.seq_lens)} in a measurement; {lengths} where shapes are static"
    yield "threads", str(target.threads) + (f" on CPUs {target.cpus}" if target.cpus else "")
    yield "runs", f"{target.runs} timed, after {target.warmup} to warm up"
    for key, limit in target.budget.items():
        name, unit = key.rsplit("_", 1)
        yield "budget", f"{name} at most {limit:g} {unit.replace('mib', 'MiB')}"


def _engine(spec: EngineSpec) -> str:
    lines = [f"{spec.engine} {spec.version}"]
    if spec.opset is not None:
        lines.append(f"opset {spec.opset}, IR {spec.ir_version}")
    if spec.min_runtime is not None:
        lines.append(f"TensorFlow Lite from {spec.min_runtime} on")
    lines += [f"{key} {value}" for key, value in spec.options.items()]
    return "\n".join(lines)


def _facts(target: Target) -> Iterator[tuple[str, str, str]]:
    """Yield (what, fact, where it is from) for each table of the target's device profile."""
    device = target.device
    yield "target", target.description, ""
    yield "device", device.name, ""
    yield "chip", f"{device.soc}, {device.arch}; {_REACH[device.reach]}", _origin(device, "device")
    for i, cluster in enumerate(device.clusters):
        clock = f", {cluster.max_ghz:g} GHz" if cluster.max_ghz else ""
        name = "cores" if i == 0 else ""
        place = f"clusters[{i}]" if f"clusters[{i}]" in device.cited else "clusters"
        yield name, f"{cluster.count} {cluster.core}{clock}", _origin(device, place)
    yield "features", " ".join(device.isa), _origin(device, "isa")
    caches = ", ".join(f"{name} {kib}" for name, kib in device.cache_kib.items())
    yield "caches", f"{caches} KiB" if caches else "none told", _origin(device, "cache_kib")
    memory = f"{' or '.join(map(str, device.ram_mib))} MiB"
    if device.memory_copy_mbps:
        memory += f"; one core copies {device.memory_copy_mbps} MB/s"
    yield "memory", memory, _origin(device, "memory")
    if device.peak_gflops_fp32:
        peak = f"{device.peak_gflops_fp32:g} GFLOP/s FP32, one {device.clusters[0].core}"
        yield "peak", peak, _origin(device, "compute")
    system = device.os
    parts = [system.name, f"{system.libc} {system.libc_version or 'libc'}"]
    parts += [f"Python {system.python}"] if system.python else []
    yield "system", ", ".join(parts), _origin(device, "os")
    if "power" not in device.cited:
        return
    power = [f"{what} {watts} W" for what, watts in _watts(device.power_w).items()]
    power.append(f"sensor {device.power_sensor}" if device.power_sensor else "no sensor")
    yield "power", ", ".join(power), _origin(device, "power")


def _watts(power_w: Mapping[str, float]) -> dict[str, str]:
    """Return {"idle": "3", "load": "6"}; the keys idle_min and idle_max make one "1 to 1.9"."""
    found: dict[str, str] = {}
    for key, watts in power_w.items():
        what = key.removesuffix("_min").removesuffix("_max")
        found[what] = f"{found[what]} to {watts:g}" if what in found else f"{watts:g}"
    return found


def _origin(device: DeviceProfile, table: str) -> str:
    prefix = "" if table == "device" else f"{table}."
    keys = [key for key in device.unverified if key.startswith(prefix)]
    doubtful = [key.removeprefix(prefix) for key in keys if prefix or "." not in key]
    sources = ", ".join(device.cited.get(table, ()))
    if not doubtful:
        return sources
    if not sources:
        return "unverified"
    return f"{sources}; unverified: {', '.join(doubtful)}"
