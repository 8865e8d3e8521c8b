# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Put bundles on a board: the store there, and what a bundle needs beside its own files."""
