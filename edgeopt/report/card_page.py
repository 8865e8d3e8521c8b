# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A card as a page of Markdown, out of its JSON alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgeopt.evaluate.measured import TITLES
from edgeopt.report.card_conditions import conditions
from edgeopt.report.markdown import block, code, table, text
from edgeopt.report.tables import ms, per_second, size

MARK = "<!-- Written by edgeopt card: make it again rather than change it. -->"

_FIGURES = ("p50", "p90", "p99")


def page(card: Mapping[str, Any]) -> str:
    """Return the page of ``card`` (``edgeopt.report.card``), in the Markdown that GitHub renders.

    Texts of others (names, what a board says of itself) stand in it as text: they are escaped.
    """
    parts = [MARK, *_head(card)]
    for title, body in (
        ("Latency", _latency(card)),
        ("Generation", _generation(card)),
        ("Outputs", _outputs(card)),
        ("Start and memory", _start(card)),
        ("Energy", _energy(card)),
        ("Accuracy", _accuracy(card)),
        ("Conditions", _conditions(card)),
        ("Model, target and board", _facts(card)),
        ("Versions and hashes", _hashes(card)),
        ("How to repeat it", _repeat(card)),
    ):
        found = list(body)
        if found:
            parts += [f"## {title}", *found]
    return "\n\n".join(parts) + "\n"


def _emulated(card: Mapping[str, Any]) -> bool:
    return bool(card["board"]["emulated"])


def _head(card: Mapping[str, Any]) -> Iterator[str]:
    model, board, runs = card["model"], card["board"], card["runs"]
    emulated = " (emulated)" if _emulated(card) else ""
    yield f"# {text(model['name'])} on {text(board['name'])}{emulated}"
    days = sorted({run["started_utc"][:10] for run in runs})
    yield (
        f"{text(model['task'])}, compiled for {text(card['target']['name'])}; "
        f"{'run' if emulated else 'measured'} on {text(' and '.join(days))}, one inference at a "
        "time (batch 1)."
    )
    if emulated:
        yield (
            "> **This board is emulated.** Whether an artifact runs there and what it computes is "
            "as on the device. Its times, memory and energy are the emulator's, so that none stand "
            "here."
        )
    unfit = [run for run in runs if not _emulated(card) and run["disturbance"]["reasons"]]
    for verdict in dict.fromkeys(run["disturbance"]["verdict"] for run in unfit):
        names = [_label(run, card) for run in unfit if run["disturbance"]["verdict"] == verdict]
        yield (
            f"> **Disturbed: {text(', '.join(names))}.** What else ran, or the board's own heat, "
            "is in these times: see [Conditions](#conditions)."
            if verdict == "disturbed"
            else f"> Whether anything disturbed {text(', '.join(names))} is not known: see "
            "[Conditions](#conditions)."
        )
    wrong = [_label(run, card) for run in runs if not run["outputs_agree"]]
    if wrong:
        yield (
            f"> **Outputs of {text(', '.join(wrong))} disagree** with the golden ones there; they "
            "were not timed."
        )
    for absent in card["not_run"]:
        name = f"{absent['engine']} {absent['precision']}"
        yield f"> Not run: {text(name)}: {text(absent['reason'])}"


