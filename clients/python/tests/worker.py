"""A worker for the tests, with a handler for each way in which one can end. The one of the Go client is its twin."""

import logging
import os
import sys
import time

from xqueue import Attempt, Client, DoNotRetry, RateLimited, RetryAfter, Worker

logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")


def echo(attempt: Attempt) -> object:
    return {"payload": attempt.payload, "attempt": attempt.number}


def steps(attempt: Attempt) -> object:
    """Goes on until all its steps are done, or it is to stop."""
    for step in range(attempt.payload["steps"]):
        attempt.progress({"step": step})
        attempt.sleep(0.02)
    return "all steps done"


def busy_first(attempt: Attempt) -> object:
    if attempt.number == 1:
        raise RetryAfter(0.01, "busy")
    return attempt.number


def later(attempt: Attempt) -> object:
    if attempt.number == 1:
        raise RetryAfter(float(attempt.payload), "busy")
    return attempt.number


def limited(attempt: Attempt) -> object:
    if attempt.task.deliveries == 1:
        raise RateLimited(float(attempt.payload), "HTTP 429")
    return attempt.number


def metered(attempt: Attempt) -> object:
    """Uses fewer units than it has asked for; refused at first if its payload names a limit."""
    if attempt.payload and attempt.task.deliveries == 1:
        raise RateLimited(3600, "HTTP 429", limit=attempt.payload)
    attempt.usage({"tokens": 1})
    return "metered"


def big(attempt: Attempt) -> object:
    return {"id": 2**53 + 1}


def loud(attempt: Attempt) -> object:
    """Runs for longer than its lease lives, and reports what is no progress all the time."""
    for step in range(60):
        attempt.progress({"text": "x" * 20_000} if step % 2 else float("nan"))
        attempt.sleep(0.05)
    return "kept"


def unruly(attempt: Attempt) -> object:
    """Reports what breaks its writer, for longer than its lease lives."""
    deep: object = {}
    for _ in range(100_000):
        deep = {"in": deep}
    for _ in range(60):
        attempt.progress(deep)
        attempt.sleep(0.05)
    return "kept"


def watch(attempt: Attempt) -> object:
    """Writes on each look whether it holds its lease, and after which look it had stood still, until it is stopped."""
    last = time.monotonic()
    while True:
        time.sleep(0.005)
        is_over = attempt.canceled
        now = time.monotonic()
        if now - last > 0.5:
            say(f"woke with fence {attempt.fence}")
        last = now
        say(f"looked: {str(attempt.is_held()).lower()}")
        if is_over:
            say("aborted")
            attempt.check()


def say(line: str) -> None:
    """In one piece: `print` writes the end of the line by itself, and another thread may log before it."""
    sys.stderr.write(f"{line}\n")


def gated(attempt: Attempt) -> object:
    """Says that it has begun with one file, and ends when another exists."""
    open(f"{attempt.payload}.begun", "w").close()
    while not os.path.exists(attempt.payload):
        attempt.sleep(0.01)
    return "through"


def never(attempt: Attempt) -> object:
    raise DoNotRetry("this cannot work")


def crash(attempt: Attempt) -> object:
    raise ValueError("out of order")


class WordlessError(Exception):
    """One whose text cannot be read."""

    def __str__(self) -> str:
        raise KeyError("text")


def wordless(attempt: Attempt) -> object:
    raise WordlessError


def strange(attempt: Attempt) -> object:
    return {"result": object()}


def join(attempt: Attempt) -> object:
    return [[one.id, one.type, one.status, one.result, one.error] for one in attempt.predecessors]


def talks(attempt: Attempt) -> object:
    attempt.log("begun", number=attempt.number)
    attempt.log("odd", "warn", value=float("nan"))
    attempt.sleep(float(attempt.payload))
    attempt.log("done")
    return None


def lengths(attempt: Attempt) -> object:
    return [len(one.result["payload"]) for one in attempt.predecessors]


Worker(
    {"echo": echo, "join": join, "steps": steps, "busy": busy_first, "never": never, "crash": crash, "strange": strange}
    | {"later": later, "big": big, "loud": loud, "lengths": lengths, "wordless": wordless, "unruly": unruly}
    | {"limited": limited, "metered": metered, "talks": talks, "watch": watch, "gated": gated},
    Client(patience=0),
    concurrency=3,
    shutdown=float(sys.argv[1]) if len(sys.argv) > 1 else 30.0,
    worker_id="worker-under-test",
    settings={
        "steps": {
            "concurrency": 70,
            "group_concurrency": 7,
            "rate": {"max": 900, "per": "1m"},
            "uses": {"declared": 2},
            "limits": {"declared": {"max": 90}},
            "max_retry": 5,
            "queue_timeout": "2h",
            "retry": {"base": "3s", "jitter": 0},
            "retention": {"failed": "9d"},
        }
    },
).run()
