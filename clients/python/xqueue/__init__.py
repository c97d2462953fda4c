"""Submit tasks to XQueue and run them: `Client` for the one, `Worker` for the other."""

from .attempt import Attempt, Canceled, DoNotRetry, RateLimited, RetryAfter
from .client import Client
from .errors import ServerUnreachable, XQueueError
from .task import Json, NewTask, Predecessor, Task
from .worker import Worker

__all__ = [
    "Attempt",
    "Canceled",
    "Client",
    "DoNotRetry",
    "Json",
    "NewTask",
    "Predecessor",
    "RateLimited",
    "RetryAfter",
    "ServerUnreachable",
    "Task",
    "Worker",
    "XQueueError",
]
