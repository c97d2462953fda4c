"""The client that openapi-generator makes for Python."""

import sys

import openapi_client as api

configuration = api.Configuration(host=sys.argv[1], access_token=sys.argv[2])
with api.ApiClient(configuration) as client:
    tasks, types = api.TasksApi(client), api.TypesApi(client)
    task = tasks.submit_task(api.TaskInput(type="remote", payload={"n": 1}, delay=api.Duration("1h"), tags={"a": "b"}))
    assert tasks.get_task(task.id).payload == {"n": 1}
    assert task.id in [listed.id for listed in tasks.list_tasks(type="remote", status=api.Status.PENDING).tasks]
    assert tasks.cancel_task(task.id).status == api.Status.CANCELED
    tasks.purge_task(task.id)
    assert types.set_limit(api.SetLimitRequest(task_type="remote", max_concurrency=2)).max_concurrency == 2
    assert types.get_limit("remote").max_concurrency == 2
    assert types.set_limit(api.SetLimitRequest(task_type="remote", max_concurrency=None)).max_concurrency is None
    try:
        tasks.get_task("nobody")
        raise SystemExit("there is no such task")
    except api.exceptions.NotFoundException as refused:
        assert '"code":"not_found"' in refused.body, refused.body
print("OK")
