# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeopt.bundle import Bundle
from edgeopt.errors import BundleError, InputError
from edgeopt.measure import measurement
from edgeopt.measure.measurement import Run
from edgeopt.report.card import card, disturbance
from edgeopt.report.card_file import places, write
from edgeopt.report.card_page import page
from tests.bundle import conftest
from tests.bundle.conftest import make_bundle, sources
from tests.measure.test_measurement import MEASUREMENT, RUN
from tests.measure.test_memory import MEMORY
from tests.measure.test_statistics import shuffled

__all__ = ["make_bundle", "sources"]  # fixtures

BOARD = {
    "arch": "aarch64",
    "model": "Raspberry Pi 4 Model B Rev 1.4",
    "cores": ["cortex-a72"] * 4,
    "isa": ["asimd"],
    "ram_bytes": 4_000_000_000,
    "kernel": "Linux 6.6",
    "os": "Debian",
    "libc": "glibc",
    "libc_version": "2.36",
    "home": "/home/somebody",
}
STATE = {
    "load_1min": 0.25,
    "temperature_c": {"cpu-thermal": 48.5, "gpu": 41.0},
    "cpu_khz": [600_000, 1_500_000],
    "governors": ["ondemand", "ondemand"],
}
CALLS = replace(
    RUN,
    precision="fp32",
    seq_len=4,
    wall_ns=tuple(10**6 * t for t in shuffled(100)),
    cpu_ns=(1,) * 100,
    warmup_ns=(),
    load_ns=80_000_000,
    first_ns=12_000_000,
    rss_before_bytes=2_000_000,
    rss_loaded_bytes=40_000_000,
    peak_memory_bytes=50_000_000,
    artifact_bytes=20_000_000,
    bound=0.9999,
    state_before=STATE,
    state_after=STATE | {"temperature_c": {"cpu-thermal": 61.0}},
)


@pytest.fixture
def made(make_bundle: conftest.MakeBundle) -> Bundle:
    return make_bundle(
        origin={
            "kind": "huggingface",
            "source": "a model",
            "architecture": "Bert|Model",
            "weights_sha256": {"model.safetensors": "7d" * 32},
            "license": None,
            "tools": {"torch": "2"},
        }
    )


def measured(bundle: Bundle, *runs: Run, name: str = "m.json", **changes: Any) -> Path:
    path = bundle.path.parent / name
    facts: dict[str, Any] = {
        "emulated": False,
        "board": BOARD,
        "bundle_digest": bundle.manifest.digest,
        "runs": runs or (CALLS,),
        "not_run": (),
    }
    measurement.write(replace(MEASUREMENT, **(facts | changes)), path)
    return path


def evaluated(bundle: Bundle, **changes: Any) -> Path:
    difference = {"value": -0.01, "low": -0.03, "high": 0.01, "verdict": "cannot tell apart"}
    figure = {"value": 0.9, "low": 0.87, "high": 0.93}
    systems = [
        {"name": "transformers 5", "engine": "", "precision": ""},
        {"name": "runtime", "engine": "onnx", "precision": "fp32"},
    ]
    for system, change in zip(systems, (None, difference), strict=True):
        system |= {"figures": {"accuracy": figure | {"difference": change}}, "worst": ["a text"]}
    document = {
        "digest": bundle.manifest.digest,
        "data": "dev.jsonl",
        "noun": "texts",
        "units": 200,
        "left_out": 0,
        "main": "accuracy",
        "board": None,
        "emulated": False,
        "original": systems[0],
        "artifacts": systems[1:],
    }
    path = bundle.path.parent / "e.json"
    path.write_text(json.dumps(document | changes))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def section(text: str, title: str) -> str:
    """Return what stands below a heading of a page, "" if there is none."""
    _, _, rest = text.partition(f"\n## {title}\n")
    return rest.partition("\n## ")[0]


def test_a_card_is_this_page(made: Bundle) -> None:
    m, e = measured(made), evaluated(made)
    assert page(card(made.path, [m], e)) == PAGE.format(
        digest=made.manifest.digest, m=sha256(m), e=sha256(e)
    )


