# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The tiny models and their texts are those of the techniques' tests."""

from tests.compression.conftest import bert, data, model, texts_file  # noqa: F401
