"""What the fuzzer cannot learn from the document: which names are taken here, and what our own formats look like."""

import base64
import os
import re
from datetime import datetime, timedelta, timezone

import schemathesis
from schemathesis.generation import GenerationMode
from hypothesis import strategies as st

# The types of test/fixtures/program-handlers.ts, and the one that is declared.
TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
CURSOR = re.compile(r"[\w-]{2,24}")
TYPES = ["echo", "broken", "remote"]
# The limit that openapi.test.ts declares.
LIMIT = "fuzzed"
YEAR_S = 366 * 86_400
INTEGER_MAX = 2**53 - 1


def durations():
    """From a second to a minute: what each field that takes a duration takes."""
    part = st.one_of(
        st.integers(1_000, 60_000).map(lambda count: f"{count}ms"),
        st.integers(1, 60).map(lambda count: f"{count}s"),
        st.integers(1, 59).map(lambda count: f"{count}.{count}s"),
    )
    return st.one_of(part, st.integers(1, 60).map(str), st.just("1m"), st.just("0m9s"))


def times():
    now = datetime.now(timezone.utc)
    return st.integers(-YEAR_S, YEAR_S - 86_400).map(
        lambda seconds: (now + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
    )


schemathesis.openapi.format("duration-with-units", durations())
schemathesis.openapi.format("date-time", times())
CRONS = ["* * * * *", "30 2 * * MON-FRI", "*/5 0-6 1,15 * *"]
ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe"]
schemathesis.openapi.format("cron", st.sampled_from(CRONS))
schemathesis.openapi.format("time-zone", st.sampled_from(ZONES))
schemathesis.openapi.format("cursor", st.integers(1, 10**12).map(lambda seq: cursor_of(seq)))


def cursor_of(*position):
    return base64.urlsafe_b64encode(",".join(map(str, position)).encode()).decode().rstrip("=")


@schemathesis.hook
def before_call(context, case, kwargs):
    """Valid calls stay valid, but nobody waits a minute, makes up types, or takes a cursor to another list.

    Names that would reach a prototype and integers that a number cannot hold are refused on purpose, anywhere in free
    JSON, which bodies.test.ts and values.test.ts show and no schema can say.
    """
    body, query = case.body, case.query or {}
    if storable(body) != body:
        # What is changed is judged anew, without our formats: so only where it must be, and with what fits them.
        body = case.body = storable(body)
    with_formats(body)
    if isinstance(body, dict) and is_positive(case):
        with_one_of_each(case.path, body)
    if is_positive(case):
        with_possible_filters(query)
        with_possible_filters(body if isinstance(body, dict) else {})
    # Whether a zone alone may be changed, only the schedule can say.
    if case.method == "PATCH" and isinstance(body, dict) and isinstance(body.get("timezone"), str):
        body.setdefault("cron", CRONS[0])
    if case.path in ("/api/v1/tasks/consume", "/api/v1/tasks/turn") and isinstance(body, dict) and is_wait(body.get("wait", 0)):
        body["wait"] = 0.01
        if are_types(body.get("types")):
            body["types"] = TYPES[-1:]
    if case.path == "/api/v1/tasks/wait" and isinstance(body, dict) and is_wait(body.get("wait", 0)):
        body["wait"] = 0.01
    # A list of what waits has an order of its own, but not that of a batch.
    is_pending = query.get("status") == "pending" and "batch" not in query
    if is_pending and CURSOR.fullmatch(str(query.get("cursor"))):
        query["cursor"] = cursor_of(0, 5, 0, 0)


def with_possible_filters(filters):
    """A number of tasks to skip comes without a cursor and a pattern, and a time after which without one before which."""
    if filters.get("offset") not in (None, 0, "0"):
        for name in ("cursor", "error_like"):
            filters.pop(name, None)
    if "created_after" in filters:
        filters.pop("created_before", None)


def with_formats(body):
    """The generator forgets a format now and then, and takes for valid what is a text of the right length."""
    tasks = body.get("tasks") if isinstance(body, dict) else None
    for task in [body, *(tasks if isinstance(tasks, list) else [])]:
        for name in ("delay", "queue_timeout", "process_timeout", "wait", "per", "ttl", "every"):
            if is_text(task, name, 64) and not is_wait(task[name]):
                task[name] = "5s"
        for name, known in (("cron", CRONS), ("timezone", ZONES)):
            if is_text(task, name, 60) and task[name] not in known:
                task[name] = known[0]


def is_text(task, name, most):
    return isinstance(task, dict) and isinstance(task.get(name), str) and len(task[name]) <= most


def storable(value):
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-INTEGER_MAX, min(value, INTEGER_MAX))
    if not isinstance(value, dict):
        return value
    names = {"__proto__": "proto", "constructor": "builder"}
    return {names.get(name, name): storable(item) for name, item in value.items()}


