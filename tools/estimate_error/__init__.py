# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Fit the estimator to the published latencies, and tell its error on what it did not see."""
