# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.boards.registry import BoardEntry
from edgeopt.errors import InputError, MeasurementError
from edgeopt.measure import gate
from edgeopt.measure.generating import Asked, listen, of_lines
from edgeopt.measure.generation import Continued, Generation, HostCheck, TokenCounts
from edgeopt.measure.measurement import read, write
from edgeopt.measure.report import report
from tests import generators
from tests.commands import edgeopt as command
from tests.measure.test_measurement import MEASUREMENT, RUN
from tests.report.test_profile import printed

GENERATION = Generation(
    prompt_tokens=32,
    new_tokens=9,
    context=64,
    cache_bytes=6400,
    cache_used_bytes=4100,
    # Of each answer a slow first token, then four pairs of tokens, each slower than the one before.
    token_ns=tuple(
        tuple(1_000_000 * n for n in (90 + i, 1, 3, 3, 3, 4, 4, 5, 5)) for i in range(3)
    ),
    tokens=tuple(range(9)),
    continued=(Continued(directory="golden/prompt_0", prompt_agrees=True, tokens=64, same=64),),
    host=HostCheck(cosine=1.0, told=400, sure=9, same=9),
    counts=TokenCounts(first=(900, 902), later=((100, 102), (100, 104))),
)
GENERATED = replace(
    RUN, generation=GENERATION, seq_len=32, precision="fp32", wall_ns=(9, 9, 9), cpu_ns=(9, 9, 9)
)


def test_figures_are_by_position() -> None:
    blocks = GENERATION.blocks()
    assert [(b.begin, b.end) for b in blocks] == [(2, 3), (4, 5), (6, 7), (8, 9)]
    assert [b.tokens_per_s for b in blocks] == [500, pytest.approx(1000 / 3), 250, 200]
    first = GENERATION.first_token()
    assert first is not None
    assert (first.p50, first.p90, first.p50_bounds) == (91_000_000, None, (None, None))
    assert GENERATION.first_token(late=2).p50 == 92_000_000  # type: ignore[union-attr]
    assert replace(GENERATION, new_tokens=1, token_ns=((5,),), tokens=(1,)).blocks() == ()
    many = replace(GENERATION, token_ns=GENERATION.token_ns * 4)
    low, high = many.blocks()[-1].tokens_per_s_bounds
    assert low == high == 200


def test_a_run_is_kept_and_told_with_its_prompt(tmp_path: Path) -> None:
    m = replace(MEASUREMENT, runs=(GENERATED, replace(GENERATED, seq_len=8)), not_run=())
    write(m, tmp_path / "m.json")
    assert read(tmp_path / "m.json") == m
    told = report(m, tmp_path / "m.json").document()["runs"][0]["generation"]
    assert told["time_to_first_token_ns"]["p50"] == 91_000_000
    assert [block["tokens_per_s"] for block in told["blocks"]][::3] == [500, 200]
    assert told["counts"]["emulated"] is True
    assert told["counts"]["later_token_instructions"] == 101
    text = printed(m)
    table = text[text.index("artifact") : text.index("onnx fp32, prompt of 32: ")]
    # Two times, two rates, the peak of memory: nothing of the cache, which is only counted.
    assert text[: text.index("onnx fp32 ")].count("emulated") == 5
    assert "500" in table
    assert "tokens per second (emulated): 500 at 2-3" in text
    assert "900 instructions for prompt and first token, 101 for each later one (emulated" in text
    assert "9 of 9 after this one are those of the same artifact here" in text
    damaged = tmp_path / "damaged.json"
    document = json.loads((tmp_path / "m.json").read_text())
    document["runs"][0]["generation"]["token_ns"][0].pop()
    damaged.write_text(json.dumps(document))
    with pytest.raises(MeasurementError, match="holds answers of another length"):
        read(damaged)


def test_a_budget_says_of_which_prompt_it_is(tmp_path: Path) -> None:
    other = replace(GENERATED, seq_len=8, wall_ns=(70_000_000,) * 40, cpu_ns=(1,) * 40)
    m = replace(MEASUREMENT, emulated=False, runs=(other, GENERATED), not_run=())
    write(m, tmp_path / "m.json")
    budget = tmp_path / "budget.toml"
    budget.write_text("[latency]\np50_ms = 80\n")
    with pytest.raises(InputError, match="has answers to prompts of 8 and of 32 tokens"):
        gate.gate(budget, [tmp_path / "m.json"])
    budget.write_text("seq_len = 8\n[latency]\np50_ms = 80\n")
    (check,) = gate.gate(budget, [tmp_path / "m.json"]).checks
    assert (check.status, check.figure.value) == ("kept", 70.0)


