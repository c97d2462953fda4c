"""Prints each event of a stream as httpx-sse gives it, one JSON array a line, until there were as many as asked for."""

import json
import sys

import httpx
from httpx_sse import connect_sse

url, count = sys.argv[1], int(sys.argv[2])
with httpx.Client(timeout=30, trust_env=False) as client, connect_sse(client, "GET", url) as source:
    for event in source.iter_sse():
        print(json.dumps([event.event, event.id, event.data]), flush=True)
        count -= 1
        if count == 0:
            break
