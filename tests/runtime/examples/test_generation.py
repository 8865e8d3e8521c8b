# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The examples that generate text, against generate() of transformers."""

from __future__ import annotations

import http.client
import json
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.examples.conftest import Run, tool
from tests.runtime.examples.test_native import make
from tests.runtime.examples.test_server import Serving, python_of, serve

pytestmark = pytest.mark.heavy

PATH = "/v1/completions"
PROMPT = "The library is a tool for"
python = pytest.fixture(python_of, params=["this", "3.6"])


@pytest.fixture(scope="module")
def server(board_folder: Path, environment: dict[str, str], writer: Path) -> Iterator[Serving]:
    with serve(sys.executable, board_folder, environment, writer, "--queue", "2") as running:
        yield running


@pytest.fixture(scope="module")
def wanted(writer: Path) -> tuple[int, str]:
    """How many tokens the prompt has, and what transformers goes on with by 12."""
    import torch
    import transformers

    folder = str(writer.with_suffix(""))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([tokenizer(PROMPT).input_ids])
    made = network.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, pad_token_id=0
    )
    return ids.shape[1], tokenizer.decode(made[0, ids.shape[1] :])


def events(server: Serving, body: dict[str, Any], version: str = "HTTP/1.1") -> list[Any]:
    """Return the events of a streamed answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection._http_vsn = int(version[-1]) + 10  # type: ignore[attr-defined]
    connection._http_vsn_str = version  # type: ignore[attr-defined]
    try:
        connection.request("POST", PATH, json.dumps(body | {"stream": True}))
        response = connection.getresponse()
        assert response.getheader("Content-Type") == "text/event-stream"
        blocks = response.read().decode().split("\n\n")
    finally:
        connection.close()
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") for block in blocks)
    assert blocks.pop() == "data: [DONE]"
    return [json.loads(block[6:]) for block in blocks]


def test_an_answer_comes_whole_or_in_pieces(
    python: str,
    board_folder: Path,
    environment: dict[str, str],
    writer: Path,
    wanted: tuple[int, str],
) -> None:
    count, text = wanted
    asked = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0, "model": "any"}
    with serve(python, board_folder, environment, writer) as server:
        status, found = server.ask("POST", PATH, asked)
        assert status == 200
        assert (found["object"], found["model"]) == ("text_completion", "any")
        (choice,) = found["choices"]
        assert (choice["text"], choice["finish_reason"]) == (text, "length")
        assert found["usage"] == {
            "prompt_tokens": count,
            "completion_tokens": 12,
            "total_tokens": count + 12,
        }
        for version in ("HTTP/1.1", "HTTP/1.0"):
            *pieces, last = events(
                server, asked | {"stream_options": {"include_usage": True}}, version
            )
            assert "".join(one["choices"][0]["text"] for one in pieces) == text
            assert len(pieces) > 3
            ends = [one["choices"][0]["finish_reason"] for one in pieces]
            assert ends == [None] * (len(pieces) - 1) + ["length"]
            assert (last["choices"], last["usage"]) == ([], found["usage"])
            assert len({one["id"] for one in (*pieces, last)}) == 1
        assert server.metric('edgeopt_tokens_total{of="answer"}') == 36
        assert server.metric("edgeopt_first_token_seconds_count") == 3
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_sampling_is_as_the_runtime_has_it(server: Serving) -> None:
    asked: dict[str, Any] = {"prompt": [PROMPT], "max_tokens": 20, "seed": 3}

    def text(**more: Any) -> str:
        status, found = server.ask("POST", PATH, asked | more)
        assert status == 200, found
        answer: str = found["choices"][0]["text"]
        return answer

    first = text()
    assert text() == first
    assert text(seed=4) != first
    assert len({text(seed=None) for _ in range(3)}) > 1
    stop = first[len(first) // 2 :][:3]
    assert text(stop=stop) == first[: first.index(stop)]


REFUSED: dict[str, tuple[Any, str]] = {
    "body": ([], 'expected {"prompt": ...'),
    "prompt": ({"prompt": 3}, "prompt: expected a string, or a list of tokens"),
    "empty": ({"prompt": ""}, "has no tokens, expected at least one"),
    "long": ({"prompt": "a " * 400}, "expected up to 160: the context"),
    "token": ({"prompt": [1, 100_000]}, "holds 100000 at 1, expected 0 to"),
    "n": ({"prompt": "a", "n": 2}, "n: only 1 is taken here"),
    "unknown": ({"prompt": "a", "prefix": 2}, "prefix: is not known here"),
    "temperature": ({"prompt": "a", "temperature": "hot"}, "temperature: expected a number"),
    "top_p": ({"prompt": "a", "top_p": 2}, "top_p: is 2, expected 0 to 1"),
    "stop": ({"prompt": "a", "stop": [""]}, "text 0 is no UTF-8 of 1 to 255 bytes"),
    "stream": ({"prompt": "a", "stream": 1}, "stream: expected true or false"),
    "seed": ({"prompt": "a", "seed": 1 << 64}, "seed: expected up to"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_wrong_is_told_before_an_answer_begins(
    kind: str, stream: bool, server: Serving
) -> None:
    body, told = REFUSED[kind]
    if stream and isinstance(body, dict):
        body = {"stream": True} | body
    status, answer = server.ask("POST", PATH, body)
    assert status == 400
    error = answer["error"]
    assert told in f"{error.get('where')}: {error['message']}"


def test_who_goes_away_frees_the_generator(server: Serving) -> None:
    asked = {"prompt": "a", "max_tokens": 150, "temperature": 0, "stream": True}
    for _ in range(3):  # more than there are generators
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", PATH, json.dumps(asked))
        response = connection.getresponse()
        response.read(20)
        connection.close()
        response.close()
    assert server.ask("POST", PATH, {"prompt": "a", "max_tokens": 1})[0] == 200
    assert server.metric("edgeopt_queue_prompts") == 0


def test_more_than_may_wait_are_refused_and_a_stop_ends_what_is_written(
    board_folder: Path, environment: dict[str, str], writer: Path
) -> None:
    words = [writer, "--queue", "0", "--allow-swap"]
    with serve(sys.executable, board_folder, environment, *words) as server:
        asked = {"prompt": "a", "max_tokens": 150}
        statuses = set()
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                statuses.add(server.ask("POST", PATH, asked)[0])

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 60
        while 503 not in statuses and time.monotonic() < until:
            time.sleep(0.02)
        swapped = server.ask("POST", "/v1/swap")[0]
        stop.set()
        for thread in threads:
            thread.join()
        assert statuses == {200, 503}
        assert swapped == 200
        assert server.ask("POST", PATH, {"prompt": "a", "max_tokens": 1})[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_it_is_written_in_c(
    prefix: Path, writer: Path, wanted: tuple[int, str], run: Run, tmp_path: Path
) -> None:
    (library,) = prefix.glob("lib*/libedgeopt_rt.so")
    program = make(tmp_path, "generate", "-O2", RT=prefix, LIB=library.parent)
    done = run(program, writer, PROMPT, "a")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(PROMPT + wanted[1])
    assert re.fullmatch(
        r"writer on onnx [\d.]+, fp32; 160 tokens, 0\.2 MB of cache\n", done.stderr
    ), done.stderr
    wrong = run(program, writer, "a " * 400, PROMPT)
    assert wrong.returncode == 1
    assert wrong.stderr.endswith("expected up to 160: the context\n")
    assert PROMPT + wanted[1] in wrong.stdout
    assert run(program, tmp_path, "a").returncode == 2


WRITTEN = """
#include <edgeopt_rt.hpp>
#include <iostream>

