# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The version of edgeopt: the wheel has it from here, and edgeopt_rt.h repeats it."""

__version__ = "0.1.0"