PAGE = """\
<!-- Written by edgeopt card: make it again rather than change it. -->

# tiny on pi

sequence-classification, compiled for host; measured on 2026-01-01, one inference at a \
time (batch 1).

> Whether anything disturbed onnx fp32 is not known: see [Conditions](#conditions).

## Latency

| artifact | runs | p50 | p90 | largest |
| --- | ---: | ---: | ---: | ---: |
| onnx fp32 | 100 | 50.0 (42.0\u00a0to\u00a059.0) | 90.0 (85.0\u00a0to\u00a096.0) | 100 |

All of 4 tokens and 1 thread.

Milliseconds of an inference once times are steady, with bounds that each hold by itself with 95 % \
confidence (? if the runs are too few for one). The order is that of the measurement and ranks \
nothing: artifacts ran one after the other, and what differs from one process to the next is not \
in these bounds. Which of two is faster is told by `edgeopt compare`.

* onnx fp32: no p99: it takes 299 independent runs

## Outputs

| artifact | engine | size | cosine when compiled | cosine on the board | at least | outputs |
| --- | --- | ---: | ---: | ---: | ---: | ---: |
| onnx fp32 | onnx 1.31.1 | 20.0 MB | 1.00000 | 0.99000 | 0.9999 | agree |

The smallest cosine of a call with PyTorch FP32: of texts or images when the bundle was made, and \
of its golden inputs on the board.

## Start and memory

| artifact | load ms | first inference ms | before | loaded | peak |
| --- | ---: | ---: | ---: | ---: | ---: |
| onnx fp32 | 80.0 | 12.0 | 2.0 MB | 40.0 MB | 50.0 MB |

Load and first inference happened once each. Memory is the process's resident set before the \
engine was loaded, after, and at its peak.

## Accuracy

|  | figure | value | 95 % | minus original | 95 % |  |
| --- | --- | ---: | ---: | ---: | ---: | --- |
| original | accuracy | 0.9000 | 0.8700 to 0.9300 |  |  |  |
| onnx fp32 | accuracy | 0.9000 | 0.8700 to 0.9300 | -0.0100 | -0.0300 to +0.0100 | \
cannot tell apart |

200 texts of `dev.jsonl` on the machine that evaluated them. The original is transformers 5, asked \
the same; an artifact is called better or worse only if the interval of the difference leaves \
out 0.

## Conditions

| artifact | load | hottest °C | clock MHz | governor | disturbed? |
| --- | --- | --- | --- | --- | --- |
| onnx fp32 | 0.25 | 48.5 → 61.0 | 1500 | ondemand | not known (the board's state was not sampled \
while it ran) |

Before → after a run, or both; the load is the mean of the last minute.

No run of this card is known to have been left alone.

## Model, target and board

|  |  |
| --- | --- |
| model | a model |
| architecture | Bert\\|Model |
| longest input | 16 tokens |
| held against | PyTorch FP32 |
| recipe | default |
| target | host: host, x86_64, glibc |
| board | pi |
| board's model | Raspberry Pi 4 Model B Rev 1.4 |
| cores | 4 cortex-a72 |
| memory | 4.0 GB |
| system | Debian, Linux 6.6, glibc 2.36 |

## Versions and hashes

|  |  |
| --- | --- |
| compiled by | edgeopt 0, torch 2 |
| measured by | edgeopt 0.1.0 |
| agent on the board | 0.1.0 |
| bundle | `{digest}` |
| weights model.safetensors | `7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d` |
| measurement m.json | `{m}` |
| evaluation | `{e}` |

Hashes are SHA-256; a bundle's digest covers every file of it.

## How to repeat it

```sh
edgeopt compile 'a model' --target host --recipe default --engine onnx --precision fp32 \
-o tiny.edgeopt
edgeopt profile tiny.edgeopt --board pi --engine onnx --precision fp32 --seq-len 4 --threads 1 \
--warmup 0 --runs 100 -o m.json
edgeopt evaluate tiny.edgeopt --data dev.jsonl --original 'a model' --json > e.json
edgeopt card tiny.edgeopt m.json --evaluation e.json
```
"""


