# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A decoder from its checkpoint to text, by the commands and the functions that a user calls."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import edgeopt
from edgeopt.bundle.manifest import _digest
from edgeopt.bundle.verify import verify
from edgeopt.errors import BoardError, BundleError, CompileError, InputError, MeasurementError
from edgeopt.evaluate.evaluation import Evaluation
from edgeopt.lower import generation
from edgeopt.measure import generating
from edgeopt.measure.agent import AgentReport
from edgeopt.model import texts
from edgeopt.model.decoder import import_decoder
from edgeopt.quantize import Quantize
from edgeopt.recipe import Recipe, load_recipe
from edgeopt.runtime.build import build_for_host
from edgeopt.target import load_target
from tests import generators
from tests.commands import edgeopt as command

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
onnx = pytest.importorskip("onnx", reason="needs edgeopt[onnx]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytest.importorskip("ziglang", reason="ziglang is not installed")

pytestmark = pytest.mark.heavy

PROMPT = "The library is a tool for"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generation") / "tiny"
    generators.write(folder, "qwen3", initializer_range=0.1)
    return folder


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> edgeopt.Bundle:
    return edgeopt.compile(checkpoint, "host", output=checkpoint.parent / "tiny.edgeopt")


def recipe(folder: Path, text: str) -> Recipe:
    path = folder / "own.toml"
    path.write_text(text)
    return load_recipe(path)


def test_a_bundle_says_how_its_answers_compare(bundle: edgeopt.Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.task.name == "text-generation"
    assert [a.precision for a in manifest.artifacts] == ["fp32", "int8"]
    assert manifest.generation is not None
    assert manifest.generation.stops == (0,)
    fp32, int8 = (dict(a.generated or {}) for a in manifest.artifacts)
    assert fp32["texts_same"] == fp32["texts"] == 6
    assert fp32["greedy_same"] == fp32["greedy"] > 200
    assert fp32["perplexity"] == pytest.approx(fp32["reference_perplexity"], rel=1e-4)
    assert int8["perplexity"] == pytest.approx(int8["reference_perplexity"], rel=0.1)
    assert int8["steps"] == fp32["steps"] == manifest.artifacts[0].fidelity.calls


def test_text_is_printed_as_it_comes_and_told_as_json(bundle: edgeopt.Bundle) -> None:
    shown = command("run", bundle.path, PROMPT, "a", "-p", "fp32", "--max-tokens", 12)
    assert shown.returncode == 0, shown.stderr
    told = command("run", bundle.path, PROMPT, "a", "-p", "fp32", "--max-tokens", 12, "--json")
    document = json.loads(told.stdout)
    first, second = document["answers"]
    assert shown.stdout.startswith(f"{first['text']}\n{second['text']}\n")
    assert "onnx" in shown.stdout.splitlines()[-1]
    assert (document["precision"], document["context"]) == ("fp32", 160)
    assert document["cache_bytes"] == 160 * 2 * 2 * 2 * 32 * 4
    assert {len(first["tokens"]), len(second["tokens"])} == {12}


def test_the_function_tells_pieces_and_answers(bundle: edgeopt.Bundle) -> None:
    pieces: list[str] = []
    ended: list[edgeopt.Answer] = []
    how = edgeopt.Sampling(max_tokens=20, temperature=1.0, top_k=30, seed=5)
    found = edgeopt.generate(
        bundle, [PROMPT, PROMPT + " more"], sampling=how, told=pieces.append, ended=ended.append
    )
    assert tuple(ended) == found.answers
    assert "".join(pieces) == "".join(answer.text for answer in found.answers)
    assert found.precision == "int8"
    assert found.answers[1].reused >= found.answers[0].prompt_tokens - 1
    assert edgeopt.generate(bundle, [PROMPT], sampling=how).answers[0].text == ended[0].text


def test_what_steers_a_terminal_is_shown_as_an_escape(
    bundle: edgeopt.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [
        command("run", bundle.path, PROMPT, "--temperature", 5, "--seed", seed).stdout
        for seed in range(3)
    ]
    assert any("\\x" in text for text in texts)  # bytes of any kind come at such a temperature
    assert not any(c in text for text in texts for c in "\x00\x07\x1b\x7f\x9b")


def test_a_packed_bundle_generates_too(bundle: edgeopt.Bundle, tmp_path: Path) -> None:
    packed = tmp_path / "tiny.zip"
    assert command("pack", bundle.path, "-o", packed).returncode == 0
    words = [PROMPT, "--max-tokens", 5, "--json"]
    one, other = (json.loads(command("run", p, *words).stdout) for p in (bundle.path, packed))
    assert one == other


WRONG: dict[str, tuple[list[Any], str]] = {
    "empty": ([""], "prompt: has no tokens, expected at least one"),
    "long": (["a " * 400], "expected up to 160: the context"),
    "room": (["a", "--max-context", 161], "context: is 161, expected up to 160 tokens"),
    "precision": (["a", "-p", "fp16"], "the bundle has no fp16 artifact"),
    "context": (["a", "--context", "b"], "takes no --context or --cascade"),
    "image": (["--image", "x.png", "--seed", 1], "--image takes no options of generated text"),
    "stop": (["a", "--stop", ""], "stops: text 0 is no UTF-8 of 1 to 255 bytes"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_input_is_told_in_a_line(kind: str, bundle: edgeopt.Bundle) -> None:
    words, told = WRONG[kind]
    done = command("run", bundle.path, *words, columns=200)
    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_other_commands_say_that_they_do_not_take_it(
    bundle: edgeopt.Bundle, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="generates text, which works with 'edgeopt run'"):
        _ = bundle.manifest.main
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a", "label": 0}\n{"text": "b", "label": 1}\n')
    one, other = (f"{bundle.path}@onnx,{p}" for p in ("fp32", "int8"))
    runs = "generates text, which works with 'edgeopt run' and 'edgeopt profile'"
    for words, told in (
        (("estimate", bundle.path, "--target", "raspberry-pi-5"), runs),
        (("compare", one, other, "--board", "host"), runs),
        (
            ("evaluate", bundle.path, "--data", rows, "--board", "kitchen"),
            "board: boards are not asked to generate yet: leave it out",
        ),
    ):
        done = command(*words, columns=200)
        assert done.returncode != 0
        assert told in done.stderr
        assert "own: " not in done.stderr  # no fault of edgeopt's own


@pytest.fixture(scope="module")
def theirs(checkpoint: Path) -> tuple[Any, Any]:
    """Transformers' tokenizer and network."""
    import transformers

    network = transformers.AutoModelForCausalLM.from_pretrained(str(checkpoint)).eval()
    network.requires_grad_(False)
    return transformers.AutoTokenizer.from_pretrained(str(checkpoint)), network


def golden_prompt(bundle: edgeopt.Bundle, count: int) -> list[int]:
    """Return the tokens that are timed: those of the golden prompts, again and again."""
    golden = json.loads((bundle.path / "golden/prompts.json").read_text())
    tokens = [token for one in golden for token in one["tokens"]]
    return [tokens[i % len(tokens)] for i in range(count)]


def profiled(bundle: Path, output: Path, *words: str) -> Any:
    """Return what ``profile`` printed of this machine, and how it ended."""
    given = ("profile", bundle, "--board", "host", "--runs", "2", "--json", "-o", output, *words)
    return command(*given, columns=200)


def test_what_is_timed_is_what_transformers_answers(
    bundle: edgeopt.Bundle, theirs: tuple[Any, Any], tmp_path: Path
) -> None:
    lengths = ("--prompt-tokens", "20", "--prompt-tokens", "100", "--new-tokens", "10")
    small = ("--seq-len", "30", "--prompt-tokens", "20", "--new-tokens", "10")
    done = profiled(bundle.path, tmp_path / "small.json", *small, "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)["runs"]  # golden answers are held as far as there is room
    golden = json.loads((bundle.path / "golden/prompts.json").read_text())
    room = [30 - len(one["tokens"]) for one in golden]
    assert [one["tokens"] for one in run["generation"]["golden"]] == room
    assert run["generation"]["context_tokens"] == 30
    done = profiled(bundle.path, tmp_path / "m.json", *lengths)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["not_run"] == []
    kept = json.loads((tmp_path / "m.json").read_text())["runs"]
    assert [(r["precision"], r["seq_len"]) for r in told["runs"]] == [
        ("fp32", 20), ("fp32", 100), ("int8", 20), ("int8", 100),
    ]  # fmt: skip
    for run, raw in zip(told["runs"], kept, strict=True):
        found, count = run["generation"], run["seq_len"]
        assert run["outputs_agree"]
        assert found["time_to_first_token_ns"]["n"] == 2
        assert [block["tokens"] for block in found["blocks"]] == [[2, 3], [4, 5], [6, 7], [8, 10]]
        assert all(block["tokens_per_s"] > 0 for block in found["blocks"])
        assert found["host"]["cosine"] > 0.99999
        # What the runtime allocates is what the bundle says of it.
        of_token = found["cache_bytes"] / found["context_tokens"]
        assert found["cache_used_bytes"] == (count + 10) * of_token
        if run["precision"] == "fp32":
            assert all(one["same"] == one["tokens"] for one in found["golden"])
            given = torch.tensor([golden_prompt(bundle, count)])
            made = theirs[1].generate(
                given, attention_mask=torch.ones_like(given), max_new_tokens=10, do_sample=False,
                eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
            assert raw["generation"]["tokens"] == made[0, count:].tolist()
        for row, wall_ns in zip(raw["generation"]["token_ns"], raw["wall_ns"], strict=True):
            assert sum(row) <= wall_ns


def test_a_board_goes_on_with_prompts_as_this_machine_does(
    bundle: edgeopt.Bundle, theirs: tuple[Any, Any]
) -> None:
    words = ("run", bundle.path, PROMPT, "And another", "-p", "fp32", "--json", "--max-tokens", 9)
    beams = ("--num-beams", 3, "--length-penalty", 0, "--early-stopping", "yes")
    beams += ("--no-repeat-ngram-size", 2, "--min-tokens", 3)
    for how in ((), ("--temperature", 0.9, "--top-p", 0.9, "--seed", 7), ("--stop", "a"), beams):
        here, there = (command(*words, *how, *board) for board in ((), ("--board", "host")))
        assert there.returncode == 0, there.stderr
        assert json.loads(there.stdout) == json.loads(here.stdout)
    tokenizer, network = theirs
    given = tokenizer(PROMPT, return_tensors="pt")
    made = network.generate(**given, max_new_tokens=9, do_sample=False, pad_token_id=0)
    answer = json.loads(command(*words, "--board", "host").stdout)["answers"][0]
    assert answer["tokens"] == made[0, given.input_ids.shape[1] :].tolist()
    shown = command("run", bundle.path, PROMPT, "-p", "fp32", "--max-tokens", 9, "--board", "host")
    assert shown.stdout.startswith(answer["text"].splitlines()[0])
    for prompt, told in ((PROMPT * 40, "prompt: has "), ("", "prompt: has no tokens")):
        refused = command("run", bundle.path, prompt, "--board", "host", columns=200)
        assert refused.returncode == 2
        assert told in refused.stderr


def test_the_agent_refuses_how_it_does_not_know_to_choose(bundle: edgeopt.Bundle) -> None:
    import onnxruntime

    agent = str(build_for_host().generation_agent)
    words = [agent, "read", "--bundle", str(bundle.path), "--precision", "fp32"]
    words += ["--libraries", str(Path(onnxruntime.__file__).parent / "capi")]
    for line, told in (
        ({"text": "a", "beams": 2}, "beams is unknown, or of another type"),
        ({"text": "a", "top_k": -1}, "top_k is unknown, or of another type"),
        ({"text": "a", "stops": ["b"] * 17}, "stops is unknown, or of another type"),
        ({"text": "a", "stops": [""]}, "text 0 is no UTF-8 of 1 to 255 bytes"),
        ({"text": "a", "temperature": -1.0}, "expected"),
        ({"max_tokens": 1}, 'expected {"text": ...} in each line'),
        (["text"], 'expected {"text": ...} in each line'),
    ):
        given = json.dumps(line) + "\n"
        done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
        event = json.loads(done.stdout.splitlines()[-1])
        assert (done.returncode, event["event"]) == (1, "error")
        assert told in event["message"]


def test_another_answer_than_this_machines_is_not_told(
    bundle: edgeopt.Bundle, theirs: tuple[Any, Any]
) -> None:
    prompt = golden_prompt(bundle, 20)
    given = torch.tensor([prompt])
    logits = theirs[1](given).logits[0, -1].double().numpy()
    made = theirs[1].generate(
        given, attention_mask=torch.ones_like(given), max_new_tokens=6, do_sample=False,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    asked = generating.Asked(context=160, prompts=(20,), new_tokens=6)
    right = generating.Answers(
        told=AgentReport(),
        vocabulary=len(logits),
        stride=3,
        logits=logits[::3].tolist(),
        tokens=tuple(made[0, 20:].tolist()),
    )

    def check(found: generating.Answers) -> Any:
        fp32 = bundle.manifest.artifacts[0]
        return generating.check_on_host(bundle, fp32, 20, asked, found, "pi")[0]

    held = check(right)
    assert held.cosine == pytest.approx(1, abs=1e-6)
    assert 0 < held.same == held.sure <= 6
    for wrong in (
        replace(right, tokens=(right.tokens[0] + 1, *right.tokens[1:])),
        replace(right, logits=right.logits[::-1]),
        replace(right, logits=right.logits[:-1]),
    ):
        with pytest.raises(MeasurementError, match="pi: "):
            check(wrong)


def test_a_wrong_golden_answer_is_timed_by_none(bundle: edgeopt.Bundle, tmp_path: Path) -> None:
    name, folder = "golden/prompts.json", tmp_path / "b"
    shutil.copytree(bundle.path, folder)
    golden = json.loads((folder / name).read_text())
    golden[1]["answer"][2] += 1
    (folder / name).write_text(json.dumps(golden))
    manifest = json.loads((folder / "manifest.json").read_text())
    data = (folder / name).read_bytes()
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest["digest"] = _digest(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    one = ("--precision", "fp32", "--prompt-tokens", "8", "--new-tokens", "2")
    done = profiled(folder, tmp_path / "m.json", *one)
    assert done.returncode == 1
    (run,) = json.loads(done.stdout)["runs"]
    assert (run["outputs_agree"], run["latency_ns"]) == (False, None)
    assert run["generation"]["time_to_first_token_ns"] is None
    assert [one["same"] == one["tokens"] for one in run["generation"]["golden"]] == [True, False]


def test_what_does_not_fit_is_refused_before_it_is_sent(
    bundle: edgeopt.Bundle, tmp_path: Path
) -> None:
    for words, told in (
        (("--prompt-tokens", "150", "--new-tokens", "20"), "a prompt of 150 and 20 new ones"),
        (("--seq-len", "161"), "was made for a context of 160 tokens, and was asked for 161"),
        (("--seq-len", "20", "--new-tokens", "20"), "20 new ones and a prompt do not fit into"),
        (("--seq-len", "9"), "golden prompts of up to 16 tokens, which a context of 9 has no room"),
        (("--operators",), "generates text, for which there is no --operators yet"),
    ):
        done = profiled(bundle.path, tmp_path / "m.json", *words)
        assert done.returncode != 0
        assert told in done.stderr
        assert "Deploying" not in done.stderr
        assert "own: " not in done.stderr
    board = SimpleNamespace(
        facts=SimpleNamespace(ram_available_bytes=1000), entry=SimpleNamespace(name="pi")
    )
    asked = generating.ask(bundle, context=None, prompts=(), new_tokens=None, emulated=False)
    assert asked == generating.Asked(context=160, prompts=(32,), new_tokens=64)
    with pytest.raises(BoardError, match="the cache of 160 tokens takes"):
        generating.check_memory(bundle, cast("Any", board), asked)


def _values(found: Evaluation) -> list[dict[str, float | None]]:
    return [{name: f.value for name, f in one.figures.items()} for one in found.systems]


def test_perplexity_is_that_of_transformers(
    bundle: edgeopt.Bundle, checkpoint: Path, theirs: tuple[Any, Any], tmp_path: Path
) -> None:
    tokenizer, network = theirs
    articles = [PROMPT + " reading it aloud .", "Étage = deux , x === y .\n  three lines"]
    path = tmp_path / "wiki.test.tokens"
    path.write_text("".join(f" = Title {i} = \n\n {a} \n" for i, a in enumerate(articles)))
    loss, count = 0.0, 0
    whole = [f" = Title {i} = \n\n {a} " for i, a in enumerate(articles)]
    for article in whole:
        ids = torch.tensor([tokenizer(article)["input_ids"]])
        assert ids.shape[1] < 160
        loss += float(network(ids, labels=ids).loss) * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    found = edgeopt.evaluate_bundle(bundle, path, original=checkpoint)
    assert (found.units, found.main) == (2, "perplexity")
    for values in _values(found)[:2]:
        assert values["perplexity"] == pytest.approx(np.exp(loss / count), rel=1e-5)
        words, size = len(" ".join(whole).split()), len("".join(whole).encode())
        assert values["word_perplexity"] == pytest.approx(np.exp(loss / words), rel=1e-4)
        assert values["bits_per_byte"] == pytest.approx(loss / np.log(2) / size, rel=1e-5)


def test_a_text_longer_than_the_context_is_judged_in_windows(
    bundle: edgeopt.Bundle, theirs: tuple[Any, Any], tmp_path: Path
) -> None:
    tokenizer, network = theirs
    text = " ".join(f"{PROMPT} {i}," for i in range(18))
    (tmp_path / "long.txt").write_text(text)
    ids = tokenizer(text)["input_ids"]
    assert 240 < len(ids) <= 320  # three windows
    losses = []
    for begin, first, end in ((0, 1, 160), (80, 160, 240), (len(ids) - 160, 240, len(ids))):
        logits = network(torch.tensor([ids[begin:end]])).logits[0].log_softmax(-1)
        losses += [-float(logits[at - 1 - begin, ids[at]]) for at in range(first, end)]
    wanted = float(np.exp(np.mean(losses)))
    found = edgeopt.evaluate_bundle(bundle, tmp_path / "long.txt", precision="fp32")
    assert _values(found)[0]["perplexity"] == pytest.approx(wanted, rel=1e-5)


def test_the_last_word_is_right_if_it_is_the_likeliest(
    bundle: edgeopt.Bundle, checkpoint: Path, theirs: tuple[Any, Any], tmp_path: Path
) -> None:
    tokenizer, network = theirs
    path = tmp_path / "lambada_test.jsonl"
    ids = tokenizer(PROMPT)["input_ids"]
    made = network.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=40)[0].tolist()
    texts = [f"{PROMPT} nothing", "The sea is blue"]
    # A word that it would say: what it writes, cut at a word.
    said = tokenizer.decode(made[: len(ids) + 1])
    if said.startswith(f"{PROMPT} ") and " " not in said[len(PROMPT) + 1 :].strip():
        texts.append(said)
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    hits, losses = [], []
    for text in texts:
        context = text.strip().rpartition(" ")[0]
        all_ids, before = tokenizer(text.strip())["input_ids"], tokenizer(context)["input_ids"]
        rows = network(torch.tensor([all_ids])).logits[0].log_softmax(-1)
        at = range(len(before), len(all_ids))
        hits.append(all(int(rows[i - 1].argmax()) == all_ids[i] for i in at))
        losses.append(-sum(float(rows[i - 1, all_ids[i]]) for i in at))
    found = edgeopt.evaluate_bundle(bundle, path, original=checkpoint)
    for values in _values(found)[:2]:
        assert values["accuracy"] == np.mean(hits)
        assert values["perplexity"] == pytest.approx(np.exp(np.mean(losses)), rel=1e-4)


def test_written_texts_are_scored_by_the_fields_libraries(
    bundle: edgeopt.Bundle, checkpoint: Path, theirs: tuple[Any, Any], tmp_path: Path
) -> None:
    sacrebleu = pytest.importorskip("sacrebleu", reason="needs edgeopt[evaluate]")
    tokenizer, network = theirs
    prompts = [PROMPT, "A second prompt", "What is it"]
    made = []
    for prompt in prompts:
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        whole = network.generate(ids, do_sample=False, max_new_tokens=10, eos_token_id=0)
        made.append(tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True).strip())
    wanted = [[made[0]], [made[1][:9] + " other", "more of it"], ["quite another text"]]
    rows = [{"prompt": p, "references": w} for p, w in zip(prompts, wanted, strict=True)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = edgeopt.evaluate_bundle(bundle, path, original=checkpoint, max_tokens=10)
    padded = [[w[0] for w in wanted], [w[1] if len(w) > 1 else None for w in wanted]]
    for system, values in zip(found.systems[:2], _values(found), strict=False):
        assert values["bleu"] == pytest.approx(sacrebleu.corpus_bleu(made, padded).score)
        assert values["chrf"] == pytest.approx(sacrebleu.corpus_chrf(made, padded).score)
        assert values["exact_match"] == pytest.approx(1 / 3)
        assert made[0] not in [m.got for m in system.worst]
    assert found.main == "chrf"


def test_verify_generates_in_the_runtime(bundle: edgeopt.Bundle, tmp_path: Path) -> None:
    found = verify(bundle)
    assert found.ok
    assert [(a.precision, a.agrees, a.runtime) for a in found.artifacts] == [
        ("fp32", True, True),
        ("int8", True, True),
    ]
    # A bundle whose golden answers are others: made as a whole, so that no hash is wrong.
    shutil.copytree(bundle.path, tmp_path / "other")
    path = tmp_path / "other/golden/prompts.json"
    prompts = json.loads(path.read_text())
    prompts[0]["answer"][3] ^= 1
    path.write_text(json.dumps(prompts))
    assert verify(edgeopt.open_bundle(tmp_path / "other")).changed.keys() == {"golden/prompts.json"}
    checked = _checked(tmp_path / "other")
    assert [(a.precision, a.agrees) for a in checked] == [("fp32", False), ("int8", True)]
    assert checked[0].reason is not None
    assert "otherwise than the reference" in checked[0].reason
    path.write_text("[]")
    for check in _checked(tmp_path / "other"):
        assert check.agrees is False
        assert "holds no golden prompts" in (check.reason or "")


def _checked(folder: Path) -> list[Any]:
    """Check the artifacts of a bundle whose manifest is written anew for its files."""
    from edgeopt.bundle.verify import check_generator
    from edgeopt.bundle.write import write

    opened = edgeopt.open_bundle(folder)
    files = {name: folder / name for name in opened.manifest.files}
    again = write(folder.parent / f"{folder.name}-again", opened.manifest, files)
    return [check_generator(again, entry) for entry in again.manifest.artifacts]


def test_what_a_generator_is_not_made_with_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    with pytest.raises(InputError, match="made for onnx and openvino, and was asked for with tfl"):
        edgeopt.compile(checkpoint, "host", output=out, engines=["onnx", "tflite"])
    with pytest.raises(InputError, match="takes up to 160 tokens, and was asked for 200"):
        edgeopt.compile(checkpoint, "host", output=out, seq_lens=[200])
    with pytest.raises(InputError, match="generates text, or has a decoder; encoders are taken"):
        edgeopt.compile(
            checkpoint, "host", output=out, recipe="prune", data=_texts(tmp_path / "t.txt")
        )
    with pytest.raises(InputError, match="which is not measured of a generator"):
        edgeopt.compile(
            checkpoint,
            "host",
            output=out,
            recipe=recipe(tmp_path, _BOUNDS + "[quantize]\nmax_drop = 0.1\n"),
            data=_texts(tmp_path / "t.txt"),
        )
    assert not out.exists()


_BOUNDS = """
calibration_texts = 16
[bounds.fp32]
cosine_min = 0.9999
[bounds.fp16]
cosine_min = 0.999
[bounds.int8]
cosine_min = 0.9
"""


def _texts(path: Path) -> Path:
    path.write_text("".join(f"the library has {n} tools for data and text\n" for n in range(40)))
    return path


def test_int4_and_a_shorter_context_of_ones_own_texts(checkpoint: Path, tmp_path: Path) -> None:
    four = edgeopt.compile(
        checkpoint,
        "host",
        output=tmp_path / "b",
        precisions=["int4"],
        recipe=recipe(
            tmp_path,
            _BOUNDS
            + '[bounds.int4]\ncosine_min = 0.1\n[quantize]\nweights = "int4"\ngroup_size = 64\n',
        ),
        data=_texts(tmp_path / "t.txt"),
        seq_lens=[40],
    )
    (entry,) = four.manifest.artifacts
    assert (entry.precision, four.manifest.max_seq_len) == ("int4", 40)
    assert "MatMulNBits (4 bits, groups of 64)" in entry.artifact.route
    found = edgeopt.generate(four, [PROMPT], sampling=edgeopt.Sampling(max_tokens=5))
    assert (found.precision, found.context) == ("int4", 40)


def test_an_artifact_below_its_bound_is_not_shipped(checkpoint: Path, tmp_path: Path) -> None:
    strict = recipe(tmp_path, _BOUNDS.replace("0.9\n", "0.99999999\n"))
    made = edgeopt.compile(checkpoint, "host", output=tmp_path / "b", recipe=strict)
    assert [a.precision for a in made.manifest.artifacts] == ["fp32"]
    (skipped,) = made.manifest.skipped
    assert "of a step's logits is below the recipe's bound 0.99999999" in skipped.reason
    with pytest.raises(CompileError, match="no artifact could be made for host"):
        edgeopt.compile(
            checkpoint, "host", output=tmp_path / "c", recipe=strict, precisions=["int8"]
        )


def test_int8_below_its_bound_is_made_in_groups(tmp_path: Path) -> None:
    generators.write(tmp_path, "smollm3", num_hidden_layers=2)
    model, target = import_decoder(tmp_path, "tiny"), load_target("host")
    spec = next(spec for spec in target.engines if spec.engine == "onnx")
    asked = generation.ask(model, texts.read_texts(None, 2))

    def lower(bound: float, **options: int) -> generation.Made:
        return generation.lower(model, target, spec, "int8", Quantize(**options), bound, asked)

    rows, groups = lower(0), lower(0, group_size=32)
    assert "MatMulNBits" not in rows.lowered.artifact.route
    least = (rows.lowered.fidelity.cosine_min, groups.lowered.fidelity.cosine_min)
    assert least[0] < least[1]
    assert lower(least[0]) == rows
    assert lower(sum(least) / 2) == groups
    # What was made for a CPU with VNNI is not taken for one whose products overflow.
    types = set()
    for isa in (("avx512_vnni",), ()):
        target = replace(target, device=replace(target.device, arch="x86_64", isa=isa))
        proto = onnx.load(lower(0).lowered.directory / "model.onnx", load_external_data=False)
        held = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
        products = [n for n in proto.graph.node if n.op_type == "MatMulIntegerToFloat"]
        types |= {(isa, held[n.input[1]]) for n in products if n.input[1] in held}
    kinds = onnx.TensorProto
    assert types == {(("avx512_vnni",), kinds.INT8), ((), kinds.UINT8)}


def test_a_bundle_is_made_once(checkpoint: Path, bundle: edgeopt.Bundle) -> None:
    before = (bundle.path / "manifest.json").stat().st_mtime_ns
    edgeopt.compile(checkpoint, "host", output=bundle.path)
    assert (bundle.path / "manifest.json").stat().st_mtime_ns == before


def test_an_encoder_decoder_answers_a_source(tmp_path: Path) -> None:
    generators.write_encoder_decoder(tmp_path / "tiny", "flan-t5")
    loose = recipe(tmp_path, _BOUNDS.replace("0.9\n", "0.1\n"))  # random weights, far from even
    made = edgeopt.compile(
        tmp_path / "tiny", "host", output=tmp_path / "b", seq_lens=[100], recipe=loose
    )
    (fp32, int8) = (dict(a.generated or {}) for a in made.manifest.artifacts)
    assert fp32["texts_same"] == fp32["texts"] == 6
    assert fp32["greedy_same"] == fp32["greedy"] > 100
    assert int8["steps"] == fp32["steps"]
    assert made.manifest.generation is not None
    assert (made.manifest.generation.start, made.manifest.generation.never) == ((0,), (9, 17))
    assert [check.agrees for check in verify(made).artifacts] == [True, True]
    source = "translate English to German: The library is small."
    words = [made.path, source, "-p", "fp32", "--max-tokens", 30, "--json"]
    document = json.loads(command("run", *words).stdout)
    answer = document["answers"][0]
    network, tokenizer = _loaded(tmp_path / "tiny")
    given = tokenizer(source, return_tensors="pt")
    with torch.inference_mode():
        wanted = network.generate(**given, max_new_tokens=30, do_sample=False)[0, 1:].tolist()
    assert answer["tokens"] == wanted
    assert answer["text"] == tokenizer.decode(wanted, skip_special_tokens=True)
    assert (document["context"], answer["prompt_tokens"]) == (100, given.input_ids.shape[1])
    beams = ["--num-beams", 3, "--early-stopping", "yes", "--no-repeat-ngram-size", 2]
    beams += ["--length-penalty", 2.0, "--min-tokens", 5]
    searched = json.loads(command("run", *words, *beams).stdout)
    with torch.inference_mode():
        wanted = network.generate(
            **given,
            max_new_tokens=30,
            do_sample=False,
            num_beams=3,
            early_stopping=True,
            no_repeat_ngram_size=2,
            length_penalty=2.0,
            min_new_tokens=5,
        )[0, 1:].tolist()
    assert searched["answers"][0]["tokens"] == wanted != answer["tokens"]
    row = 2 * 2 * 4 * 16 * 4  # the source's once, and the answer's of each beam and once more
    assert searched["cache_bytes"] == 100 * row * (1 + 1 + 3)
    refused = command("run", made.path, "", columns=200)
    assert "prompt: is empty, expected a text" in refused.stderr
    one = ("--precision", "fp32", "--prompt-tokens", "24", "--new-tokens", "5")
    done = profiled(made.path, tmp_path / "m.json", *one)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads((tmp_path / "m.json").read_text())["runs"]
    given = {"input_ids": torch.tensor([golden_prompt(made, 24)])}
    given["attention_mask"] = torch.ones_like(given["input_ids"])
    with torch.inference_mode():
        wanted = network.generate(**given, max_new_tokens=5, do_sample=False)[0, 1:].tolist()
    assert run["generation"]["tokens"][: len(wanted)] == wanted
    assert run["generation"]["host"]["same"] == run["generation"]["host"]["sure"] > 0
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"source": source, "target": answer["text"]}) + "\n")
    found = edgeopt.evaluate_bundle(made, rows, original=tmp_path / "tiny", max_tokens=30)
    assert [one["exact_match"] for one in _values(found)[:2]] == [1, 1]
    rows.write_text(json.dumps({"text": source}) + "\n")
    with pytest.raises(InputError, match="an encoder-decoder answers a text with another"):
        edgeopt.evaluate_bundle(made, rows)
    with pytest.raises(InputError, match="takes up to 2048 tokens, and was asked for 2049"):
        edgeopt.compile(tmp_path / "tiny", "host", output=tmp_path / "c", seq_lens=[2049])


def _loaded(folder: Path) -> tuple[Any, Any]:
    """Return network and tokenizer as transformers opens them."""
    import transformers

    network = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    return network, transformers.AutoTokenizer.from_pretrained(folder)


def test_golden_logits_are_those_of_transformers(bundle: edgeopt.Bundle, checkpoint: Path) -> None:
    import transformers

    network = transformers.AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    for call in bundle.manifest.golden:
        folder = bundle.path / call.directory
        ids = torch.from_numpy(np.load(folder / "in.input_ids.npy"))
        with torch.inference_mode():
            wanted = network(ids).logits[:, -1].numpy()
        np.testing.assert_allclose(np.load(folder / "out.logits.npy"), wanted, atol=1e-5)
