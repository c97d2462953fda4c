"""
Celery for `npm run bench -- peers`; see PROTOCOL.md. One process with a pool of threads, as its guide to optimizing says
for short tasks: a larger prefetch, and no results that nobody reads. REDIS_PORT is its broker.
"""

import logging
import os
import threading

from celery import Celery
from celery.worker import WorkController
from protocol import Contender, main

logging.disable(logging.WARNING)
app = Celery("bench", broker=f"redis://127.0.0.1:{os.environ['REDIS_PORT']}/0")
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=50,
    worker_hijack_root_logger=False,
    broker_pool_limit=100,
    broker_connection_retry_on_startup=True,
)
handler = []


@app.task(name="bench")
def bench(payload):
    handler[0](payload)


def work(concurrency, handle):
    handler.append(handle)
    options = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}
    worker = WorkController(app=app, pool="threads", concurrency=concurrency, **options)
    running = threading.Thread(target=worker.start)
    running.start()

    def stop():
        worker.stop()
        running.join(5)

    return stop


def held():
    with app.connection_for_read() as connection:
        redis = connection.default_channel.client
        return redis.llen("celery") + redis.hlen("unacked")


main(Contender(submit=bench.delay, work=work, held=held))