def test_where_memory_went_is_shown_if_it_was_read(made: Bundle) -> None:
    path = measured(made, replace(CALLS, memory=MEMORY), memory_budget_mib=40.0)
    found = card(made, [path])
    told = section(page(found), "Start and memory")
    assert "| artifact | loaded | after the first inference | steady | PSS | unbacked |" in told
    assert "| onnx fp32 | 40.0 MB | 60.0 MB | 64.0 MB | 50.0 MB | 45.0 MB | 10.0 MB |" in told
    assert "took 47.7 MiB of memory at its peak; the budget of the target" in told
    assert found["runs"][0]["memory"]["unbacked_at_load_bytes"] == 20_000_000
    assert "PSS" not in page(card(made, [measured(made, CALLS, name="older.json")]))


def test_a_difference_that_is_nothing_has_no_sign(made: Bundle) -> None:
    found = card(made, [measured(made)], evaluated(made))
    figures = found["evaluation"]["systems"][1]["figures"]
    figures["f1"] = found["evaluation"]["systems"][0]["figures"]["f1"] = figures["accuracy"]
    figures["accuracy"]["difference"] |= {"value": -1e-9, "low": -2e-9, "high": None}
    told = section(page(found), "Accuracy")
    assert "| +0.0000 | - | cannot tell apart |" in told
    assert "leaves out 0; of 2 differences one in twenty would by chance." in told


def test_its_json_has_the_same_figures_and_nothing_private(made: Bundle) -> None:
    found = card(made, [measured(made)], evaluated(made))
    (run,) = found["runs"]
    assert run["latency_ns"]["p50"] == {"value": 50 * 10**6, "low": 42 * 10**6, "high": 59 * 10**6}
    assert "p99" not in run["latency_ns"]
    assert run["not_supported"] == {"p99": 299}
    assert (run["load_ns"], run["first_inference_ns"]) == (80_000_000, 12_000_000)
    assert run["energy"] is None
    assert found["hashes"]["bundle_digest"] == made.manifest.digest
    text = json.dumps(found, allow_nan=False)
    assert "somebody" not in text  # the board's home
    assert "a text" not in text  # of the evaluation's worst answers


def test_an_emulated_board_has_no_times_memory_or_energy(made: Bundle) -> None:
    path = measured(made, emulated=True, board=BOARD | {"ram_bytes": 77_000_000_000})
    found = card(made, [path])
    (run,) = found["runs"]
    assert run["emulated"] is True
    assert not [k for k in run if k.endswith("_ns") or "memory" in k or "energy" in k]
    assert "ram_bytes" not in found["board"]
    text = page(found)
    assert text.count("(emulated)") == 4  # title, cosine, outputs, board
    assert "**This board is emulated.**" in text
    for title in ("Latency", "Start and memory", "Energy", "Conditions"):
        assert not section(text, title)
    assert "edgeopt board up pi --target host" in section(text, "How to repeat it")


@pytest.mark.parametrize("agree", [True, False])
def test_outputs_that_disagree_are_told_and_have_no_latency(made: Bundle, agree: bool) -> None:
    wrong = replace(CALLS, wall_ns=CALLS.wall_ns if agree else (), outputs_agree=agree)
    text = page(card(made, [measured(made, wrong)]))
    assert ("**Outputs of onnx fp32 disagree**" in text) == (not agree)
    assert ("## Latency" in text) == agree


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [(0.1, 0.9, "not known"), (1.6, 0.9, "disturbed"), (0.1, 2.0, "disturbed")],
)
def test_load_beyond_its_own_threads_disturbs(before: float, after: float, verdict: str) -> None:
    run = replace(RUN, state_before={"load_1min": before}, state_after={"load_1min": after})
    found = disturbance(run, None)
    assert found["verdict"] == verdict
    assert disturbance(replace(run, threads=2), None)["verdict"] == "not known"
    if verdict == "disturbed":
        assert f"the load was {max(before, after):.2f}" in found["reasons"][0]


def test_what_was_sampled_while_it_ran_decides() -> None:
    quiet = {"throttled": [], "disturbed": []}
    assert disturbance(RUN, quiet) == {"verdict": "undisturbed", "reasons": []}
    hot = quiet | {"throttled": ["clock capped"]}
    assert disturbance(RUN, hot) == {"verdict": "disturbed", "reasons": ["clock capped"]}


