"""A worker in Python: counts the words of a text, and says how far it is.

npm start
PYTHONPATH=clients/python python3 examples/worker.py                           (in another terminal)
npm run xqueue -- submit words '{"text": "so it goes, and so on"}' --wait      (in a third one)
"""

import logging
import re
from collections import Counter

from xqueue import Attempt, DoNotRetry, Worker


def words(attempt: Attempt) -> dict:
    text = attempt.payload.get("text")
    if not isinstance(text, str):
        raise DoNotRetry("the payload has no text")
    lines = text.splitlines()
    counts: Counter = Counter()
    for number, line in enumerate(lines, start=1):
        counts.update(re.findall(r"\w+", line.lower()))
        attempt.progress(100 * number / len(lines))
        attempt.check()  # ends here when the task is canceled
    return {"words": sum(counts.values()), "often": counts.most_common(3)}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    Worker({"words": words}, concurrency=4).run()