def are_types(types):
    return isinstance(types, list) and 0 < len(types) <= 100 and all(isinstance(t, str) and TYPE.fullmatch(t) for t in types)


def is_wait(wait):
    if isinstance(wait, str):
        return re.fullmatch(r"([\d.]+(ms|s|m)?)+", wait) is not None
    return isinstance(wait, (int, float)) and not isinstance(wait, bool) and 0 <= wait <= 60


def is_positive(case):
    return case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE


# What excludes each other: no schema says it, because generators of clients could not read the document then.
EXCLUDED = (("delay", "run_at"), ("cron", "every"), ("every", "timezone"), ("task_ids", "types"))
NEEDED = {
    "/api/v1/schedules": (("cron", "every"), "15m"),
    "/api/v1/schedules/preview": (("cron", "every"), "15m"),
    "/api/v1/subscriptions": (("task_ids", "types"), TYPES),
    "/api/v1/concurrency": (("max_concurrency", "group_concurrency"), None),
}


def with_one_of_each(path, body):
    """One of the fields that exclude each other stays, and one of those that are needed is there."""
    names, value = NEEDED.get(path, ((), None))
    if names and not any(name in body for name in names):
        body[names[1]] = value
    tasks = body.get("tasks")
    for task in [body, *(tasks if isinstance(tasks, list) else [])]:
        if not isinstance(task, dict):
            continue
        # Limits that are not declared are refused, and so is more of one than it allows.
        if task.get("uses"):
            task["uses"] = {LIMIT: 1}
        for kept, dropped in EXCLUDED:
            if kept in task:
                task.pop(dropped, None)
    # A worker that leaves has a name, and takes nothing.
    if path == "/api/v1/tasks/turn" and body.get("leaving") is True:
        body.pop("max", None)
        body.setdefault("worker_id", "leaver")
    if path == "/api/v1/types/{type}/rate":
        if body.get("max") is None:
            body.pop("per", None)
        else:
            body.setdefault("per", 60)


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Types and tasks that nobody has are refused, and which there are only the server that runs can say."""
    names = {"enum": TYPES}
    schemas = raw_schema["components"]["schemas"]
    task = schemas["TaskInput"]["properties"]
    task["type"] = names
    # In a batch, places of earlier tasks are references, too: flows.test.ts goes through them.
    task["after"]["items"] = {"enum": [os.environ["XQUEUE_FUZZ_TASK"]]}
    task["after"]["uniqueItems"] = True
    schemas["ScheduleInput"]["properties"]["type"] = names
    schemas["SetLimitRequest"]["properties"]["task_type"] = names
    raw_schema["paths"]["/api/v1/types/{type}/rate"]["post"]["parameters"][0]["schema"] = names
    # A ceiling refuses what the document allows, so the types that tasks are submitted to get none.
    raw_schema["paths"]["/api/v1/types/{type}"]["post"]["parameters"][0]["schema"] = {"enum": ["bounded"]}
