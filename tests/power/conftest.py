# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from tests.runtime.conftest import agent

__all__ = ["agent"]
