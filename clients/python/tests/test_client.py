"""The client against a real server, whose address is in XQUEUE_SERVER."""

import json
import os
import socket
import threading
import unittest
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

try:
    import resource
except ImportError:
    resource = None

from xqueue import Client, NewTask, ServerUnreachable, XQueueError


class AgainstAServer(unittest.TestCase):
    def setUp(self):
        self.client = Client()

    def test_submits_with_every_option_and_reads_it_back(self):
        run_at = datetime.now(timezone.utc) + timedelta(hours=1)
        other = self.client.submit("example", {"duration": 0}, delay=60)
        task = self.client.submit(
            "example",
            {"duration": 1},
            priority=7,
            run_at=run_at,
            max_retry=0,
            queue_timeout="1h30m",
            process_timeout=2.5,
            tags={"order": "7"},
            group="Müller & Co",
            after=(other.id,),
            on_failure="wait",
            batch="of one",
            idempotency_key=str(uuid4()),
        )
        self.assertEqual(self.client.get(task.id), task)
        self.assertEqual((task.status, task.priority, task.max_retry), ("pending", 7, 0))
        self.assertEqual((task.queue_timeout, task.process_timeout), (5400, 2.5))
        self.assertEqual((task.tags, task.group, task.payload), ({"order": "7"}, "Müller & Co", {"duration": 1}))
        self.assertEqual((task.after, task.on_failure, task.batch), ([other.id], "wait", "of one"))
        self.assertLess(abs(task.run_at - run_at), timedelta(milliseconds=1))

    def test_submits_once_for_a_key(self):
        key = str(uuid4())
        first = self.client.submit("example", {"duration": 0}, idempotency_key=key)
        self.assertEqual(self.client.submit("example", {"duration": 0}, idempotency_key=key).id, first.id)
        with self.assertRaises(XQueueError) as refused:
            self.client.submit("example", {"duration": 1}, idempotency_key=key)
        self.assertEqual((refused.exception.status, refused.exception.code), (409, "idempotency_conflict"))

    def test_submits_many_all_or_none(self):
        ids = self.client.submit_many(NewTask("example", {"duration": 0}, priority=n) for n in range(3))
        self.assertEqual([self.client.get(task_id).priority for task_id in ids], [0, 1, 2])
        with self.assertRaises(XQueueError) as refused:
            self.client.submit_many([NewTask("example"), NewTask("example", priority=11)])
        self.assertEqual(refused.exception.errors[0]["path"], "tasks[1].priority")

    def test_submits_tasks_that_wait_for_each_other(self):
        batch = str(uuid4())
        first, second = self.client.submit_many(
            [
                NewTask("example", {"duration": 0.1}, batch=batch),
                NewTask("example", {"duration": 0}, after=[0], on_failure="run", batch=batch),
            ]
        )
        last = self.client.submit("example", {"duration": 0}, after=[first, second], batch=batch)
        ended = self.client.wait(last.id, timeout=30)
        self.assertEqual((ended.status, ended.after), ("success", [first, second]))
        state = self.client.call("GET", f"/batches/{batch}").body
        self.assertEqual((state["total"], state["success"], state["done"]), (3, 3, True))
        with self.assertRaises(XQueueError) as refused:
            self.client.submit("example", {"duration": 0}, after=["none"])
        self.assertEqual(refused.exception.code, "unknown_predecessor")
        with self.assertRaises(XQueueError) as later:
            self.client.submit_many([NewTask("example", {"duration": 0}, after=[1])])
        self.assertEqual(later.exception.errors[0]["path"], "tasks[0].after[0]")

    def test_says_what_to_mend(self):
        with self.assertRaises(XQueueError) as refused:
            self.client.submit("nobody-runs-this")
        self.assertEqual(refused.exception.code, "unknown_type")
        self.assertIn("example", refused.exception.registered_types)
        with self.assertRaises(XQueueError) as missing:
            self.client.get("no/such?task")
        self.assertEqual(missing.exception.code, "not_found")
        with self.assertRaises(ValueError):
            Client("127.0.0.1:8080")

    def test_waits_for_the_end(self):
        task = self.client.wait(self.client.submit("example", {"duration": 0.2}).id, timeout=30)
        self.assertEqual((task.status, task.result), ("success", {"slept": 0.2}))
        self.assertEqual(self.client.wait(task.id), task)
        waiting = self.client.submit("example", {"duration": 0}, delay=60)
        with self.assertRaises(TimeoutError):
            self.client.wait(waiting.id, timeout=0.1)

    def test_waits_for_a_task_that_is_not_kept(self):
        self.client.call("POST", "/types/not-kept", {"declared": True, "retention": {"canceled": 0}})
        task = self.client.submit("not-kept", 1, delay=60)
        threading.Timer(0.2, lambda: self.client.cancel(task.id)).start()
        ended = self.client.wait(task.id, timeout=30)
        self.assertEqual((ended.id, ended.status), (task.id, "canceled"))
        self.assertGreaterEqual(ended.completed_at, task.created_at)

    def test_waits_for_no_task_that_does_not_exist(self):
        with self.assertRaises(XQueueError) as raised:
            self.client.wait("none", timeout=30)
        self.assertEqual(raised.exception.code, "not_found")

    def test_hears_of_an_end_while_it_waits(self):
        waiting = self.client.submit("example", {"duration": 0}, delay=60)
        threading.Timer(0.1, lambda: self.client.cancel(waiting.id)).start()
        self.assertEqual(self.client.wait(waiting.id, timeout=30).status, "canceled")

    def test_cancels_once(self):
        waiting = self.client.submit("example", {"duration": 0}, delay=60)
        self.assertEqual(self.client.cancel(waiting.id).status, "canceled")
        with self.assertRaises(XQueueError) as refused:
            self.client.cancel(waiting.id)
        self.assertEqual(refused.exception.code, "task_finished")

    def test_purges_what_has_finished(self):
        waiting = self.client.submit("example", {"duration": 0}, delay=60)
        with self.assertRaises(XQueueError) as refused:
            self.client.purge(waiting.id)
        self.assertEqual(refused.exception.code, "task_not_finished")
        self.client.cancel(waiting.id)
        self.client.purge(waiting.id)
        with self.assertRaises(XQueueError) as unknown:
            self.client.get(waiting.id)
        self.assertEqual(unknown.exception.code, "not_found")

    def test_makes_any_call(self):
        self.assertIn("example", self.client.call("GET", "/handlers").body["handlers"])