int main(int, char **argv)
try {
    eo_generator_options options = edgeopt::generator_options();
    options.context = 60;
    edgeopt::generator generator{edgeopt::bundle{argv[1]}, options};
    eo_sampling how = edgeopt::sampling();
    how.max_tokens = 12;
    generator.prompt(argv[2], how);
    const auto print = [](std::string_view text) { std::cout << text; return true; };
    const eo_end end = generator.run(print);
    const std::vector<int32_t> tokens = generator.tokens();
    generator.prompt(tokens);
    const eo_end stopped = generator.run([](std::string_view) { return false; });
    std::cout << "\\n" << (end == EO_END_LENGTH) << (stopped == EO_END_NONE) << ' '
              << generator.context() << ' ' << tokens.size() << ' ' << generator.reused() << "\\n";
    generator.prompt(std::vector<int32_t>{});
} catch (const edgeopt::error &failure) {
    std::cout << failure.what();
    return failure.code;
}
"""


def test_it_is_written_in_cpp(
    prefix: Path, writer: Path, wanted: tuple[int, str], run: Run, tmp_path: Path
) -> None:
    (library,) = prefix.glob("lib*/libedgeopt_rt.so")
    (tmp_path / "written.cpp").write_text(WRITTEN)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{prefix / 'include'}"]
    flags += [library, f"-Wl,-rpath,{library.parent}"]
    built = run(tool("g++"), tmp_path / "written.cpp", *flags, "-o", tmp_path / "written")
    assert built.returncode == 0, built.stderr
    done = run(tmp_path / "written", writer, PROMPT)
    text, _, rest = done.stdout.rpartition("\n11 60 ")
    count = wanted[0] + 12
    assert text == wanted[1]
    assert rest == f"{count} {count - 1}\nprompt: has no tokens, expected at least one"
    assert done.returncode == 1  # EO_EINPUT
