# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Decoders from a checkpoint to text in the runtime library, against generate() of transformers."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeopt
from edgeopt.runtime.build import FLAGS, build_for_host
from edgeopt.runtime.python import edgeopt_rt
from tests import checkpoints, generators
from tests.programs import SANITIZED
from tests.runtime.generator_bundles import Made, drive, edited, program

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
transformers = pytest.importorskip("transformers", reason="needs edgeopt[torch]")
ort = pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytest.importorskip("ziglang", reason="ziglang is not installed")

pytestmark = pytest.mark.heavy

PROMPT = "The library is a tool for"
CONTEXT = 160


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("generator"), "gpt2")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("generator")
    return Made(folder, "llama", generators.byte_fallback(strip=True))


@pytest.fixture
def generator(gpt2: Made) -> Iterator[Any]:
    with gpt2.open() as opened:
        yield opened


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("penalty", [None, 1.5])
def test_greedy_text_is_that_of_transformers(
    family: str, penalty: float | None, request: pytest.FixtureRequest
) -> None:
    made: Made = request.getfixturevalue(family)
    options = {} if penalty is None else {"repetition_penalty": penalty}
    with made.open() as opened:
        for prompt in (PROMPT, "a", "caf\u00e9 \u4f60\u597d", " two  spaces " * 3):
            ids = made.tokenizer(prompt).input_ids
            wanted = made.greedy(ids, 64, **options)
            found = opened.run(prompt, max_tokens=64, **options)
            assert found.tokens == wanted
            whole = made.tokenizer.decode([*ids, *wanted], skip_special_tokens=True)
            before = made.tokenizer.decode(ids, skip_special_tokens=True)
            if "\ufffd" not in whole:
                assert before + found.text == whole
            assert found.end == ("token" if wanted[-1] == opened_stop(made) else "length")


def opened_stop(made: Made) -> int:
    return int(made.tokenizer.eos_token_id)


def test_logits_after_any_split_of_a_prompt_are_those_of_the_network(
    gpt2: Made, generator: Any
) -> None:
    ids = np.random.default_rng(0).integers(1, generators.VOCABULARY, CONTEXT).tolist()
    with torch.inference_mode():
        wanted = gpt2.network(torch.tensor([ids])).logits[0].numpy()
    for count in (1, 2, 3, 5, 63, 64, 127, 128, 129, 159, 160):
        generator.reset()
        generator.prompt(ids[:count])
        assert generator.reused == 0
        np.testing.assert_allclose(generator.logits, wanted[count - 1], atol=1e-4)
        assert generator.tokens == ids[:count]


def test_what_the_cache_has_is_not_computed_again(gpt2: Made, generator: Any) -> None:
    ids = gpt2.tokenizer(PROMPT).input_ids
    found = generator.run(ids, max_tokens=9)
    longer = [*ids, *found.tokens, 5, 6]
    generator.prompt(longer)
    assert generator.reused == len(ids) + 8  # the last token was chosen, but not run
    reused = np.array(generator.logits)
    generator.reset()
    generator.prompt(longer)
    assert generator.reused == 0
    np.testing.assert_allclose(reused, generator.logits, atol=1e-5)
    generator.prompt(ids[:4])  # shorter: the last one is run for its logits
    assert generator.reused == 3
    other = [*ids[:2], 9, *ids[3:]]
    assert generator.run(other, max_tokens=20).tokens == gpt2.greedy(other, 20)
    assert generator.reused == 2


def test_a_text_ends_before_a_stop_however_it_is_cut_into_tokens(generator: Any) -> None:
    text = generator.run(PROMPT, max_tokens=60).text
    for begin in range(3, 40, 7):
        for length in (1, 2, 5, 11):
            stop = text[begin : begin + length]
            found = generator.run(PROMPT, max_tokens=60, stops=["\x7fnever", stop])
            assert (found.text, found.end) == (text[: text.index(stop)], "stop")
    held = generator.run(PROMPT, max_tokens=60, stops=[text[-3:] + "\x7f"])
    assert (held.text, held.end) == (text, "length")  # what might have begun a stop comes too


def test_an_answer_ends_with_the_context(gpt2: Made) -> None:
    with gpt2.open(context=20) as opened:
        assert opened.context == 20
        found = opened.run([5, 6, 7])
        assert (len(found.tokens), found.end) == (17, "context")
        assert opened.next() == ("", -1, "context")
        assert opened.run([5] * 20) == edgeopt_rt.Generated("", [], "context")
        assert opened.run([5, 6, 7], max_tokens=4).tokens == found.tokens[:4]


