# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Measuring on a board, and timing on this machine: sessions, raw samples, statistics."""
