# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a network costs on a device before it runs there: counted, or by a table of timings."""
