"""
Dramatiq for `npm run bench -- peers`; see PROTOCOL.md. One process with as many threads as tasks at once, and without
results, which are off by default. REDIS_PORT is its Redis.
"""

import logging
import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import default_middleware
from protocol import Contender, main

logging.disable(logging.WARNING)
# Its metrics need the processes that its command starts.
middleware = [kind() for kind in default_middleware if kind.__name__ != "Prometheus"]
broker = RedisBroker(host="127.0.0.1", port=int(os.environ["REDIS_PORT"]), middleware=middleware)
dramatiq.set_broker(broker)
handler = []


@dramatiq.actor(actor_name="bench", max_retries=1)
def bench(payload):
    handler[0](payload)


def work(concurrency, handle):
    handler.append(handle)
    worker = dramatiq.Worker(broker, worker_threads=concurrency)
    worker.start()
    return worker.stop


def held():
    # Its messages: waiting ones, and those that a worker has fetched and not acknowledged.
    return broker.client.hlen("dramatiq:default.msgs")


main(Contender(submit=bench.send, work=work, held=held))
