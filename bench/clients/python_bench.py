"""
A worker or a submitter of the Python client, for `npm run bench -- clients`. It prints how long it took.

    python3 python_bench.py work CONCURRENCY COUNT
    python3 python_bench.py submit CALLERS COUNT
"""

import itertools
import json
import sys
import threading
import time

from xqueue import Client, Worker


def work(concurrency, count):
    """Counts from its start until the last task has ended."""
    ended = itertools.count(1)
    seconds = []
    started = time.monotonic()

    def handler(_attempt):
        if next(ended) == count:
            seconds.append(time.monotonic() - started)
            worker.stop()

    worker = Worker({"bench": handler}, concurrency=concurrency)
    worker.run()
    return seconds[0]


def submit(callers, count):
    client = Client()
    payload = {"text": "x" * 88}
    left = itertools.count(1)

    def call():
        while next(left) <= count:
            client.submit("bench", payload)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - started


measure = {"work": work, "submit": submit}[sys.argv[1]]
print(json.dumps({"seconds": measure(int(sys.argv[2]), int(sys.argv[3]))}))
