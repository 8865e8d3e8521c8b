# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What TVM's INT8 can do of a recipe's ``[quantize]`` table."""

from __future__ import annotations

from edgeopt.quantize import Abilities

ABILITIES = Abilities(
    activations={"int8": ("dynamic",)},
    algorithms={},
    groups={},
    why={
        "activations static": "the kernels take each row in a range of its own",
        "activations none": "the kernels multiply INT8 by INT8",
    },
)
