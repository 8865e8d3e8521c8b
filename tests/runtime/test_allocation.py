# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Between open and close the library allocates nothing, and onnxruntime keeps no diary."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import edgeopt
from edgeopt.runtime.build import FLAGS, library_sources
from tests import checkpoints
from tests.programs import compiled
from tests.runtime.allocations import COUNTER, WRAPPED
from tests.runtime.poolings import write_pooling

pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")

pytestmark = pytest.mark.heavy

DRIVER = (
    COUNTER
    + """
int main(int argc, char **argv)
{
    eo_session_options options = EO_SESSION_OPTIONS;
    eo_failure failure;
    eo_bundle *bundle;
    eo_session *session;
    int before;

    options.libraries = argv[2];
    if (argc != 3 || eo_bundle_open(argv[1], &bundle, &failure) != EO_OK ||
        eo_session_open(bundle, &options, &session, &failure) != EO_OK) {
        return printf("%s\\n", failure.message), 1;
    }
    before = allocations;
    for (size_t i = 0; i < 40; i++) {
        char words[400];
        memset(words, 'a', sizeof words);
        for (size_t j = 0; j < sizeof words; j += 1 + i % 7) {
            words[j] = ' ';
        }
        eo_text text = {words, i * 10, "the tool of a library", 21};
        if (eo_session_run_texts(session, &text, 1, &failure) != EO_OK ||
            eo_session_result(session, 0) == NULL) {
            return printf("%s\\n", failure.message), 1;
        }
    }
    printf("%d %d\\n", before, allocations - before);
    eo_session_close(session);
    eo_bundle_close(bundle);
    return 0;
}
"""
)


@pytest.mark.parametrize(
    "architecture",
    ["BertForSequenceClassification", "BertForTokenClassification", "RobertaModel", "BertModel"],
)
def test_runs_allocate_nothing(
    architecture: str, onnxruntime_library: Path, tmp_path: Path
) -> None:
    folder = checkpoints.write(tmp_path / "checkpoint", architecture)
    if architecture == "BertModel":  # an embedding behind a prompt
        write_pooling(folder, "mean")
        prompts = {"prompts": {"query": "the tool: "}, "default_prompt_name": "query"}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    bundle = edgeopt.compile(
        folder, "host",
        output=tmp_path / "b.edgeopt", engines=["onnx"], precisions=["fp32"],
    )  # fmt: skip
    source = tmp_path / "driver.c"
    source.write_text(DRIVER)
    wraps = [f"-Wl,--wrap={name}" for name in WRAPPED]
    libraries = ("-ldl", "-lm", "-lpthread")
    program = compiled("driver", *FLAGS, "-O1", *wraps, source, *library_sources(), *libraries)
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [program, bundle.path, onnxruntime_library],
        env={name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
        | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    opening, running = map(int, done.stdout.split())
    assert opening > 10
    assert running == 0
    assert list(home.rglob("*")) == []