class ConcurrentSubmissions(unittest.TestCase):
    def setUp(self):
        self.client = Client()
        self.paths = paths = []
        post = self.client._submissions._post

        def counted(path, *rest):
            paths.append(path)
            return post(path, *rest)

        self.client._submissions._post = counted

    def submit_at_once(self, *submits):
        """What each of them returns or raises, from a thread of its own."""
        outcomes = [None] * len(submits)
        ready = threading.Barrier(len(submits))

        def run(index):
            ready.wait()
            try:
                outcomes[index] = submits[index]()
            except XQueueError as error:
                outcomes[index] = error

        threads = [threading.Thread(target=run, args=(index,)) for index in range(len(submits))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes

    def submission(self, number, **options):
        return lambda: self.client.submit("example", {"duration": number}, delay=60, **options)

    def test_share_calls_and_each_gets_its_own_task_in_full(self):
        tasks = self.submit_at_once(*[self.submission(number) for number in range(60)])
        self.assertEqual([task.payload for task in tasks], [{"duration": number} for number in range(60)])
        for task in tasks:
            self.assertEqual(self.client.get(task.id).payload, task.payload)
        self.assertIn("/tasks/batch", self.paths)
        self.assertLess(len(self.paths), 40)

    def test_get_their_own_errors_and_the_others_are_accepted(self):
        key = str(uuid4())
        keyed = self.client.submit("example", {"duration": 1}, delay=60, idempotency_key=key)
        for _ in range(5):
            outcomes = self.submit_at_once(
                self.submission(0),
                lambda: self.client.submit("nobody-runs-this"),
                self.submission(1, idempotency_key=key),
                self.submission(2, idempotency_key=key),
                self.submission(3, priority=11),
                self.submission(4, after=[0]),
                *[self.submission(number) for number in range(20)],
            )
            codes = [getattr(outcome, "code", "accepted") for outcome in outcomes]
            refused = ["unknown_type", "accepted", "idempotency_conflict", "invalid_request", "invalid_request"]
            self.assertEqual(codes, ["accepted", *refused, *["accepted"] * 20])
            self.assertEqual(outcomes[2].id, keyed.id)
            self.assertEqual(outcomes[4].errors[0]["path"], "priority")

    def test_share_a_call_that_is_repeatable_only_if_each_has_a_key(self):
        post, shared = self.client._submissions._post, []

        def noted(path, content, is_repeatable, headers):
            if path == "/tasks/batch":
                have_keys = all("idempotency_key" in task for task in json.loads(content)["tasks"])
                shared.append((have_keys, is_repeatable))
            return post(path, content, is_repeatable, headers)

        self.client._submissions._post = noted
        self.submit_at_once(*[self.submission(number, idempotency_key=str(uuid4())) for number in range(30)])
        self.assertEqual(set(shared), {(True, True)})
        shared.clear()
        keys = [{"idempotency_key": str(uuid4())} if number % 2 else {} for number in range(30)]
        self.submit_at_once(*[self.submission(number, **key) for number, key in enumerate(keys)])
        self.assertIn((False, False), shared)
        self.assertNotIn((False, True), shared)

    def test_all_hear_of_a_server_that_is_away(self):
        self.client._submissions._post = lambda *_: Client("http://127.0.0.1:9", patience=0)._post(*_)
        self.client._patience = 0
        outcomes = self.submit_at_once(*[self.submission(number) for number in range(10)])
        self.assertEqual({type(outcome) for outcome in outcomes}, {ServerUnreachable})


class WhereNobodyAnswers(unittest.TestCase):
    """A server that breaks the first connections after it has read the call, then refuses each call in words."""

    def setUp(self):
        test = self
        self.calls = []

        class Breaks(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                test.calls.append(self.headers.get("Authorization"))
                if len(test.calls) <= 2:
                    self.connection.close()
                else:
                    self.send_error(401)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Breaks)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def tearDown(self):
        self.server.shutdown()
        self.server.server_close()

    def test_a_submission_that_may_have_arrived_is_not_repeated(self):
        with self.assertRaises(ServerUnreachable) as lost:
            Client(self.url).submit("example")
        self.assertTrue(lost.exception.sent)
        self.assertEqual(len(self.calls), 1)

    def test_one_with_a_key_is_repeated_and_brings_who_calls(self):
        with self.assertRaises(XQueueError) as refused:
            Client(self.url, key="secret").submit("example", idempotency_key="once")
        self.assertEqual(refused.exception.status, 401)
        self.assertEqual(self.calls, ["Bearer secret"] * 3)

    def test_one_that_was_not_sent_is_repeated_until_patience_ends(self):
        self.tearDown()
        with self.assertRaises(ServerUnreachable) as lost:
            Client(self.url, patience=0.5).submit("example")
        self.assertFalse(lost.exception.sent)
        self.assertIn("check that `xqueue serve` runs there", str(lost.exception))


class KeptConnections(unittest.TestCase):
    """A server that counts its connections, and can end them."""

    def setUp(self):
        self.sockets = sockets = []

        class Answers(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                sockets.append(self.connection)

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.server.daemon_threads = True
        self.client = Client(f"http://127.0.0.1:{self.server.server_port}")
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def tearDown(self):
        self.end_connections()
        self.server.shutdown()
        self.server.server_close()

    def end_connections(self):
        for sock in self.sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It has ended before.

    def call_from_new_threads(self, threads):
        def call():
            for _ in range(5):
                self.client.call("GET", "/stats")

        callers = [threading.Thread(target=call) for _ in range(threads)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

    def test_are_as_many_as_there_are_concurrent_calls_whichever_threads_call(self):
        for _ in range(10):
            self.call_from_new_threads(4)
        self.assertLessEqual(len(self.sockets), 4)

    def test_are_replaced_when_the_server_has_ended_them(self):
        self.call_from_new_threads(4)
        self.end_connections()
        self.call_from_new_threads(4)
        self.assertLessEqual(len(self.sockets), 8)

    @unittest.skipUnless(hasattr(os, "fork"), "this system has no fork")
    def test_are_not_shared_with_a_forked_process(self):
        self.client.call("GET", "/stats")
        child = os.fork()
        if child == 0:
            try:
                self.client.call("GET", "/stats")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        self.client.call("GET", "/stats")
        self.assertEqual(len(self.sockets), 2)


@unittest.skipIf(resource is None, "this system has no limit of open files to raise")
class WithManyFiles(unittest.TestCase):
    def test_calls_again_and_again_beside_more_than_1024_open_files(self):
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 1_200), before[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        with ExitStack() as stack:
            for _ in range(1_100):
                stack.enter_context(open(os.devnull))
            client = Client()
            for _ in range(3):
                self.assertEqual(client.submit("example", {"duration": 0}).type, "example")


class LongWaits(unittest.TestCase):
    def test_waits_for_longer_than_a_call_may(self):
        ended = "\n" + json.dumps({"id": "7", "status": "failed"}) + "\n"
        answers = [(429, '{"code": "too_many_calls"}'), (200, "\n\n"), (503, '{"code": "shutting_down"}'), (200, ended)]
        asked = []

        class Server(BaseHTTPRequestHandler):
            def do_POST(self):
                asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["ids"])
                status, text = answers.pop(0)
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            task = Client(f"http://127.0.0.1:{server.server_port}", patience=2.0).wait("7", timeout=30)
            server.shutdown()
        self.assertEqual(task.status, "failed")
        self.assertEqual((asked, answers), ([["7"]] * 4, []))


if __name__ == "__main__":
    unittest.main()
