# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Prompts to what a generator writes, as OpenAI's API for completions has it."""

import collections
import contextlib
import json
import math
import os
import threading
import time
import uuid

import edgeopt_rt
from apps import App, Refused
from metrics import LATENCY_S, Counter, Histogram, gauge
from runner import Full

MAX_TOKENS, TEMPERATURE = 16, 1.0  # OpenAI's defaults
ENDS = {"token": "stop", "stop": "stop", "length": "length", "context": "length"}
ONLY: dict = {
    "n": 1,
    "best_of": 1,
    "echo": False,
    "suffix": None,
    "logprobs": None,
    "logit_bias": {},
    "frequency_penalty": 0,
    "presence_penalty": 0,
}
"""Options of OpenAI's that are taken with this value, or null, alone."""

Asked = collections.namedtuple("Asked", "prompt sampling stream usage model")


def _number(body, name, kind, default):
    """Return a number of the request; the runtime says what is too large."""
    found = body.get(name)
    if found is None:
        return default
    right = isinstance(found, kind) and not isinstance(found, bool) and math.isfinite(found)
    if not right or found < 0:
        what = "a whole number" if kind is int else "a number"
        raise Refused(400, f"{name}: expected {what} from 0 on")
    return found


def _whole(body, name, default, most=(1 << 32) - 1):
    found = _number(body, name, int, default)
    if found > most:
        raise Refused(400, f"{name}: expected up to {most}")
    return found


def _flag(body, name):
    found = body.get(name, False)
    if found is not None and not isinstance(found, bool):
        raise Refused(400, f"{name}: expected true or false")
    return bool(found)


def asked_of(body):
    """Return what a request's JSON asks for. Raises Refused."""
    if not isinstance(body, dict) or "prompt" not in body:
        raise Refused(400, 'expected {"prompt": ..., "max_tokens": ..., "stream": ...}')
    taken = {"prompt", "model", "user", "stream", "stream_options", "stop", "max_tokens", "seed"}
    taken |= {"temperature", "top_p", "top_k", "min_p", "repetition_penalty"} | set(ONLY)
    unknown = sorted(set(body) - taken)
    if unknown:
        raise Refused(400, f"{unknown[0]}: is not known here")
    for name, value in ONLY.items():
        if body.get(name) not in (None, value):
            raise Refused(400, f"{name}: only {json.dumps(value)} is taken here")
    prompt = body["prompt"]
    by_token = isinstance(prompt, list) and all(
        type(one) is int and 0 <= one < 1 << 31 for one in prompt
    )
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    elif not isinstance(prompt, str) and not by_token:
        raise Refused(400, "prompt: expected a string, or a list of tokens")
    stops = body.get("stop") or []
    stops = [stops] if isinstance(stops, str) else stops
    if not isinstance(stops, list) or not all(isinstance(one, str) for one in stops):
        raise Refused(400, "stop: expected a string or a list of them")
    more = body.get("stream_options") or {}
    if not isinstance(more, dict):
        raise Refused(400, "stream_options: expected an object")
    sampling = {
        # 0 is the whole context to the runtime; who asks for no token gets one.
        "max_tokens": max(1, _whole(body, "max_tokens", MAX_TOKENS)),
        "temperature": _number(body, "temperature", (int, float), TEMPERATURE),
        "top_p": _number(body, "top_p", (int, float), 0.0),
        "min_p": _number(body, "min_p", (int, float), 0.0),
        "top_k": _whole(body, "top_k", 0),
        "repetition_penalty": _number(body, "repetition_penalty", (int, float), 0.0),
        "seed": _whole(body, "seed", int.from_bytes(os.urandom(8), "little"), (1 << 64) - 1),
        "stops": stops,
    }
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise Refused(400, "model: expected a string")
    return Asked(prompt, sampling, _flag(body, "stream"), _flag(more, "include_usage"), model)