def lines(*events: dict[str, object], answers: tuple[tuple[int, ...], ...]) -> list[str]:
    """Return what the agent says of ``answers``, with ``events`` before them."""
    memory: dict[str, object] = {"event": "memory", "peak_is_of_phase": True}
    said: list[dict[str, object]] = [
        {"event": "hello", "agent": "0.1.0", "arch": "x86_64", "pid": 1},
        memory | {"phase": "before"},
        {"event": "engine", "version": "1", "load_ns": 1, "context": 64, "cache_bytes": 64},
        memory | {"phase": "loaded"},
        {"event": "first", "wall_ns": 1},
        memory | {"phase": "first"},
        {
            "event": "golden",
            "directory": "golden/prompt_0",
            "output": "logits",
            "cosine": 1.0,
            "max_abs_error": 0.0,
            "agrees": True,
        },
        *events,
    ]
    for number, tokens in enumerate(answers):
        said += [
            {
                "event": "samples",
                "first": number,
                "wall_ns": [9],
                "cpu_ns": [9],
                "begin_ns": 1,
                "end_ns": 10,
            },
            {"event": "answer", "token_ns": [3] * len(tokens), "tokens": tokens},
        ]
    said += [memory | {"phase": "steady"}, {"event": "done", "outputs_agree": True}]
    return [json.dumps(event) for event in said]


ASKED = Asked(context=64, prompts=(8,), new_tokens=2)


def test_answers_that_differ_are_not_told() -> None:
    prompt: dict[str, object] = {"event": "prompt", "tokens": 8, "vocabulary": 3, "stride": 1}
    told = lines(prompt | {"logits": [0.5, 1, -2]}, answers=((4, 5), (4, 5)))
    found = listen(told, where="pi", asked=ASKED, warmup=1, runs=2)
    assert (found.tokens, found.logits, found.token_ns) == ((4, 5), [0.5, 1, -2], [(3, 3)] * 2)
    with pytest.raises(MeasurementError, match="answers to the same prompt differ from token 2"):
        listen(lines(answers=((4, 5), (4, 6))), where="pi", asked=ASKED, warmup=1, runs=2)
    with pytest.raises(MeasurementError, match="a line that is not its protocol"):
        listen(lines(answers=((4, 5, 6),)), where="pi", asked=ASKED, warmup=1, runs=2)
    silent = [line for line in told if '"answer"' not in line]
    with pytest.raises(MeasurementError, match="did not tell the tokens of all answers"):
        listen(silent, where="pi", asked=ASKED, warmup=1, runs=2)


def test_tokens_are_counted_between_marks() -> None:
    marks = [0, 500, 600, 601, 1000, 1400, 1510, 1511, 2000, 2402, 2514, 2515]
    text = "".join(f"{mark} 0 0\n" for mark in marks)
    found = of_lines(text, 2, "pi")
    assert found == TokenCounts(first=(400, 402), later=((110,), (112,)))
    assert (found.per_first, found.per_token) == (400, 110)
    with pytest.raises(MeasurementError, match="has 12 lines, and 15 rising ones"):
        of_lines(text, 3, "pi")
    with pytest.raises(MeasurementError, match="cannot be read"):
        of_lines("a\n", 2, "pi")


@pytest.mark.heavy
@pytest.mark.board
def test_an_emulated_board_answers_as_transformers_does(
    emulated_board: BoardEntry, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
    pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
    pytest.importorskip("ziglang", reason="needs edgeopt[cross]")
    import edgeopt

    network = generators.write(tmp_path / "tiny", "gpt2")
    bundle = edgeopt.compile(
        tmp_path / "tiny", "raspberry-pi-4", output=tmp_path / "b", precisions=["fp32"]
    )
    words = ["profile", bundle.path, "--board", emulated_board.name, "--counters", "--json"]
    words += ["--prompt-tokens", "12", "--new-tokens", "4", "--runs", "1", "--warmup", "0"]
    done = command(*words, "-o", tmp_path / "m.json")
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert run["emulated"] is True
    found = run["generation"]
    assert all(one["same"] == one["tokens"] > 0 for one in found["golden"])
    assert found["host"]["cosine"] > 0.9999
    counts = found["counts"]
    assert counts["prompt_and_first_token_instructions"] > counts["later_token_instructions"]
    # Each token multiplies with each weight of the layers and the head once, four an instruction.
    assert counts["later_token_instructions"] > sum(p.numel() for p in network.parameters()) / 8
    golden = json.loads((bundle.path / "golden/prompts.json").read_text())
    prompt = [token for one in golden for token in one["tokens"]][:12]
    given = torch.tensor([prompt])
    theirs = network.generate(
        given, attention_mask=torch.ones_like(given), max_new_tokens=4, do_sample=False,
        pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    measured = json.loads((tmp_path / "m.json").read_text())["runs"][0]["generation"]
    assert measured["tokens"] == theirs[0, 12:].tolist()
