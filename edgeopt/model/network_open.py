# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Open the network of a file in the tool that its user has, by the kind of file."""

from __future__ import annotations

from edgeopt.model import tensorflow_file, tflite_file
from edgeopt.model.network_call import TFLITE, Network, NetworkFile


def open_network(file: NetworkFile) -> Network:
    """Return the opened network. Raises MissingDependencyError if its tool is not installed."""
    if file.kind == TFLITE:
        content = tflite_file.read(file.path)
        return tflite_file.TfliteNetwork(file.path, tflite_file.functions(content, str(file.path)))
    return tensorflow_file.open_file(file.path, file.kind, file.signature)
