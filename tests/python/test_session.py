"""A session spoken by a generated stub: many locks of one client over one stream."""

import queue
import unittest

import grpc

from processes import BOUND_SECONDS, Server
from stubs import lock_pb2, service_pb2_grpc, session_pb2

WAITERS = 1000


class Talk:
    """One session: messages go out through a queue, events come back in order."""

    def __init__(self, locks, owner):
        self._outgoing = queue.SimpleQueue()
        self._number = 0
        self._events = []
        self.send(hello=session_pb2.Hello(owner=owner))
        self._responses = locks.Session(iter(self._outgoing.get, None), timeout=BOUND_SECONDS)
        self.welcome = next(self._responses).welcome

    def send(self, **fields):
        """Sends one message; returns its number."""
        self._number += 1
        self._outgoing.put(session_pb2.SessionRequest(number=self._number, **fields))
        return self._number

    def event(self):
        """The next event."""
        while not self._events:
            self._events.extend(next(self._responses).events)
        return self._events.pop(0)

    def close(self):
        """Says that nothing more will come, and reads to the end."""
        self._outgoing.put(None)
        for _ in self._responses:
            pass


def lock(number, key):
    """A call that takes a ticket."""
    return session_pb2.SessionCall(id=number, lock=lock_pb2.LockRequest(key=key))


def unlock(number, key, token):
    """A call that ends a hold."""
    return session_pb2.SessionCall(id=number, unlock=lock_pb2.UnlockRequest(key=key, fencing_token=token))


class SessionTest(unittest.TestCase):
    """Against the real server."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)
        cls.channel = grpc.insecure_channel(cls.server.grpc)
        cls.addClassCleanup(cls.channel.close)
        cls.locks = service_pb2_grpc.LockServiceStub(cls.channel)

    def test_a_thousand_waiters_on_one_stream(self):
        """A thousand tickets in one line on one stream are granted one after the other, in order."""
        talk = Talk(self.locks, "python")
        self.assertEqual(len(talk.welcome.store_id), 16)
        talk.send(calls=[lock(number, "python/line") for number in range(1, WAITERS + 1)])
        first = talk.event()
        self.assertEqual((first.id, first.WhichOneof("event")), (1, "granted"))
        for number in range(2, WAITERS + 1):
            queued = talk.event()
            self.assertEqual((queued.id, queued.queued.position), (number, number - 2))
        token = first.granted.fencing_token
        for number in range(2, WAITERS + 1):
            talk.send(calls=[unlock(WAITERS + number, "python/line", token)])
            granted = next(event for event in iter(talk.event, None) if event.WhichOneof("event") == "granted")
            self.assertEqual(granted.id, number)
            self.assertGreater(granted.granted.fencing_token, token)
            token = granted.granted.fencing_token
        talk.close()
        self.assertFalse(self.locks.GetLock(lock_pb2.GetLockRequest(key="python/line")).held)

    def test_a_failure_is_told_in_band(self):
        """A malformed call is answered by its reason, and the session goes on."""
        talk = Talk(self.locks, "python")
        talk.send(calls=[lock(1, ""), lock(2, "python/other")])
        told = {event.id: event for event in (talk.event(), talk.event())}
        self.assertEqual(told[1].error.reason, "INVALID_KEY")
        self.assertEqual(told[2].WhichOneof("event"), "granted")
        talk.close()


if __name__ == "__main__":
    unittest.main()
