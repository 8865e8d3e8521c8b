# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt profile``."""

from __future__ import annotations

import click

from edgeopt.cli.output import emit, json_option


@click.command()
@click.argument("bundle")
@click.option("--board", "-b", required=True, help="A board's name, or 'host'.")
@click.option("--engine", "-e", "engines", multiple=True, metavar="ENGINE", help="Only these.")
@click.option("--precision", "-p", "precisions", multiple=True, metavar="P", help="Only these.")
@click.option("--seq-len", type=click.IntRange(1), help="Tokens [the bundle's longest].")
@click.option(
    "--prompt-tokens",
    type=click.IntRange(1, 1 << 20),
    multiple=True,
    metavar="N",
    help="Generators: lengths of prompts [32, 128, 512].",
)
@click.option(
    "--new-tokens", type=click.IntRange(1, 1 << 20), metavar="N", help="And of each answer [64]."
)
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads [the target's].")
@click.option("--warmup", type=click.IntRange(0), help="Runs before the samples [the target's].")
@click.option("--runs", type=click.IntRange(1), help="Samples [the target's; emulated: 10].")
@click.option("--duration", type=click.FloatRange(min=0.001), metavar="S", help="Run so long.")
@click.option("--min-runs", type=click.IntRange(1), help="With --duration: samples at least.")
@click.option("--rules", metavar="NAME", help="Time as mlperf-single-stream, -offline, -tiny do.")
@click.option(
    "--data", "-d", metavar="FILE", help="Your texts, timed as they are served: a line each."
)
@click.option("--rail", "rails", multiple=True, metavar="RAIL", help="Add up these [the whole].")
@click.option("--cool-to", type=click.FloatRange(0, 150), metavar="C", help="Wait before each run.")
@click.option("--grid", type=click.FloatRange(0), metavar="G", help="CO2e of a kWh, in grams.")
@click.option("--meter", metavar="ADDRESS", help="An external one: command:, scpi:, http:, mqtt:.")
@click.option("--meter-scale", type=float, default=1.0, help="Watts by the number it tells [1].")
@click.option("--meter-error", type=click.FloatRange(0, 100), metavar="PERCENT", help="Its gain's.")
@click.option("--counters", is_flag=True, help="Count instructions too (emulated board).")
@click.option("--cache-model", is_flag=True, help="Count them, and what caches take from memory.")
@click.option(
    "--deterministic", is_flag=True, help="Count a whole system's instead (deterministic board)."
)
@click.option(
    "--instances", type=click.IntRange(1, 8), default=1, metavar="N", help="Run N at once too [1]."
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(2, 256),
    multiple=True,
    metavar="N",
    help="Time calls of N inputs too.",
)
@click.option("--operators", is_flag=True, help="Time operators too, by layers of the model.")
@click.option("--output", "-o", help="File for the raw measurement [measurements/...json].")
@json_option
def profile(
    bundle: str,
    board: str,
    engines: tuple[str, ...],
    precisions: tuple[str, ...],
    seq_len: int | None,
    prompt_tokens: tuple[int, ...],
    new_tokens: int | None,
    threads: int | None,
    warmup: int | None,
    runs: int | None,
    duration: float | None,
    min_runs: int | None,
    rules: str | None,
    data: str | None,
    rails: tuple[str, ...],
    cool_to: float | None,
    grid: float | None,
    meter: str | None,
    meter_scale: float,
    meter_error: float | None,
    counters: bool,
    cache_model: bool,
    deterministic: bool,
    instances: int,
    batches: tuple[int, ...],
    operators: bool,
    output: str | None,
    as_json: bool,
) -> None:
    """Run BUNDLE on a board and measure it there.

    The engine's library, the agent and the bundle are put on the board if they are not there
    yet. Outputs are checked against the golden ones on the board before anything is timed.
    The board's state and the power of its rails are sampled meanwhile (edgeopt board check lists
    them): a run that the board throttled or others disturbed is marked, and the energy of an
    inference is printed with what it is uncertain by.
    A generator's bundle answers prompts: the time to the first token, and tokens per second by
    position; --seq-len is the context of its cache, and --runs counts answers.
    Exits with 1 if an artifact's outputs disagree.
    """
    from edgeopt.measure.metering import MeterPlan
    from edgeopt.measure.session import profile as measure
    from edgeopt.report.profile import render

    gain = None if meter_error is None else meter_error / 100
    external = MeterPlan(address=meter, scale_w=meter_scale, gain=gain) if meter else None
    found = measure(
        bundle,
        board,
        engines=engines,
        precisions=precisions,
        seq_len=seq_len,
        threads=threads,
        warmup=warmup,
        runs=runs,
        duration_s=duration,
        min_runs=min_runs,
        rules=rules,
        data=data,
        counters=counters,
        cache_model=cache_model,
        deterministic=deterministic,
        instances=instances,
        batches=batches,
        with_operators=operators,
        output=output,
        rails=rails,
        cool_to_c=cool_to,
        grid_g_per_kwh=grid,
        meter=external,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
    )
    emit(found.document(), as_json, lambda console: render(found, console))
    taken = [item.run for item in found.runs]
    if not all(run.outputs_agree and all(b.outputs_agree for b in run.batches) for run in taken):
        click.get_current_context().exit(1)
