# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Counters and histograms in Prometheus' text format, version 0.0.4."""

import bisect
import threading

LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
BATCH = (1, 2, 4, 8, 16, 32)


class Counter:
    """Counts by one label."""

    def __init__(self, name, text, label):
        """Begin with no count."""
        self._head = f"# HELP {name} {text}\n# TYPE {name} counter"
        self._name, self._label = name, label
        self._counts = {}
        self._lock = threading.Lock()

    def add(self, value, count=1):
        """Count ``count`` more."""
        with self._lock:
            self._counts[value] = self._counts.get(value, 0) + count

    def lines(self):
        """Return the lines of one scrape."""
        with self._lock:
            counts = sorted(self._counts.items())
        form = '{}{{{}="{}"}} {}'
        return [self._head] + [form.format(self._name, self._label, v, n) for v, n in counts]


class Histogram:
    """Counts of values up to given bounds."""

    def __init__(self, name, text, bounds):
        """Begin with no value."""
        self._head = f"# HELP {name} {text}\n# TYPE {name} histogram"
        self._name, self._bounds = name, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0
        self._lock = threading.Lock()

    def add(self, value):
        """Take in one value."""
        with self._lock:
            self._counts[bisect.bisect_left(self._bounds, value)] += 1
            self._sum += value

    def lines(self):
        """Return the lines of one scrape."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        lines, below = [self._head], 0
        for bound, count in zip([*self._bounds, "+Inf"], counts):
            below += count
            lines.append(f'{self._name}_bucket{{le="{bound}"}} {below}')
        return [*lines, f"{self._name}_sum {total}", f"{self._name}_count {below}"]


def gauge(metric, text, value, **labels):
    """Return the lines of one value of now."""
    escaped = [
        '{}="{}"'.format(k, v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for k, v in labels.items()
    ]
    inside = "{" + ",".join(escaped) + "}" if labels else ""
    head = f"# HELP {metric} {text}\n# TYPE {metric} gauge"
    return [head, f"{metric}{inside} {value}"]
