# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The tensors inside a TFLite file: LiteRT with its plain kernels, which keep every tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeopt.backends import Artifact, Batch
from edgeopt.backends.inside import Inside, Tensor, split
from edgeopt.backends.tflite import run_plain, signature_name
from edgeopt.extras import require
from edgeopt.model import Model
from edgeopt.quiet import quiet

_MODEL = "module"  # what edgeopt's wrapper calls the network
_FLOAT32 = 0  # tflite::TensorType_FLOAT32


def inside(model: Model, artifact: Artifact, directory: Path, batch: Batch) -> Inside:
    """Run the file without XNNPACK, whose kernels run across several operators."""
    del model
    path = str(directory / artifact.main.files[0])
    interpreter, outputs = run_plain(artifact, directory, batch)
    with quiet():
        require("ai_edge_quantizer", "tflite")
        from ai_edge_quantizer.utils import tfl_flatbuffer_utils as flatbuffer

        file = flatbuffer.read_model(path)
    length = artifact.main.signature.seq_len({name: v.shape for name, v in batch.items()})
    wanted = signature_name(length).encode()
    graph = next(s.subgraphIndex for s in file.signatureDefs if bytes(s.signatureKey) == wanted)
    kinds = {code: name for name, code in flatbuffer.TFL_OP_NAME_TO_CODE.items()}
    tensors = []
    for operator in file.subgraphs[graph].operators:
        code = file.operatorCodes[operator.opcodeIndex].builtinCode
        for index in map(int, operator.outputs):
            spec = file.subgraphs[graph].tensors[index]
            if spec.type != _FLOAT32:
                continue
            try:
                value = np.array(interpreter.get_tensor(index, graph))
            except ValueError:  # an operator of weights alone ran before, and let go of its result
                continue
            name = spec.name.decode()
            kind = str(getattr(kinds.get(code), "value", f"operator {code}"))
            tensors.append(Tensor(name=name, operator=kind, scope=scope_of(name), value=value))
    return Inside(tensors=tensors, outputs=outputs)


def scope_of(name: str) -> tuple[str, ...]:
    """Return the modules' names: the converter writes each as CLASS_NAME, classes by full name.

    A tensor that several modules share has them all, with ";" between; the last made it.
    """
    paths = [path for path in name.split(";") if "/" in path]
    parts = split(paths[-1], "/") if paths else ()
    names = [part.rpartition(".")[2].partition("_")[2] for part in parts]
    return tuple(names[names.index(_MODEL) + 1 :]) if _MODEL in names else ()
