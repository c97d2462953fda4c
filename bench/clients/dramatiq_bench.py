"""
Dramatiq for `npm run bench -- clients`: the same measures as python_bench.py, in one process, without results.

    python3 dramatiq_bench.py fill 0 COUNT
    python3 dramatiq_bench.py work CONCURRENCY COUNT
    python3 dramatiq_bench.py submit CALLERS COUNT
"""

import itertools
import json
import logging
import os
import sys
import threading
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import default_middleware

logging.disable(logging.WARNING)
# Its metrics need the processes that its command starts.
middleware = [kind() for kind in default_middleware if kind.__name__ != "Prometheus"]
broker = RedisBroker(host="127.0.0.1", port=int(os.environ["REDIS_PORT"]), middleware=middleware)
dramatiq.set_broker(broker)
kind, at_once, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ended, last = itertools.count(1), threading.Event()


@dramatiq.actor(actor_name="bench")
def bench(_payload):
    if next(ended) == count:
        last.set()


def work():
    started = time.monotonic()
    worker = dramatiq.Worker(broker, worker_threads=at_once)
    worker.start()
    last.wait()
    seconds = time.monotonic() - started
    worker.stop()
    return seconds


def submit(callers):
    payload = {"text": "x" * 88}
    left = itertools.count(1)

    def call():
        while next(left) <= count:
            bench.send(payload)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - started


print(json.dumps({"seconds": work() if kind == "work" else submit(max(at_once, 1))}), flush=True)
os._exit(0)