class Generators:
    """The generators of one bundle, each for one answer at a time, and a bounded line for them."""

    def __init__(self, open_one, count, most_waiting):
        """Open ``count`` by ``open_one``, which returns a Generator. Raises Failure."""
        self._open_one, self._count, self._most_waiting = open_one, count, most_waiting
        self._changed = threading.Condition()
        self._waiting, self._stopped = 0, False
        self._all = self._opened()
        self._free = list(self._all)
        self._used = []

    def _opened(self):
        found = []
        try:
            for _ in range(self._count):
                found.append(self._open_one())
        except edgeopt_rt.Failure:
            for one in found:
                one.close()
            raise
        return found

    def __len__(self):
        """Return how many requests wait."""
        return self._waiting

    @property
    def bundle(self):
        """The Bundle that runs."""
        return self._all[0].bundle

    @contextlib.contextmanager
    def one(self):
        """Wait for a generator and keep it. Raises Full."""
        with self._changed:
            if self._stopped:
                raise Full("the server stops")
            if not self._free and self._waiting >= self._most_waiting:
                raise Full(f"{self._waiting} calls wait already")
            self._waiting += 1
            self._changed.wait_for(lambda: self._free or self._stopped)
            self._waiting -= 1
            if self._stopped:
                raise Full("the server stops")
            found = self._free.pop()
            self._used.append(found)
        try:
            yield found
        finally:
            with self._changed:
                self._used.remove(found)
                if found in self._all and not self._stopped:
                    self._free.append(found)
                else:
                    found.close()
                self._changed.notify_all()

    def swap(self):
        """Open others, which answer from now on; those in use end what they began."""
        fresh = self._opened()
        with self._changed:
            for one in self._free:
                one.close()
            self._all, self._free = fresh, list(fresh)
            self._changed.notify_all()

    def stop(self):
        """End the answers that are being made, and begin no other."""
        with self._changed:
            self._stopped = True
            for one in self._used:
                one.cancel()
            for one in self._free:
                one.close()
            self._free = []
            self._changed.notify_all()


class Completions(App):
    """One prompt a request; the answer comes whole, or as events while it is written."""

    path = "/v1/completions"

    def __init__(self, options):
        """Open the bundle. Raises Failure."""
        super().__init__(options)
        self.generators = Generators(self._open, options.sessions, options.queue)
        self.tokens = Counter("edgeopt_tokens_total", "Tokens of prompts and answers.", "of")
        self.first = Histogram("edgeopt_first_token_seconds", "Time to the first.", LATENCY_S)

    def _open(self):
        return edgeopt_rt.Generator(
            self.options.bundle, threads=self.options.threads, engine=self.options.engine
        )

    @property
    def bundle(self):
        """The generators'."""
        return self.generators.bundle

    def run(self, body):
        """Answer with a completion, or with the events of one."""
        asked = asked_of(body)
        written = self._write(asked)
        head = next(written)  # the prompt is read, or refused
        if asked.stream:
            return self._events(asked, head, written)
        pieces = list(written)
        _, end, count = pieces[-1]
        choice = _choice("".join(text for text, _, _ in pieces), ENDS.get(end, end))
        usage = _usage(head["prompt_tokens"], count)
        return dict(head["about"], choices=[choice], usage=usage)

    def _events(self, asked, head, written):
        answered = 0
        try:
            for text, end, count in written:
                done = None if end == "none" else ENDS.get(end, end)
                answered = count
                if text or done:
                    yield _encoded(dict(head["about"], choices=[_choice(text, done)]))
            if asked.usage:
                usage = _usage(head["prompt_tokens"], answered)
                yield _encoded(dict(head["about"], choices=[], usage=usage))
        except Refused as exc:  # the status is sent already
            yield _encoded({"error": exc.error})
        finally:
            written.close()
        yield b"[DONE]"

    def _write(self, asked):
        """Yield what is known of the answer, then (text, end, tokens so far) piece by piece."""
        begun = time.monotonic()
        count = 0
        try:
            with self.generators.one() as generator:
                generator.prompt(asked.prompt, **asked.sampling)
                prompt_tokens = len(generator.tokens)
                self.tokens.add("prompt", prompt_tokens)
                bundle = generator.bundle
                about = {
                    "id": "cmpl-" + uuid.uuid4().hex,
                    "object": "text_completion",
                    "created": int(time.time()),
                    "model": asked.model or bundle.name,
                    "bundle": bundle.digest,
                }
                yield {"prompt_tokens": prompt_tokens, "about": about}
                end = "none"
                try:
                    while end == "none":
                        text, token, end = generator.next()
                        count += token >= 0
                        if count == 1 and token >= 0:
                            self.first.add(time.monotonic() - begun)
                        yield text, end, count
                finally:
                    self.tokens.add("answer", count)
        except Full as exc:
            raise Refused(503, str(exc)) from None
        except edgeopt_rt.Failure as exc:
            raise Refused.by(exc) from exc

    def open_anew(self):
        """Open generators on the bundle as it is now."""
        self.generators.swap()

    def figures(self):
        """Return those of tokens and of what waits."""
        waiting = gauge("edgeopt_queue_prompts", "Prompts that wait.", len(self.generators))
        return [*self.tokens.lines(), *self.first.lines(), *waiting]

    def stop(self):
        """End all answers."""
        self.generators.stop()

    def close(self):
        """Close nothing more: the generators that were used close themselves."""


def _choice(text, reason):
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}


def _usage(prompt, answer):
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
    }


def _encoded(event):
    return json.dumps(event).encode()
