"""The client that openapi-python-client makes."""

import sys

from x_queue_client import AuthenticatedClient
from x_queue_client.api.tasks import cancel_task, get_task, list_tasks, purge_task, submit_task
from x_queue_client.api.types import get_limit, set_limit
from x_queue_client.models import Problem, SetLimitRequest, Status, TaskInput

with AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2]) as client:
    task = submit_task.sync(client=client, body=TaskInput(type_="remote", payload={"n": 1}, delay="1h"))
    assert get_task.sync(task.id, client=client).payload == {"n": 1}
    listed = list_tasks.sync(client=client, type_="remote", status=Status.PENDING)
    assert task.id in [each.id for each in listed.tasks]
    assert cancel_task.sync(task.id, client=client).status == Status.CANCELED
    assert purge_task.sync_detailed(task.id, client=client).status_code == 204
    for limit in (2, None):
        body = SetLimitRequest(task_type="remote", max_concurrency=limit)
        assert set_limit.sync(client=client, body=body).max_concurrency == limit
        assert get_limit.sync("remote", client=client).max_concurrency == limit
    refused = get_task.sync("nobody", client=client)
    assert isinstance(refused, Problem) and refused.code == "not_found", refused
print("OK")
