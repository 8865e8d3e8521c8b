# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Emulated boards: an Arm Linux with a real sshd on this machine, without root.

``user_mode`` runs an arm64 or armhf userland in namespaces of its own under QEMU (starts in half
a second); ``full_system`` boots Debian's arm64 kernel under qemu-system-aarch64 (a few seconds).
Both give what is exact: whether a bundle runs, and whether its outputs agree. Their wall time is
not a device's latency.
"""
