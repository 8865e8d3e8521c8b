# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The tensors inside an OpenVINO model: a copy of it in which every value is a result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeopt.backends import Artifact, Batch, Outputs
from edgeopt.backends.inside import Inside, Tensor, split
from edgeopt.backends.openvino import compiled_on_host
from edgeopt.model import Model

_MODULE = "__module."


def inside(model: Model, artifact: Artifact, directory: Path, batch: Batch) -> Inside:
    """Run the file with all values as results, which keeps the plugin from fusing over them."""
    del model
    names = [spec.name for spec in artifact.main.signature.outputs]
    found: list[tuple[str, str, tuple[str, ...]]] = []

    def show(network: object) -> None:
        ports = []
        for node in network.get_ordered_ops():  # type: ignore[attr-defined]
            kind = node.get_type_name()
            if kind in ("Constant", "Parameter", "Result", "Convert") or _of_weights(node):
                continue
            port = node.output(0)
            if any(to.get_node().get_type_name() == "Result" for to in port.get_target_inputs()):
                continue  # it is given as it is
            if port.get_element_type().get_type_name() in ("f32", "f16"):
                name = node.get_friendly_name()
                where = name.partition("/")[0]
                scope = split(where.removeprefix(_MODULE)) if where.startswith(_MODULE) else ()
                found.append((name, kind, scope))
                ports.append(port)
        network.add_outputs(ports)  # type: ignore[attr-defined]

    request = compiled_on_host(artifact, directory, threads=1, change=show).create_infer_request()
    results = request.infer(dict(batch))
    arrays = [np.array(results[i], dtype=np.float32) for i in range(len(names) + len(found))]
    return Inside(
        tensors=[
            Tensor(name=name, operator=kind, scope=scope, value=value)
            for (name, kind, scope), value in zip(found, arrays[len(names) :], strict=True)
        ],
        outputs=dict(zip(names, arrays, strict=False)),
    )


def fused(artifact: Artifact, directory: Path, batch: Batch, keep: Sequence[str]) -> Outputs:
    """Run the file as it is, but with the values ``keep`` as results too."""
    names = [spec.name for spec in artifact.main.signature.outputs]

    def show(network: object) -> None:
        nodes = network.get_ordered_ops()  # type: ignore[attr-defined]
        ports = [node.output(0) for node in nodes if node.get_friendly_name() in keep]
        if ports:
            network.add_outputs(ports)  # type: ignore[attr-defined]

    request = compiled_on_host(artifact, directory, threads=1, change=show).create_infer_request()
    results = request.infer(dict(batch))
    return {name: np.array(results[i], dtype=np.float32) for i, name in enumerate(names)}


def _of_weights(node: object) -> bool:
    """Tell whether a node is of constants alone: a weight that is made floating point again."""
    inputs = node.inputs()  # type: ignore[attr-defined]
    sources = [port.get_source_output().get_node() for port in inputs]
    return bool(sources) and all(
        source.get_type_name() == "Constant" or (source.inputs() and _of_weights(source))
        for source in sources
    )
