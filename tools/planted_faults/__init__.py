# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Faults planted into real artifacts, and what of them the checks of ``compile`` catch.

The checks are not called by themselves: ``edgeopt.pipeline.compile`` and
``edgeopt.bundle.verify.verify`` run whole, with the fault in what one step of them hands on.
"""
