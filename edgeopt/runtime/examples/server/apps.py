# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What the server does with a bundle and with requests; knows nothing of sockets."""

from abc import ABC, abstractmethod

import edgeopt_pool
import edgeopt_rt
from metrics import BATCH, LATENCY_S, Counter, Histogram, gauge
from runner import Full, Runner


class Refused(Exception):
    """An answer other than 200: its status, and what the client reads."""

    def __init__(self, status, message, **more):
        """Keep them."""
        super().__init__(message)
        self.status = status
        self.error = dict(message=message, **more)

    @classmethod
    def by(cls, failure):
        """Return what the runtime refused, or could not do."""
        status = 400 if failure.code == edgeopt_rt.INPUT else 500
        return cls(status, failure.message, where=failure.where, code=failure.code)


class App(ABC):
    """What every bundle is served with; ``path`` is where requests for it go."""

    path = ""

    def __init__(self, options):
        """Begin with no count."""
        self.options = options
        self.requests = Counter("edgeopt_requests_total", f"Answers to {self.path}.", "status")
        self.swaps = Counter("edgeopt_swaps_total", "Bundles opened anew.", "outcome")
        self.dropped = Counter("edgeopt_dropped_total", "Connections without an answer.", "reason")
        self.latency = Histogram("edgeopt_request_seconds", f"Time of {self.path}.", LATENCY_S)

    @property
    @abstractmethod
    def bundle(self):
        """The Bundle that runs."""

    @abstractmethod
    def run(self, body):
        """Answer a request's JSON: a dict, or a generator of events (bytes). Raises Refused."""

    @abstractmethod
    def open_anew(self):
        """Open the bundle at its path and go on with it. Raises Failure, and the old one stays."""

    def swap(self, _body=None):
        """Open the bundle anew; if that fails the old one stays."""
        try:
            self.open_anew()
        except edgeopt_rt.Failure as exc:
            self.swaps.add("failed")
            raise Refused(500, exc.message, where=exc.where, code=exc.code) from exc
        self.swaps.add("done")
        return self.health()

    def health(self, _body=None):
        """Answer GET /health."""
        bundle = self.bundle
        return {"status": "ok", "name": bundle.name, "task": bundle.task, "bundle": bundle.digest}

    @abstractmethod
    def figures(self):
        """Return the lines of the figures that other bundles have not."""

    @abstractmethod
    def stop(self):
        """Take no more requests; ``close`` comes when all are answered."""

    @abstractmethod
    def close(self):
        """Close the bundle."""

    def metrics(self):
        """Answer GET /metrics."""
        bundle = self.bundle
        lines = [
            *self.requests.lines(),
            *self.dropped.lines(),
            *self.latency.lines(),
            *self.figures(),
            *self.swaps.lines(),
            *gauge("edgeopt_bundle", "What runs.", 1, name=bundle.name, digest=bundle.digest),
        ]
        return "\n".join(lines) + "\n"


def texts_of(body):
    """Return the texts, or (text, pair) tuples, that a request's JSON asks for."""
    if isinstance(body, dict) and set(body) == {"texts"} and isinstance(body["texts"], list):
        asked = body["texts"]
    elif isinstance(body, dict) and "text" in body and set(body) <= {"text", "pair"}:
        asked = [[body["text"], body["pair"]] if "pair" in body else body["text"]]
    else:
        raise Refused(400, 'expected {"text": ..., "pair": ...} or {"texts": [...]}')
    texts = []
    for i, one in enumerate(asked):
        parts = one if isinstance(one, list) and len(one) == 2 else [one]
        if not all(isinstance(part, str) for part in parts):
            raise Refused(400, f"text {i}: expected a string or two of them")
        texts.append(tuple(parts) if len(parts) == 2 else one)
    if not texts:
        raise Refused(400, "no text")
    return texts


def as_json(result):
    """Return what the client reads of one Result."""
    return {
        "items": [item._asdict() for item in result.items],
        "vector": None if result.vector is None else [float(v) for v in result.vector],
        "tokens": result.tokens,
        "truncated": result.truncated,
    }


class Texts(App):
    """Texts to what a task makes of them, by a pool of sessions and a queue."""

    path = "/v1/run"

    def __init__(self, options):
        """Open the bundle and start the threads. Raises Failure."""
        super().__init__(options)
        self.pool = edgeopt_pool.Pool(
            options.bundle,
            sessions=options.sessions,
            batch=options.batch,
            threads=options.threads,
            engine=options.engine,
        )
        self.batches = Histogram("edgeopt_batch_texts", "Texts in one run.", BATCH)
        self.runner = Runner(
            self.pool,
            options.sessions,
            options.batch,
            options.batch_wait_ms / 1000.0,
            options.queue,
            self.batches.add,
        )

    @property
    def bundle(self):
        """The pool's."""
        return self.pool.bundle

    def run(self, body):
        """Answer with a result a text."""
        texts = texts_of(body)
        if len(texts) > self.options.queue:
            raise Refused(413, f"more than {self.options.queue} texts")
        try:
            calls = self.runner.submit(texts)
        except Full as exc:
            raise Refused(503, str(exc)) from None
        answers = []
        for call in calls:
            try:
                answers.append(call.wait())
            except edgeopt_rt.Failure as exc:
                raise Refused.by(exc) from exc
        # A swap may have come between two texts of one request.
        return {"results": [dict(as_json(r), bundle=digest) for r, digest in answers]}

    def open_anew(self):
        """Swap the pool's bundle."""
        self.pool.swap(self.options.bundle)

    def figures(self):
        """Return those of batches and the queue."""
        waiting = gauge("edgeopt_queue_texts", "Texts that wait.", len(self.runner))
        return [*self.batches.lines(), *waiting]

    def stop(self):
        """Take no more calls, and run those that wait."""
        self.runner.close()

    def close(self):
        """Close the bundle."""
        self.pool.close()