def test_a_disturbed_run_is_told_at_the_head(made: Bundle) -> None:
    text = page(card(made, [measured(made, replace(CALLS, state_before={"load_1min": 3.0}))]))
    assert "> **Disturbed: onnx fp32.**" in text
    told = section(text, "Conditions")
    assert "| 3.00 → 0.25 |" in told
    assert "other programs ran: the load was 3.00 before, and its own runs make 1" in told


def test_what_a_board_does_not_tell_is_said(made: Bundle) -> None:
    blind = replace(CALLS, state_before={}, state_after={"load_1min": 0.5})
    told = section(page(card(made, [measured(made, blind)])), "Conditions")
    assert "| artifact | load | disturbed? |" in told
    assert "| ? → 0.50 |" in told
    assert "Not told by the board: hottest °C, clock MHz, governor." in told


def test_what_is_odd_in_the_times_is_told(made: Bundle) -> None:
    late = (90 * 10**6,) * 3 + (10**7, 11 * 10**6, 12 * 10**6) * 100
    times = replace(CALLS, wall_ns=late, cpu_ns=late)
    assert "* onnx fp32: 3 runs before it was steady are left out" in page(
        card(made, [measured(made, times)])
    )
    levels = tuple(t * 10**6 for t in (10, 20, 10, 10, 20)) * 40
    text = page(card(made, [measured(made, replace(CALLS, wall_ns=levels), name="l.json")]))
    assert "times keep to two levels: 60% about 10.0 ms and 40% about 20.0 ms" in text


def test_what_was_sampled_while_it_ran_is_shown(made: Bundle) -> None:
    found = card(made, [measured(made)])
    sampled = {"temperature_c": {"cpu": 71.5}, "clock_khz": [1_200_000, 1_500_000]}
    found["runs"][0] |= {
        "conditions": sampled,
        "disturbance": {"verdict": "undisturbed", "reasons": []},
    }
    text = page(found)
    assert "while it ran | clock MHz while it ran | disturbed? |" in text
    assert "| ondemand | 71.5 | 1200 to 1500 | undisturbed |" in text
    assert "isturbed onnx" not in text
    assert "No run of this card" not in text


def test_energy_stands_where_it_was_measured(made: Bundle) -> None:
    found = card(made, [measured(made)])
    assert not section(page(found), "Energy")
    rail = {
        "rails": ["VDD_IN"],
        "net": {"joules": 0.0123, "uncertainty": 0.0004},
        "gross": {"joules": 0.02, "uncertainty": 0.0005},
    }
    energy = {"total": rail, "rails": [rail], "covers": "the board", "leaves_out": "the supply"}
    found["runs"][0]["energy"] = energy | {"synthetic": False}
    told = section(page(found), "Energy")
    assert "| onnx fp32 | VDD_IN | 12.30 ± 0.40 | 20.00 ± 0.50 |" in told
    assert "onnx fp32: covers the board; leaves out the supply" in told
    found["runs"][0]["energy"] = energy | {"synthetic": True}
    assert "onnx fp32 (synthetic, of no board)" in section(page(found), "Energy")
    found["runs"][0] |= {"energy": None, "no_energy": "VDD_IN: could not be read"}
    assert section(page(found), "Energy").strip() == "* onnx fp32: none: VDD_IN: could not be read"


def test_runs_of_several_files_are_told_apart(made: Bundle) -> None:
    paths = [measured(made), measured(made, replace(CALLS, seq_len=8), name="long.json")]
    text = page(card(made, paths))
    assert "| onnx fp32, 4 tokens | 4 | 100 |" in text
    assert "| onnx fp32, 8 tokens | 8 | 100 |" in text
    assert "\nAll of 1 thread.\n" in text
    again = page(card(made, [paths[0], measured(made, name="again.json")]))
    assert "| onnx fp32, again.json | 100 |" in again


def test_texts_of_others_are_text(made: Bundle) -> None:
    name = "<b>x</b> [a](http://b) | `c` *d* \x1b[2J"
    text = page(card(made, [measured(made, board=BOARD | {"model": name})]))
    (line,) = [line for line in text.splitlines() if "board's model" in line]
    assert "<b>" not in line.replace("\\<", "")
    assert r"\[a\](http\://b) \| \`c\` \*d\*" in line
    assert "\x1b" not in text


