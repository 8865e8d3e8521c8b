# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""llama.cpp in Q8_0 and Q4_0, by llama-cpp-python: its own converter and quantiser."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.benchmarks.peers.llama_cpp import PACKAGES, REQUIREMENTS, converter

__all__ = ["PACKAGES", "REQUIREMENTS", "VARIANTS", "generator", "make"]

VARIANTS = {"llama.cpp Q8_0": "q8_0", "llama.cpp Q4_0": "q4_0"}

# Prompts are tokens here, so how a text is split is not asked. The converter knows the ways to do
# that by a hash of what they make of one text, and refuses all others.
_CONVERT = """
import runpy, sys
from pathlib import Path
sys.argv.pop(0)
sys.path.insert(0, str(Path(sys.argv[0]).parent))
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def make(model: Path, folder: Path) -> None:
    """Convert the network, and quantise it."""
    import ctypes

    import llama_cpp

    program = converter(folder)
    whole = folder / "f32.gguf"
    given = _readable(model, folder / "checkpoint")
    words = [str(program), str(given), "--outtype", "f32", "--outfile", str(whole)]
    subprocess.run(
        [sys.executable, "-c", _CONVERT, *words],
        check=True,
        env={"PYTHONPATH": str(program.parent / "gguf-py")},
    )
    shutil.rmtree(folder / "sources")
    kinds = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}
    for name, kind in kinds.items():
        how = llama_cpp.llama_model_quantize_default_params()
        how.ftype, how.nthread = kind, 1
        failed = llama_cpp.llama_model_quantize(
            str(whole).encode(), str(folder / f"{name}.gguf").encode(), ctypes.byref(how)
        )
        if failed:
            raise SystemExit(f"llama_model_quantize to {name} returned {failed}")
    whole.unlink()


def _readable(model: Path, folder: Path) -> Path:
    """Return ``model``, which transformers 5 may have saved, as the converter reads it.

    It wants a GPT-2's context under its old name too, and runs in an older transformers, which does
    not know the newer class of tokenizers.
    """
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).symlink_to(path.resolve())
    changes = {
        "config.json": lambda told: {"n_ctx": told.get("n_positions")} | told,
        "tokenizer_config.json": lambda told: told | {"tokenizer_class": "PreTrainedTokenizerFast"},
    }
    for name, change in changes.items():
        told = json.loads((model / name).read_text())
        (folder / name).unlink()
        (folder / name).write_text(json.dumps(change(told)))
    return folder


def generator(
    variant: str, model: Path, folder: Path, context: int
) -> Callable[[Sequence[int], int, Callable[[int], None]], None]:
    """Return what goes on with a prompt."""
    from llama_cpp import Llama

    network = Llama(
        str(folder / f"{variant}.gguf"), n_ctx=context, n_threads=1, n_threads_batch=1,
        verbose=False,
    )  # fmt: skip

    def generate(prompt: Sequence[int], count: int, told: Callable[[int], None]) -> None:
        network.reset()
        made = network.generate(list(prompt), temp=0.0, reset=True)
        for _ in range(count):
            told(next(made))

    return generate
