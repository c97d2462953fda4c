"""Runs one queue as PROTOCOL.md describes it."""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Payload = dict[str, Any]
BATCH_MAX, BATCH_BYTES_MAX = 1_000, 1_000_000
FILLERS = 8


@dataclass
class Contender:
    submit: Callable[[Payload], object]
    work: Callable[[int, Callable[[Payload], None]], Callable[[], object]]
    """Starts a worker, and returns its graceful stop."""
    held: Callable[[], int]
    """Counts the tasks without a final outcome."""
    submit_many: Callable[[list[Payload]], object] | None = None


def main(contender: Contender) -> None:
    numbers = [int(text) for text in sys.argv[2:]]
    {"submit": _submit, "work": _work}[sys.argv[1]](contender, *numbers)
    sys.stdout.flush()
    os._exit(0)


def _submit(contender: Contender, callers: int, warmup: int, count: int, size: int) -> None:
    text = _text(size)
    _calls(contender, callers, range(warmup), text)
    _say(event="ready")
    sys.stdin.readline()
    begun = time.monotonic()
    _calls(contender, callers, range(warmup, warmup + count), text)
    _say(event="end", seconds=time.monotonic() - begun)
    _say(event="done", held=contender.held())


def _calls(contender: Contender, callers: int, numbers: range, text: str) -> None:
    left = iter(numbers)  # a range's iterator hands out each number once, as it runs without giving up the lock

    def call() -> None:
        for n in left:
            contender.submit({"n": n, "text": text})

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _fill(contender: Contender, count: int, size: int) -> None:
    text = _text(size)
    if contender.submit_many is None:
        return _calls(contender, FILLERS, range(count), text)
    batch = max(1, min(BATCH_MAX, BATCH_BYTES_MAX // size))
    for start in range(0, count, batch):
        contender.submit_many([{"n": n, "text": text} for n in range(start, min(start + batch, count))])
    return None


def _work(contender: Contender, concurrency: int, warmup: int, count: int, size: int, handler_ms: int) -> None:
    total = warmup + count
    _fill(contender, total, size)
    handled = bytearray(total)
    distinct, twice, ended = itertools.count(1), itertools.count(), threading.Event()
    begun = 0.0

    def handle(payload: Payload) -> None:
        nonlocal begun
        if handler_ms > 0:
            time.sleep(handler_ms / 1000)
        if handled[payload["n"]]:
            next(twice)
            return
        handled[payload["n"]] = 1
        place = next(distinct)
        if place == warmup:
            _say(event="begin")
            begun = time.monotonic()
        if place == total:
            ended.set()

    _say(event="ready")
    sys.stdin.readline()
    threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
    begun = time.monotonic()
    stop = contender.work(concurrency, handle)
    ended.wait()
    _say(event="end", seconds=time.monotonic() - begun)
    stop()
    _say(event="done", lost=handled.count(0), twice=next(twice), held=contender.held())


def _text(size: int) -> str:
    return "x" * max(0, size - 60)


def _say(**line: object) -> None:
    print(json.dumps(line), flush=True)
