# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a process of ``edgeopt.beside`` does in a test: it starts another and sleeps."""

import os
import subprocess
import time
from pathlib import Path

from edgeopt.beside import given

if __name__ == "__main__":
    place = Path(given())
    other = subprocess.Popen(["sleep", "600"])
    (place / "part").write_text(f"{os.getpid()} {other.pid}")
    (place / "part").rename(place / "pids")
    time.sleep(600)
