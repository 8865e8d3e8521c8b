# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The engines that run on boards: the one list of their names.

The C library has the same in its own words: ``src/engines/discover.c`` and the files beside it,
``export/CMakeLists.txt`` and ``export/README.md``; ``tests/runtime/test_engine_names.py`` compares
them.
"""

ENGINES = ("onnx", "tflite", "openvino", "tvm")
"""In the order in which they are shown and looked for."""
