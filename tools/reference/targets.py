# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Pages on the targets that ship and on the engines' builds that boards can use."""

from __future__ import annotations

from edgeopt.engines.releases import Release, releases
from edgeopt.target import ENGINES, Target, load_target, target_names
from tools.reference.markdown import literal, table


def pages() -> dict[str, str]:
    """Return the pages ``targets.md`` and ``engines.md``."""
    # The facts of the target "host" are those of the machine that runs this.
    targets = [load_target(name) for name in target_names()]
    named = [target for target in targets if not target.is_host]
    host = next(target for target in targets if target.is_host)
    parts = [
        "# Targets",
        "What ships; `edgeopt targets show NAME` has every fact with its source. How to write your "
        "own is in [Boards and targets](../boards.md).",
        table(("target", "device", "cores", *ENGINES), map(_row, named)).rstrip(),
        "The target `host` is the machine that edgeopt runs on: " + _built_text(host) + ".",
        *(_target(target) for target in targets),
    ]
    return {"targets.md": "\n\n".join(parts) + "\n", "engines.md": _engines()}


def _row(target: Target) -> list[str]:
    cores = " + ".join(f"{c.count} {c.core}" for c in target.device.clusters)
    built = {spec.engine: " ".join(spec.precisions) for spec in target.engines}
    link = f"[`{target.name}`](#{target.name})"
    return [link, target.device.name, cores, *(built.get(engine, "-") for engine in ENGINES)]


def _built_text(target: Target) -> str:
    return "; ".join(f"{spec.engine} {', '.join(spec.precisions)}" for spec in target.engines)


def _target(target: Target) -> str:
    rows = [
        (f"{spec.engine} {spec.version}", " ".join(spec.precisions), spec.why)
        for spec in target.engines
    ]
    rows += [(engine, "not built", why) for engine, why in target.not_built.items()]
    lengths = f"{', '.join(map(str, target.seq_lens))} tokens"
    if target.longest:
        lengths += f" and others, up to {target.longest}"
    return (
        f"## {target.name}\n\n{target.description}. Recipe `{target.recipe}`; static lengths "
        f"{lengths}; measured with {target.warmup} runs to warm up and {target.runs} "
        f"samples.\n\n{table(('engine', 'precisions', 'why'), rows).rstrip()}"
    )


def _engines() -> str:
    rows = [_release(release) for release in releases()]
    return (
        "# Engines\n\n"
        "The official builds whose C library a board can load, newest first within an engine. "
        "`edgeopt board check NAME` says which of them runs on a board, and why not.\n\n"
        + table(("engine", "package", "architectures", "needs glibc", "needs", "reads"), rows)
    )


def _release(release: Release) -> tuple[str, ...]:
    needs = "; ".join(f"{arch}: {', '.join(isa)}" for arch, isa in release.needs_isa.items())
    reads = f"opset {release.opset}, IR {release.ir_version}" if release.opset else ""
    return (
        f"{release.engine} {release.version}",
        literal(release.name),
        ", ".join(release.arch),
        ", ".join(f"{glibc} ({arch})" for arch, glibc in release.glibc.items()),
        needs,
        reads,
    )
