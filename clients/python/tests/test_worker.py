"""What a worker does in its own process, against a real server, whose address is in XQUEUE_SERVER."""

import signal
import threading
import unittest

from xqueue import Client, Worker


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


if __name__ == "__main__":
    unittest.main()