def test_a_fence_is_longer_than_what_it_holds(make_bundle: conftest.MakeBundle) -> None:
    made = make_bundle(origin={"kind": "test", "source": "a ```` b"})
    told = section(page(card(made, [measured(made)])), "How to repeat it").strip()
    assert told.startswith("`````sh\n")
    assert told.endswith("\n`````")


def test_a_file_of_another_bundle_is_refused(
    made: Bundle, make_bundle: conftest.MakeBundle, tmp_path: Path
) -> None:
    other = make_bundle(tmp_path / "other.edgeopt", name="other")
    path = measured(made)
    with pytest.raises(InputError) as caught:
        card(other, [path])
    assert str(caught.value) == (
        f"{path}: is of another bundle: tiny with the digest {made.manifest.digest[:12]}, and "
        f"{other.path} has {other.manifest.digest[:12]}\n"
        f"Measure this one: edgeopt profile {other.path} --board pi"
    )
    theirs = evaluated(other)
    with pytest.raises(InputError, match=r"e\.json: is of another bundle: its digest is"):
        card(made, [path], theirs)
    with pytest.raises(InputError, match="its digest is none"):
        card(made, [path], evaluated(made, digest=None))


def test_what_is_no_evaluation_is_told(made: Bundle, tmp_path: Path) -> None:
    path, other = measured(made), tmp_path / "x.json"
    with pytest.raises(InputError, match=r"x\.json: cannot be read"):
        card(made, [path], other)
    other.write_text("")
    with pytest.raises(InputError, match=r"x\.json: is not JSON"):
        card(made, [path], other)
    with pytest.raises(InputError, match=r"m\.json: is no evaluation"):
        card(made, [path], path)
    with pytest.raises(InputError, match="is no evaluation of edgeopt's: KeyError"):
        card(made, [path], evaluated(made, artifacts=[{"engine": "onnx"}]))


def test_a_card_is_of_one_board(made: Bundle) -> None:
    paths = [measured(made), measured(made, name="n.json", board_name="kitchen")]
    with pytest.raises(InputError, match=r"n\.json: is of the board kitchen, and .* of pi; a card"):
        card(made, paths)


def test_measurements_of_a_card_have_names_of_their_own(made: Bundle) -> None:
    path = measured(made)
    with pytest.raises(InputError, match=r"m\.json: has the name of another measurement"):
        card(made, [path, path])


def test_a_damaged_bundle_has_no_card(made: Bundle) -> None:
    path = measured(made)
    (made.path / "artifacts/onnx-fp32/model.onnx").write_bytes(b"another one")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        card(made.path, [path])


def test_where_a_card_is_written(made: Bundle, tmp_path: Path) -> None:
    found = card(made, [measured(made)])
    assert places(found, None) == (Path("cards/tiny-pi.md"), Path("cards/tiny-pi.json"))
    assert places(found, "x/y.md") == (Path("x/y.md"), Path("x/y.json"))
    found["board"]["name"] = "../a b"
    assert places(found, "x")[0] == Path("x/tiny-..-a-b.md")
    with pytest.raises(InputError, match=r"y.html: is no folder, and no \.md file"):
        places(found, "y.html")


def test_only_a_card_is_overwritten(made: Bundle, tmp_path: Path) -> None:
    found = card(made, [measured(made)])
    place, beside = places(found, tmp_path / "new" / "c.md")
    write(found, place, beside)
    write(found, place, beside)
    assert place.read_text() == page(found)
    assert json.loads(beside.read_text()) == json.loads(json.dumps(found))
    assert sorted(p.name for p in place.parent.iterdir()) == ["c.json", "c.md"]
    taken = measured(made, name="own.json")
    before = taken.read_bytes()
    with pytest.raises(InputError, match=r"own\.json: exists and is no card"):
        write(found, *places(found, tmp_path / "own.md"))
    assert taken.read_bytes() == before
    assert not (tmp_path / "own.md").exists()
    (tmp_path / "README.md").write_text("# mine")
    with pytest.raises(InputError, match=r"README\.md: exists and is no card"):
        write(found, *places(found, tmp_path / "README.md"))
