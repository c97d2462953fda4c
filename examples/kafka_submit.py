"""Submits a task to XQueue through Kafka, and waits for what comes of it.

    python3 kafka_submit.py 127.0.0.1:9092 example '{"duration": 0.1}'

Needs confluent-kafka (pip install confluent-kafka, or apt-get install python3-confluent-kafka). The task goes into the
topic xq.submit as a CloudEvent: its type is the task's, its data the payload. The whole finished task comes on
xq.outcomes, its key is the task's id.
"""

import json
import sys
import uuid

from confluent_kafka import Consumer, Producer

brokers, task_type, payload = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
source, event_id = "/examples/python", str(uuid.uuid4())

outcomes = Consumer(
    {
        "bootstrap.servers": brokers,
        "group.id": f"example-{event_id}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
)
outcomes.subscribe(["xq.outcomes"])

producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
event = {"specversion": "1.0", "id": event_id, "source": source, "type": task_type, "data": payload}
producer.produce(
    "xq.submit",
    key=event_id,
    value=json.dumps(event),
    headers={"content-type": "application/cloudevents+json"},
)
producer.flush()

while True:
    record = outcomes.poll(1.0)
    if record is None or record.error() or record.value() is None:
        continue
    task = json.loads(record.value())
    # Source and id of the event are the task's idempotency key.
    if task["idempotency_key"] == f"{source}#{event_id}" and task["completed_at"] is not None:
        print(json.dumps({"id": task["id"], "status": task["status"], "result": task["result"]}))
        break
outcomes.close()
