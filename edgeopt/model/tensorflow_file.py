# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A SavedModel or a Keras file, loaded and run by TensorFlow, and the forms that are converted."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model.network_call import KERAS, Network, NetworkFile, Port
from edgeopt.model.signature import TensorSpec
from edgeopt.quiet import quiet

GRAPH = "saved_model.pb"
"""The file that makes a folder a SavedModel."""

_DEFAULT = "serving_default"
_REACHING_OUT = ("ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "EagerPyFunc", "LoadLibrary",
                 "ShellExecute", "SaveV2", "PrintV2")  # fmt: skip
"""Operators of TensorFlow that read or write files, or run code, when a network is called."""

_PASSES = ("Identity", "Squeeze", "Reshape", "Cast", "ExpandDims")


def tensorflow() -> Any:
    """Return TensorFlow, which leaves GPUs alone. Raises MissingDependencyError."""
    with quiet():
        tf: Any = require("tensorflow", "tensorflow")
        with contextlib.suppress(RuntimeError):  # if the process used them before
            tf.config.set_visible_devices([], "GPU")
    return tf


class TensorFlowNetwork:
    """A function of TensorFlow, which takes ``specs`` by name.

    ``owner`` holds its variables. ``signature`` is a SavedModel's.
    """

    def __init__(
        self, owner: Any, function: Any, specs: Mapping[str, Any], signature: str = ""
    ) -> None:
        self.owner, self.function, self.specs = owner, function, specs
        self.signature = signature
        self.tool = f"TensorFlow {tensorflow().__version__}"
        self.inputs = tuple(
            Port(name=name, dtype=spec.dtype.name, dims=_dims(spec)) for name, spec in specs.items()
        )
        lengths = {p.dims[1] for p in self.inputs if len(p.dims) == 2}
        self.seq_lens = tuple(sorted(n for n in lengths if n is not None))
        self._makers: dict[str, str] | None = None

    def operator(self, output: str) -> str:
        """Return the operator that makes an output."""
        if self._makers is None:
            self._makers = self._look()
        return self._makers.get(output, "")

    def _look(self) -> dict[str, str]:
        with quiet():
            graph = frozen(self.function)
            names = sorted(self.function.structured_outputs)
        found = {}
        for name, tensor in zip(names, graph.outputs, strict=True):
            made = tensor.op
            while made.type in _PASSES and made.inputs:
                made = made.inputs[0].op
            found[name] = made.type.lower()
        return found

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return all outputs; raises TensorFlow's own errors."""
        tf = tensorflow()
        given = {
            name: tf.constant(feeds[name].astype(spec.dtype.name))
            for name, spec in self.specs.items()
        }
        return {name: value.numpy() for name, value in self.function(**given).items()}


def _dims(spec: Any) -> tuple[int | None, ...]:
    return () if spec.shape.rank is None else tuple(spec.shape.as_list())


def open_file(path: Path, kind: str, signature: str = "") -> TensorFlowNetwork:
    """Load a SavedModel's folder or a Keras file.

    ``signature`` is a SavedModel's, "" for its default. Raises InputError for a file that is
    damaged or runs code, and MissingDependencyError without TensorFlow.
    """
    tensorflow()
    network = _keras(path) if kind == KERAS else _saved_model(path, signature)
    _check_operators(network, path)
    return network


def _saved_model(path: Path, asked: str) -> TensorFlowNetwork:
    tf = tensorflow()
    if not (path / GRAPH).is_file():
        raise InputError(
            f"has no {GRAPH}, so it is no SavedModel",
            where=str(path),
            hint="Give the folder that tf.saved_model.save() or model.export() wrote.",
        )
    try:
        with quiet():
            loaded = tf.saved_model.load(str(path))
    # TensorFlow raises errors of its own, of protobuf and of Python's for what is damaged.
    except Exception as exc:
        raise InputError(
            f"TensorFlow cannot load it ({_reason(exc)})",
            where=str(path),
            hint="It is damaged, or lacks files beside saved_model.pb: copy or save it again.",
        ) from exc
    name = _signature(path, sorted(loaded.signatures), asked)
    function = loaded.signatures[name]
    return TensorFlowNetwork(loaded, function, function.structured_input_signature[1], name)


def _signature(path: Path, names: Sequence[str], asked: str) -> str:
    """Return the signature to take. Raises InputError if it is not plain which."""
    if asked and asked not in names:
        raise InputError(
            f"has no signature {asked!r}, only {', '.join(names) or 'none'}", where=str(path)
        )
    if asked or len(names) == 1:
        return asked or names[0]
    if not names:
        raise InputError(
            "has no signature, which says how it is called",
            where=str(path),
            hint="Save it with tf.saved_model.save(model, folder, signatures=...), or by "
            "model.export() of Keras.",
        )
    if _DEFAULT not in names:
        raise InputError(
            f"has several signatures: {', '.join(names)}",
            where=str(path),
            hint="Choose one with --signature NAME.",
        )
    others = [name for name in names if name != _DEFAULT]
    progress.note(f"{path}: its signature {_DEFAULT} is taken, not {', '.join(others)}")
    return _DEFAULT