def test_a_seed_repeats(generator: Any) -> None:
    how = {"temperature": 1.0, "top_k": 40, "top_p": 0.95, "max_tokens": 30}
    first = generator.run(PROMPT, seed=1, **how)
    assert generator.run(PROMPT, seed=1, **how) == first
    assert generator.run(PROMPT, seed=2, **how) != first


def test_the_cache_is_told_before_opening_and_bounded(gpt2: Made) -> None:
    row = 2 * 2 * 4 * 16 * 4  # keys and values, layers, heads, size of a head, bytes
    with edgeopt_rt.Bundle(gpt2.bundle.path, library=str(build_for_host().library)) as bundle:
        assert bundle.cache_bytes() == CONTEXT * row
        assert bundle.cache_bytes(10) == 10 * row
        with pytest.raises(edgeopt_rt.Failure) as caught:
            bundle.cache_bytes(161)
        assert caught.value.message == "is 161, expected up to 160 tokens"
    with pytest.raises(edgeopt_rt.Failure) as caught:
        gpt2.open(max_cache_bytes=10 * row + 5)
    assert (caught.value.code, caught.value.message) == (
        edgeopt_rt.MEMORY,
        f"a context of 160 tokens takes {160 * row} bytes, expected up to {10 * row + 5}: room for "
        "10 tokens",
    )
    with gpt2.open(context=10, max_cache_bytes=10 * row) as opened:
        assert opened.cache_bytes == 10 * row


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "empty": ({"prompt": ""}, "has no tokens, expected at least one"),
    "no tokens": ({"prompt": []}, "has no tokens, expected at least one"),
    "unknown": ({"prompt": [3, 404]}, "holds 404 at 1, expected 0 to 403"),
    "negative": ({"prompt": [-1]}, "holds -1 at 0, expected 0 to 403"),
    "long": ({"prompt": [1] * 161}, "has 161 tokens, expected up to 160: the context"),
    "long text": ({"prompt": "\x01" * 170}, "has 170 tokens, expected up to 160: the context"),
    "bytes": ({"prompt": "a" * 65537}, "has 65537 bytes, expected up to 65536"),
    "stop": ({"prompt": "a", "stops": [b"\xff"]}, "text 0 is no UTF-8 of 1 to 255 bytes"),
    "no stop": ({"prompt": "a", "stops": ["a", ""]}, "text 1 is no UTF-8 of 1 to 255 bytes"),
    "long stop": ({"prompt": "a", "stops": ["a" * 256]}, "text 0 is no UTF-8 of 1 to 255 bytes"),
    "NUL": ({"prompt": "a", "stops": ["a\x00b"]}, "text 0 holds a NUL"),
    "stops": ({"prompt": "a", "stops": ["a"] * 17}, "17 of them, expected up to 16"),
    "cold": ({"prompt": "a", "temperature": -1.0}, "is -1, expected 0 to 100"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_input_is_refused_and_changes_nothing(kind: str, generator: Any) -> None:
    wrong, told = WRONG[kind]
    whole = generator.run(PROMPT, max_tokens=12)
    generator.prompt(PROMPT, max_tokens=12)
    begun = [generator.next() for _ in range(5)]
    with pytest.raises(edgeopt_rt.Failure) as caught:
        generator.prompt(**wrong)
    assert (caught.value.code, caught.value.message) == (edgeopt_rt.INPUT, told)
    rest = [generator.next() for _ in range(8)]
    assert [token for _, token, _ in (*begun, *rest)][:12] == whole.tokens
    assert rest[-1] == ("", -1, "length")


def test_there_is_nothing_to_go_on_with_before_a_prompt(generator: Any) -> None:
    for _ in range(2):
        with pytest.raises(edgeopt_rt.Failure, match="has no prompt to go on with"):
            generator.next()
        assert generator.logits is None
        generator.run([1], max_tokens=1)
        generator.reset()
    assert generator.tokens == []


def test_a_cancelled_answer_ends_and_the_next_is_right(generator: Any) -> None:
    whole = generator.run(PROMPT, max_tokens=12)
    for steps in range(12):
        generator.prompt(PROMPT, max_tokens=12)
        tokens = [generator.next()[1] for _ in range(steps)]
        generator.cancel()
        assert generator.next()[1:] == (-1, "cancelled")
        assert generator.next() == ("", -1, "cancelled")
        assert tokens == whole.tokens[:steps]
    generator.cancel()  # before a prompt: of no concern to it
    assert generator.run(PROMPT, max_tokens=12) == whole


def test_another_thread_may_cancel_at_any_time(generator: Any) -> None:
    whole = generator.run(PROMPT)
    for delay in range(12):
        timer = threading.Timer(delay / 2000, generator.cancel)
        timer.start()
        found, code = None, 0
        try:
            found = generator.run(PROMPT)
        except edgeopt_rt.Failure as exc:  # while the prompt was read
            code = exc.code
        timer.join()
        assert code in (0, edgeopt_rt.CANCELLED)
        if found is not None:
            assert found.end in ("cancelled", whole.end)
            assert found.tokens == whole.tokens[: len(found.tokens)]
    assert generator.run(PROMPT) == whole


def test_the_callback_may_end_an_answer(generator: Any) -> None:
    generator.prompt(PROMPT, max_tokens=12)
    seen: list[int] = []

    @edgeopt_rt._SINK  # type: ignore[untyped-decorator]
    def sink(_: Any, piece: Any) -> int:
        seen.append(piece.contents.token)
        return int(len(seen) == 5)

    run = generator._library.eo_generator_run
    assert run(generator._handle, sink, None, ctypes.byref(edgeopt_rt._Failure())) == 0
    assert len(seen) == 5
    assert run(generator._handle, sink, None, ctypes.byref(edgeopt_rt._Failure())) == 0
    assert seen[:12] == generator.run(PROMPT, max_tokens=12).tokens


def test_a_session_and_a_generator_refuse_the_others_bundle(gpt2: Made, tmp_path: Path) -> None:
    library = str(build_for_host().library)
    with pytest.raises(edgeopt_rt.Failure, match="generates text: open it with eo_generator_open"):
        edgeopt_rt.open(gpt2.bundle.path, library=library)
    checkpoints.write(tmp_path / "bert")
    bert = edgeopt.compile(
        tmp_path / "bert", "host", output=tmp_path / "b", engines=["onnx"], precisions=["fp32"]
    )
    with pytest.raises(edgeopt_rt.Failure, match="generates no text: open it with eo_session_open"):
        edgeopt_rt.Generator(bert.path, library=library)


def test_options_of_a_newer_header_must_be_unset(gpt2: Made, generator: Any) -> None:
    library, failure = generator._library, edgeopt_rt._Failure()
    handle = ctypes.c_void_p()

    class Longer(ctypes.Structure):
        _fields_ = [("known", edgeopt_rt._GeneratorOptions), ("more", ctypes.c_uint64)]

    class More(ctypes.Structure):
        _fields_ = [("known", edgeopt_rt._Sampling), ("more", ctypes.c_uint64)]

    for value, code in ((1, edgeopt_rt.UNSUPPORTED), (0, 0)):
        longer = Longer(more=value)
        longer.known.struct_bytes = ctypes.sizeof(Longer)
        more = More(more=value)
        more.known.struct_bytes = ctypes.sizeof(More)
        prompted = library.eo_generator_prompt(
            generator._handle,
            b"a",
            1,
            ctypes.cast(ctypes.byref(more), ctypes.POINTER(edgeopt_rt._Sampling)),
            failure,
        )
        assert prompted == code
        if value:
            pointer = ctypes.cast(
                ctypes.byref(longer), ctypes.POINTER(edgeopt_rt._GeneratorOptions)
            )
            bundle = generator.bundle._handle
            found = library.eo_generator_open(bundle, pointer, ctypes.byref(handle), failure)
            assert (found, handle.value) == (code, None)


def test_a_decoder_has_beams_too_and_goes_on_from_what_it_has(gpt2: Made) -> None:
    ids = gpt2.tokenizer(PROMPT).input_ids
    with gpt2.open(beams=3) as opened:
        found = opened.run(ids, max_tokens=9, num_beams=3, no_repeat_ngram_size=2)
        assert found.tokens == gpt2.greedy(ids, 9, num_beams=3, no_repeat_ngram_size=2)
        longer = [*ids, *found.tokens]
        assert opened.run(longer, max_tokens=5).tokens == gpt2.greedy(longer, 5)
        assert opened.reused == len(ids) - 1


# ---- states ----

SAMPLED = {"temperature": 1.0, "top_p": 0.9, "repetition_penalty": 1.3, "seed": 5}


@pytest.mark.parametrize("how", [{}, SAMPLED, {"num_beams": 3}], ids=["greedy", "sampled", "beams"])
def test_a_saved_state_goes_on_as_it_would_have(how: dict[str, Any], gpt2: Made) -> None:
    stop = {"max_tokens": 12, "stops": ["\x7fno"]}
    with gpt2.open(beams=3) as first, gpt2.open(context=64, beams=3) as other:
        whole = first.run(PROMPT, **stop, **how)
        for steps in (0, 5, 12):
            first.prompt(PROMPT, **stop, **how)
            begun = [first.next() for _ in range(steps)]
            state = first.save()
            for generator in (first, other):  # of another context, with another prompt before
                generator.run("another", max_tokens=3)
                generator.restore(state)
                assert generator.save() == state
                rest = [generator.next() for _ in range(13 - steps)]
                assert [token for _, token, _ in (*begun, *rest)] == [*whole.tokens, -1]
                assert "".join(text for text, _, _ in (*begun, *rest)) == whole.text
        first.prompt(PROMPT)
        row = 2 * 2 * 4 * 16 * 4
        more = len(first.tokens) * (row + 4)  # of what the cache may take, what it does
        assert more < len(first.save()) < more + 404 * 4 + 400
        longer = [*first.tokens, 5]
        other.restore(first.save())
        other.prompt(longer)
        assert other.reused == len(longer) - 1


def test_a_state_that_is_not_its_own_is_refused_and_changes_nothing(
    gpt2: Made, llama: Made, tmp_path: Path
) -> None:
    with gpt2.open() as generator, gpt2.open(beams=2) as more:
        with pytest.raises(edgeopt_rt.Failure, match="has no prompt to save"):
            generator.save()
        whole = generator.run(PROMPT, max_tokens=12)
        state = generator.save()
        more.prompt(PROMPT, num_beams=2)
        wrong = {
            "is none of this version's": [b"", state[:100], b"EOSTATE2" + state[8:]],
            "is cut short or was changed: its SHA-256 is another": [
                state[:-1],
                state + b"\0",
                state[:-1] + bytes([state[-1] ^ 1]),
            ],
            "is of 2 beams, the generator was opened for up to 1 (beams)": [more.save()],
        }
        with llama.open() as other:
            other.prompt(PROMPT)
            told = "is of another bundle, engine or precision than this generator's"
            wrong[told] = [other.save()]
        generator.prompt(PROMPT, max_tokens=12)
        begun = [generator.next()[1] for _ in range(5)]
        for told, states in wrong.items():
            for given in states:
                with pytest.raises(edgeopt_rt.Failure) as caught:
                    generator.restore(given)
                assert (caught.value.code, caught.value.message) == (edgeopt_rt.INPUT, told)
        assert [*begun, *(generator.next()[1] for _ in range(7))] == whole.tokens
    with (
        gpt2.open(context=12) as short,
        pytest.raises(edgeopt_rt.Failure, match="expected room for them in 12"),
    ):
        short.restore(state)


FIELDS = {"count": 72, "source_count": 76, "cached": 80, "answered": 88, "end": 92, "bytes": 96,
          "stop_count": 100}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_a_digest_is_no_signature(name: str, generator: Any) -> None:
    """What is not sound is refused whoever computed its SHA-256."""
    generator.run(PROMPT, max_tokens=3)
    state = bytearray(generator.save())
    at = FIELDS[name]
    for value in (1 << 31, 0xFFFFFFFF, 999):
        state[at : at + 4] = value.to_bytes(4, "little")
        state[8:40] = hashlib.sha256(state[40:]).digest()
        with pytest.raises(edgeopt_rt.Failure) as caught:
            generator.restore(state)
        assert caught.value.code == edgeopt_rt.INPUT


# ---- hostile bundles, under the sanitizers ----


def test_nothing_is_allocated_after_opening_and_the_sanitizers_find_nothing(
    gpt2: Made, llama: Made
) -> None:
    for flags in ((*FLAGS, "-O1"), SANITIZED):
        driver = program(*flags)
        for made in (gpt2, llama):
            before, after = drive(driver, made.bundle.path).split()
            assert int(before) > 10
            assert int(after) == 0


def state(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["generation"]["states"][0]
    return found


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "none": (
        lambda m: m.pop("generation"),
        "2 manifest.json: generation.states: expected at least one",
    ),
    "name": (
        lambda m: state(m).update(input="other.{}.key"),
        "2 other.0.key: is not in the artifact",
    ),
    "twice": (
        lambda m: state(m).update(input="past.{}.value"),
        "2 past.0.value: is float32 in the artifact, expected float32, and once",
    ),
    "places": (
        lambda m: state(m).update(input="past.{}.{}"),
        "2 manifest.json: generation.input: expected one place for the layer's number",
    ),
    "no place": (
        lambda m: state(m).update(input="past"),
        "2 manifest.json: generation.input: expected one place for the layer's number",
    ),
    "long": (
        lambda m: state(m).update(input="x" * 120),
        "2 manifest.json: generation.input: expected a short name",
    ),
    "fewer": (
        lambda m: state(m).update(count=1),
        "2 past.1.key: is an input of the artifact, but not of the manifest",
    ),
    "more": (lambda m: state(m).update(count=3), "2 past.2.key: is not in the artifact"),
    "count": (
        lambda m: state(m).update(count=257),
        "2 manifest.json: generation.count: expected 1 to 256",
    ),
    "grows": (
        lambda m: state(m).update(dims=[1, 4, 16, 16]),
        '2 manifest.json: generation.dims: expected "past" or "source" once',
    ),
    "size": (
        lambda m: state(m).update(dims=[1, 1 << 21, "past", 16]),
        '2 manifest.json: generation.dims: expected sizes, and "past" or "source"',
    ),
    "huge": (
        lambda m: state(m).update(dims=[1 << 20, 1 << 20, "past", 1 << 20]),
        '2 manifest.json: generation.dims: expected sizes, and "past" or "source"',
    ),
    "rank": (
        lambda m: state(m).update(dims=[1] * 9),
        "2 manifest.json: generation.dims: expected an array of not so many",
    ),
    "type": (
        lambda m: state(m).update(dtype="int64"),
        "2 manifest.json: generation.dtype: expected float32",
    ),
    "since": (
        lambda m: m["generation"].update(since=["1.20"]),
        "2 manifest.json: generation.since: expected versions by engine",
    ),
    "stops": (
        lambda m: m["generation"].update(stops=[-1]),
        "2 manifest.json: generation.stops: expected tokens",
    ),
    "tensors": (
        lambda m: m["artifacts"][0]["artifact"]["graphs"]["main"]["signature"]["inputs"][1].update(
            name="length"
        ),
        "2 manifest.json: artifacts.signature: expected input_ids and total_length, and logits of "
        "a vocabulary",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_states_that_do_not_match_the_graph_are_refused(
    kind: str, gpt2: Made, tmp_path: Path
) -> None:
    change, told = HOSTILE[kind]
    assert drive(program(*SANITIZED), edited(gpt2, tmp_path / "b", change)) == told


def test_an_older_engine_is_refused(gpt2: Made, tmp_path: Path) -> None:
    library = str(build_for_host().library)
    for since in ("2.0", "1.999"):
        bundle = edited(
            gpt2, tmp_path / since, lambda m, v=since: m["generation"].update(since={"onnx": v})
        )
        with pytest.raises(edgeopt_rt.Failure) as caught:
            edgeopt_rt.Generator(bundle, library=library)
        assert caught.value.code == edgeopt_rt.ENGINE
        assert caught.value.message == (
            f"is version {ort.__version__}, and this bundle generates with {since} or newer"
        )
    for since in ("1.20", "0.999"):
        bundle = edited(
            gpt2, tmp_path / since, lambda m, v=since: m["generation"].update(since={"onnx": v})
        )
        edgeopt_rt.Generator(bundle, library=library).close()


@pytest.mark.parametrize("dims", [[1, 4, "past", 32], [1, 2, "past", 16], [4, 1, "past", 16]])
def test_states_of_other_sizes_than_the_graphs_are_found_when_it_opens(
    dims: list[Any], gpt2: Made, tmp_path: Path
) -> None:
    bundle = edited(gpt2, tmp_path / "b", lambda m: state(m).update(dims=dims))
    assert drive(program(*SANITIZED), bundle).startswith("3 run: ")


def test_a_damaged_tokenizer_is_refused(gpt2: Made, tmp_path: Path) -> None:
    shutil.copytree(gpt2.bundle.path, tmp_path / "b")
    path = tmp_path / "b/tokenizer/tokenizer.json"
    path.write_text(path.read_text().replace("ByteLevel", "ByteLovel", 1))
    with pytest.raises(edgeopt_rt.Failure, match="was changed: its SHA-256 is another"):
        edgeopt_rt.Generator(tmp_path / "b", library=str(build_for_host().library))