def _label(run: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    """Return a run's name, with what tells it from others of the card."""
    words = [run["name"]]
    same = [other for other in card["runs"] if other["name"] == run["name"]]
    if len({other["seq_len"] for other in same}) > 1:
        words.append(f"{run['seq_len']} tokens")
    if len({other["threads"] for other in same}) > 1:
        words.append(f"{run['threads']} threads")
    alike = [o for o in same if (o["seq_len"], o["threads"]) == (run["seq_len"], run["threads"])]
    if len(alike) > 1:
        words.append(run["measurement"])
    return ", ".join(words)


def _latency(card: Mapping[str, Any]) -> Iterator[str]:
    timed = [run for run in card["runs"] if run.get("latency_ns")]
    if not timed:
        return
    shown = [name for name in _FIGURES if any(name in run["latency_ns"] for run in timed)]
    # What is alike in all of them needs no column.
    calls = {"tokens": "seq_len", "threads": "threads"}
    vary = [head for head, key in calls.items() if len({run[key] for run in timed}) > 1]
    rows = [
        [
            text(_label(run, card)),
            *(str(run[calls[head]] or "-") for head in vary),
            str(run["latency_ns"]["n"]),
            *(_bounded(run["latency_ns"].get(name)) for name in shown),
            ms(run["latency_ns"]["max"]),
        ]
        for run in timed
    ]
    yield table(["artifact", *vary, "runs", *shown, "largest"], rows)
    alike = [
        f"{timed[0][key]} {head if timed[0][key] > 1 else head[:-1]}"
        for head, key in calls.items()
        if head not in vary and timed[0][key]
    ]
    if alike:
        yield f"All of {' and '.join(alike)}."
    one = "an answer" if any(run.get("generation") for run in timed) else "an inference"
    yield (
        f"Milliseconds of {one} once times are steady, with bounds that each hold by itself "
        f"with {100 * card['confidence']:.0f} % confidence (? if the runs are too few for one). "
        "The order is that of the measurement and ranks nothing: artifacts ran one after the "
        "other, and what differs from one process to the next is not in these bounds. "
        f"Which of two is faster is told by {code('edgeopt compare')}."
    )
    notes = [f"* {text(_label(run, card))}: {note}" for run in timed for note in _notes(run)]
    if notes:
        yield "\n".join(notes)


def _bounded(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "-"
    low, high = ("?" if figure[end] is None else ms(figure[end]) for end in ("low", "high"))
    return f"{ms(figure['value'])} ({low}\u00a0to\u00a0{high})"  # not parted by a line's end


def _notes(run: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a reader of a run's times has to know."""
    times = run["latency_ns"]
    for name, count in run["not_supported"].items():
        yield f"no {name}: it takes {count} independent runs"
    if times["independent"] < times["n"]:
        yield (
            f"runs are like those before them: {times['n']} tell of the median as much as "
            f"{times['independent']} independent ones"
        )
    if count := run["left_out_runs"]:
        was = "run before it was steady is" if count == 1 else "runs before it was steady are"
        yield f"{count} {was} left out"
    if not run["is_steady"]:
        yield "times never became steady: the figures are of all runs"
    if run["drift"] is not None:
        yield f"times drift by {run['drift']:+.1%} over the steady runs"
    if run["modes"]:
        levels = (f"{mode['share']:.0%} about {ms(mode['value_ns'])} ms" for mode in run["modes"])
        yield f"times keep to two levels: {' and '.join(levels)}"
    if run["score"]:
        yield f"by the rules of {text(run['rules'])}, and no result of theirs: see the JSON"


def _generation(card: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a generator's answers took, token by token; nothing of an emulated board."""
    found = [(text(_label(run, card)), run["generation"]) for run in card["runs"] if _timed(run)]
    if not found:
        return
    rows = [
        [
            name,
            ms(told["time_to_first_token_ns"]["p50"]),
            *(_rate(told["blocks"][at]) if told["blocks"] else "-" for at in (0, -1)),
            size(told["cache_used_bytes"]),
            size(told["cache_bytes"]),
        ]
        for name, told in found
    ]
    heads = ["artifact", "first token ms", "tokens/s at first", "tokens/s at last"]
    yield table([*heads, "cache used", "cache full"], rows)
    told = found[0][1]
    yield (
        f"Medians over answers of {told['new_tokens']} tokens, the likeliest ones, without a token "
        "that ends them; in brackets bounds of 95 % confidence each. First and last are the first "
        f"and the last quarter of an answer's tokens. The cache is for {told['context_tokens']} "
        "tokens."
    )


def _timed(run: Mapping[str, Any]) -> bool:
    told = run.get("generation")
    return bool(told and told["time_to_first_token_ns"])


def _rate(block: Mapping[str, Any]) -> str:
    low, high = block["tokens_per_s_bounds"]
    within = f" ({per_second(low)} to {per_second(high)})" if low and high else ""
    return f"{per_second(block['tokens_per_s'])}{within}"


def _outputs(card: Mapping[str, Any]) -> Iterator[str]:
    made = {(a["graph"], a["engine"], a["precision"]): a for a in card["artifacts"]}
    mark = " (emulated)" if _emulated(card) else ""
    rows = []
    for run in card["runs"]:
        artifact = made.get((run["graph"], run["engine"], run["precision"]))
        host = "-" if artifact is None else f"{artifact['fidelity']['cosine_min']:.5f}"
        there = "-" if run["cosine_min"] is None else f"{run['cosine_min']:.5f}"
        rows.append(
            [
                text(_label(run, card)),
                f"{text(run['engine'])} {text(run['engine_version'])}",
                size(run["artifact_bytes"]),
                host,
                there,
                f"{run['bound']:g}",
                "agree" if run["outputs_agree"] else "**disagree**",
            ]
        )
    heads = ["artifact", "engine", "size", "cosine when compiled"]
    yield table([*heads, f"cosine on the board{mark}", "at least", f"outputs{mark}"], rows, (0, 1))
    yield (
        f"The smallest cosine of a call with {text(card['model']['reference'])}: of texts or "
        "images when the bundle was made, and of its golden inputs on the board."
    )


_STEADY = ("pss", "unbacked", "artifact_mapped")


def _start(card: Mapping[str, Any]) -> Iterator[str]:
    if _emulated(card):
        return
    rows = [
        [
            text(_label(run, card)),
            ms(run["load_ns"]),
            ms(run["first_inference_ns"]),
            *(size(run["memory_bytes"][phase]) for phase in ("before", "loaded", "peak")),
        ]
        for run in card["runs"]
    ]
    heads = ["artifact", "load ms", "first inference ms", "before", "loaded", "peak"]
    yield table(heads, rows)
    yield (
        "Load and first inference happened once each. Memory is the process's resident set before "
        "the engine was loaded, after, and at its peak."
    )
    yield from _memory(card)


def _memory(card: Mapping[str, Any]) -> Iterator[str]:
    """Yield where memory went, if it was read; a card of before that has none."""
    rows = [
        [
            text(_label(run, card)),
            *(size(memory[phase]["rss_bytes"]) for phase in ("loaded", "first", "steady")),
            *(size(memory["steady"][f"{figure}_bytes"]) for figure in _STEADY),
        ]
        for run in card["runs"]
        if (memory := run.get("memory"))
    ]
    if rows:
        phases = ["loaded", "after the first inference", "steady"]
        yield table(["artifact", *phases, "PSS", "unbacked", "artifact mapped"], rows)
        yield (
            "Resident memory by phase, and of the steady state its proportional set size (a page "
            "that n processes map counts as an n-th), what no file on a disk backs (copies of "
            "weights, tensors, the heap), and what is resident of the artifact's own files."
        )
    for run in card["runs"]:
        if run.get("over_memory"):
            yield f"* {text(_label(run, card))} {text(run['over_memory'])}"


def _energy(card: Mapping[str, Any]) -> Iterator[str]:
    """Yield the energy of an inference where it was measured; nothing is said of where not."""
    rows, notes = [], []
    for run in card["runs"]:
        name, energy = text(_label(run, card)), run.get("energy")
        if energy:
            synthetic = " (synthetic, of no board)" if energy.get("synthetic") else ""
            rails = [energy["total"]] if energy.get("total") else energy.get("rails") or ()
            rows += [
                [
                    f"{name}{synthetic}",
                    text(" + ".join(rail.get("rails") or ("all",))),
                    *(_joules(rail.get(kind)) for kind in ("net", "gross")),
                ]
                for rail in rails
            ]
            notes.append(
                f"* {name}: covers {text(energy.get('covers') or 'what is named')}; leaves out "
                f"{text(energy.get('leaves_out') or 'nothing')}"
            )
        elif run.get("no_energy"):
            notes.append(f"* {name}: none: {text(run['no_energy'])}")
    if rows:
        yield table(["artifact", "rails", "mJ above idle", "mJ in all"], rows, (0, 1))
    if notes:
        yield "\n".join(notes)


def _joules(figure: Mapping[str, Any] | None) -> str:
    if not figure:
        return "-"
    milli, half = 1e3 * figure["joules"], 1e3 * figure["uncertainty"]
    digits = next((d for d in range(7) if half * 10**d >= 10), 6)  # two of the uncertainty
    return f"{milli:.{digits}f} ± {half:.{digits}f}"


def _accuracy(card: Mapping[str, Any]) -> Iterator[str]:
    found = card["evaluation"]
    if found is None:
        rows = [
            [text(a["name"]), f"{a['accuracy']['score']:.4f}", f"{a['accuracy']['drop']:+.4f}"]
            for a in card["artifacts"]
            if a["accuracy"] is not None
        ]
        if rows:
            yield table(["artifact", "score", "drop"], rows)
            yield "On held-out texts when the bundle was made."
        return
    against = not found["systems"][0]["engine"]
    names = list(found["systems"][0]["figures"])
    heads = ["", "figure", "value", "95 %"]
    rows = []
    for system in found["systems"]:
        shown = f"{system['engine']} {system['precision']}" if system["engine"] else "original"
        for name in names:
            figure = system["figures"][name]
            row = [text(shown), text(TITLES.get(name, name)), *_valued(figure, "")]
            if against:
                change = figure["difference"]
                row += ["", "", ""] if change is None else [*_valued(change, "+"), ""]
                row[-1] = "" if change is None else text(change["verdict"])
            rows.append(row)
    yield table(heads + (["minus original", "95 %", ""] if against else []), rows, (0, 1, 6))
    place = f"{text(found['board'])}" if found["board"] else "the machine that evaluated them"
    mark = " (emulated)" if found["emulated"] else ""
    told = f"{found['units']} {text(found['noun'])} of {code(found['data'])} on {place}{mark}."
    if against:
        original = found["systems"][0]["name"]
        told += f" The original is {text(original)}, asked the same; an artifact is called better "
        told += "or worse only if the interval of the difference leaves out 0"
        compared = len(names) * (len(found["systems"]) - 1)
        told += (
            f"; of {compared} differences one in twenty would by chance." if compared > 1 else "."
        )
    if found["left_out"]:
        told += f" Left out: {found['left_out']} that the original does not take."
    yield told


def _valued(figure: Mapping[str, Any], sign: str) -> list[str]:
    value, low, high = (
        # Rounded first: what is nothing in four digits has no sign.
        None if figure[key] is None else format(round(figure[key], 4) + 0.0, f"{sign}.4f")
        for key in ("value", "low", "high")
    )
    return [value or "-", "-" if low is None or high is None else f"{low} to {high}"]


def _conditions(card: Mapping[str, Any]) -> Iterator[str]:
    if not _emulated(card):
        yield from conditions(card["runs"], [_label(run, card) for run in card["runs"]])


def _facts(card: Mapping[str, Any]) -> Iterator[str]:
    model, target, board = card["model"], card["target"], card["board"]
    origin = model["origin"]
    cores = board.get("cores", ())
    kinds = [f"{cores.count(kind)} {kind}" for kind in dict.fromkeys(cores)]
    libc = " ".join(str(board[key]) for key in ("libc", "libc_version") if board.get(key))
    rows = [
        ("model", origin.get("source") or model["name"]),
        ("architecture", origin.get("architecture")),
        ("license", origin.get("license")),
        ("longest input", f"{model['max_seq_len']} tokens" if model["max_seq_len"] else None),
        ("held against", model["original"] or model["reference"]),
        ("recipe", card["recipe"].get("name")),
        ("target", f"{target['name']}: {target['device']}, {target['arch']}, {target['libc']}"),
        ("board", board["name"] + (" (emulated)" if _emulated(card) else "")),
        ("board's model", board.get("model")),
        ("cores", ", ".join(kinds)),
        ("memory", size(board["ram_bytes"]) if board.get("ram_bytes") else None),
        ("system", ", ".join(filter(None, (board.get("os"), board.get("kernel"), libc)))),
    ]
    yield table(["", ""], [[name, text(value)] for name, value in rows if value], (0, 1))


def _hashes(card: Mapping[str, Any]) -> Iterator[str]:
    versions, hashes = card["versions"], card["hashes"]
    tools = {**versions["original"], **versions["compiled_by"]}
    rows = [
        ["compiled by", text(", ".join(f"{name} {v}" for name, v in sorted(tools.items())) or "?")],
        ["measured by", text(f"edgeopt {', '.join(versions['measured_by'])}")],
        ["agent on the board", text(", ".join(versions["agent"]))],
        ["bundle", code(hashes["bundle_digest"])],
    ]
    weights = card["model"]["origin"].get("weights_sha256")
    if isinstance(weights, Mapping):
        rows += [[text(f"weights {name}"), code(weights[name])] for name in sorted(weights)]
    rows += [
        [text(f"measurement {name}"), code(value)]
        for name, value in sorted(hashes["measurements_sha256"].items())
    ]
    if hashes["evaluation_sha256"]:
        rows.append(["evaluation", code(hashes["evaluation_sha256"])])
    yield table(["", ""], rows, (0, 1))
    yield "Hashes are SHA-256; a bundle's digest covers every file of it."


def _repeat(card: Mapping[str, Any]) -> Iterator[str]:
    yield block(card["repeat"], "sh")