def _keras(path: Path) -> TensorFlowNetwork:
    tf = tensorflow()
    keras = tf.keras
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"Keras is set to compute with {keras.backend.backend()}",
            where=str(path),
            hint="Unset KERAS_BACKEND, or set it to tensorflow.",
        )
    try:
        with quiet():
            model = keras.models.load_model(str(path), compile=False, safe_mode=True)
    # Keras raises ValueError and TypeError, h5py OSError and KeyError, zipfile its own.
    except Exception as exc:
        unsafe = "Lambda" in str(exc) or "unsafe" in str(exc).lower()
        raise InputError(
            f"Keras does not load it ({_reason(exc)})",
            where=str(path),
            hint="Code in a file is not run: save the model with Keras's own layers alone."
            if unsafe
            else "Layers of your own: export a SavedModel by model.export(). Else the file is "
            "damaged: save it again.",
        ) from exc
    return _of_model(model, path, tf, keras)


def _of_model(model: Any, path: Path, tf: Any, keras: Any) -> TensorFlowNetwork:
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise InputError(
            f"is a {type(model).__name__} that names no inputs",
            where=str(path),
            hint="Build it of keras.Input and layers, or export() it as a SavedModel.",
        )
    names = [_plain(tensor.name) for tensor in inputs]
    specs = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype, name=name)
        for name, tensor in zip(names, inputs, strict=True)
    }
    if isinstance(model, keras.Sequential):  # which has one input and one output, without names
        given_as, outputs = inputs[0], [model.layers[-1].name]
    else:
        given_as, gives = model.input, model.output
        outputs = sorted(gives) if isinstance(gives, dict) else list(model.output_names)

    def function(**feeds: Any) -> dict[str, Any]:
        given = tf.nest.pack_sequence_as(given_as, [feeds[name] for name in names])
        found = tf.nest.flatten(model(given, training=False))
        return dict(zip(outputs, found, strict=True))

    try:
        with quiet():
            traced = tf.function(function).get_concrete_function(**specs)
    # Layers may raise anything.
    except Exception as exc:
        raise InputError(f"TensorFlow cannot trace it ({_reason(exc)})", where=str(path)) from exc
    return TensorFlowNetwork(model, traced, specs)


def _plain(name: str) -> str:
    return name.split(":")[0]


def _check_operators(network: TensorFlowNetwork, path: Path) -> None:
    """Raise InputError if a call of the network reaches out of it."""
    graph = network.function.graph.as_graph_def()
    used = {n.op for n in graph.node} | {n.op for f in graph.library.function for n in f.node_def}
    if bad := sorted(used & set(_REACHING_OUT)):
        raise InputError(
            f"has operators that read or write files, or run code: {', '.join(bad)}",
            where=str(path),
            hint="Save the network alone.",
        )


def frozen(function: Any) -> Any:
    """Return a concrete function as one flat graph with its variables as constants."""
    freeze: Any = require("tensorflow.python.framework.convert_to_constants", "tensorflow")
    return freeze.convert_variables_to_constants_v2(function)


def _reason(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return (lines or [type(exc).__name__])[0][:240]


def wrapped(
    network: Network,
    file: NetworkFile,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    sizes: Mapping[str, int | None],
) -> tuple[Any, list[Any]]:
    """Return a tf.function by our names, and what it takes.

    ``sizes`` has batch and seq, None for free ones.
    """
    tf = tensorflow()
    if not isinstance(network, TensorFlowNetwork):
        raise TypeError(f"{type(network).__name__} is no network of TensorFlow")
    specs = [
        tf.TensorSpec([sizes[d] if isinstance(d, str) else d for d in t.dims], t.dtype, name=t.name)
        for t in inputs
    ]
    ours = [t.name for t in inputs]

    def function(*tensors: Any) -> dict[str, Any]:
        given = dict(zip(ours, tensors, strict=True))
        feeds = {}
        for port in file.feeds:
            value = given.get(port.ours)
            if value is None:
                ids = given["input_ids"]
                value = _made(tf, port.ours, ids)
            feeds[port.name] = tf.cast(value, port.dtype)
        found = network.function(**feeds)
        results = {}
        for ours_, name in zip(outputs, file.outputs, strict=True):
            value = tf.cast(found[name], tf.float32)
            results[ours_.name] = tf.expand_dims(value, 1) if file.column else value
        return results

    return tf.function(function, input_signature=specs), specs


def _made(tf: Any, name: str, ids: Any) -> Any:
    """Return an input that no tokenizer gives: types of a text alone, or positions."""
    if name == "position_ids":
        return tf.broadcast_to(tf.range(tf.shape(ids)[1])[None], tf.shape(ids))
    return tf.zeros_like(ids) if name == "token_type_ids" else tf.ones_like(ids)
