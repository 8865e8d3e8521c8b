# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The signal that stands for Ctrl-C in a process that a test starts."""

import signal

# A test run in the background of a shell ignores SIGINT, and so do its children; SIGTERM is
# handled alike.
_IGNORED = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
INTERRUPT = signal.SIGTERM if _IGNORED else signal.SIGINT
