"""The Python client of XQueue over HTTP, for `npm run bench -- peers`; see PROTOCOL.md. XQUEUE_SERVER is the server."""

import threading

from protocol import Contender, main
from xqueue import Client, NewTask, Worker

client = Client()


def work(concurrency, handle):
    worker = Worker({"bench": lambda attempt: handle(attempt.payload)}, concurrency=concurrency)
    running = threading.Thread(target=worker.run)
    running.start()

    def stop():
        worker.stop()
        running.join()

    return stop


def held():
    stats = client.call("GET", "/stats").body
    return stats["pending_tasks"] + stats["processing_tasks"]


main(
    Contender(
        submit=lambda payload: client.submit("bench", payload),
        submit_many=lambda payloads: client.submit_many([NewTask("bench", payload) for payload in payloads]),
        work=work,
        held=held,
    )
)
