"""What a worker does in its own process, against a real server, whose address is in XQUEUE_SERVER."""

import signal
import threading
import unittest

from xqueue import Attempt, Client, Worker
from xqueue.pace import Pace
from xqueue.report import Report, released
from xqueue.task import Task
from xqueue.turns import Turns


class AWorker(unittest.TestCase):
    def test_ends_at_a_signal_that_another_thread_was_given(self):
        client = Client()

        def signal_from_here():
            while "left-alone" not in client.call("GET", "/handlers").body["handlers"]:
                pass
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

        before = signal.getsignal(signal.SIGTERM)
        threading.Thread(target=signal_from_here, daemon=True).start()
        Worker({"left-alone": lambda attempt: None}, client).run()
        self.assertEqual(signal.getsignal(signal.SIGTERM), before)

    def test_refuses_settings_that_are_none(self):
        for settings in ({"other": {}}, {"own": None}, {"own": {"type": "other"}}):
            with self.assertRaisesRegex(ValueError, "settings of (other|own)"):
                Worker({"own": lambda attempt: None}, settings=settings)

    def test_refuses_to_claim_fewer_tasks_than_it_runs(self):
        with self.assertRaisesRegex(ValueError, "claim_ahead is -1"):
            Worker({"own": lambda attempt: None}, claim_ahead=-1)

    def test_gives_back_a_task_whose_turn_is_refused_for_another_outcome(self):
        client = Client()
        client.call("POST", "/handlers", {"handlers": [{"type": "held"}]})
        for _ in range(2):
            client.submit("held")
        claimed = client.call("POST", "/tasks/turn", {"types": ["held"], "worker_id": "holder", "max": 2}).body
        fine, wrong = (Attempt(Task.from_json(item["task"]), item["lease"], 5.0) for item in claimed["leases"])
        reports = [Report(wrong, {"result": "null", "unknown": "1"}), released(fine)]
        problem, none = Turns(client).take(reports, (), {}, timeout=5.0).outcomes
        self.assertEqual((problem.status, none), (400, None))
        given_back = client.get(fine.task.id)
        self.assertEqual((given_back.status, given_back.attempts), ("pending", 0))


class APace(unittest.TestCase):
    def test_claims_ahead_after_a_hundred_quick_attempts_until_one_is_slow(self):
        pace = Pace(concurrency=2, ahead_max=128)
        for _ in range(99):
            pace.ended(0.001)
        self.assertEqual(pace.ahead(), 0)
        pace.ended(0.001)
        self.assertIn(pace.ahead(), range(5, 10))
        pace.ended(0.006)
        self.assertEqual(pace.ahead(), 0)

    def test_claims_nothing_ahead_when_held_tasks_do_not_start(self):
        pace = Pace(concurrency=1, ahead_max=128)
        for _ in range(1_000):
            pace.ended(0.0)
        self.assertEqual(pace.ahead(), 128)
        pace.slow()
        self.assertEqual(pace.ahead(), 0)


if __name__ == "__main__":
    unittest.main()
