"""A client from generated stubs alone: waits in line, holds, loses, cancels, and reads why it was refused."""

import os
import unittest

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import stubs
from processes import BOUND_SECONDS, Server

pb = stubs.lock_pb2


def request(key, owner, **fields):
    return pb.LockRequest(key=key, owner=owner, request_id=os.urandom(16), **fields)


def next_event(stream):
    message = next(stream)
    return message, message.WhichOneof("event")


class StubTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)
        cls.channel = grpc.insecure_channel(cls.server.grpc)
        cls.addClassCleanup(cls.channel.close)
        cls.locks = stubs.service_pb2_grpc.LockServiceStub(cls.channel)

    def lock(self, message):
        stream = self.locks.Lock(message, timeout=BOUND_SECONDS)
        self.addCleanup(stream.cancel)
        return stream

    def expect(self, stream, kind):
        """The next event of the stream, which is of this kind."""
        message, got = next_event(stream)
        self.assertEqual(got, kind, message)
        return getattr(message, kind)

    def unlock(self, key, owner, **fields):
        message = pb.UnlockRequest(key=key, owner=owner, **fields)
        return self.locks.Unlock(message, timeout=BOUND_SECONDS)

    def test_waits_in_line_sees_its_place_and_is_granted(self):
        """Two wait behind a holder: both see their place, the holder sees Contended, the grants come in order."""
        first = self.lock(request("line", "a", events=pb.EventOptions(contended=True)))
        message, kind = next_event(first)
        self.assertEqual(kind, "granted")
        self.assertEqual(len(message.store_id), 16)
        token = message.granted.fencing_token

        second = self.lock(request("line", "b"))
        queued = self.expect(second, "queued")
        self.assertEqual((queued.position, queued.holders), (0, 1))
        self.assertEqual(queued.reason, pb.WAIT_REASON_HELD)
        third = self.lock(request("line", "c"))
        queued = self.expect(third, "queued")
        self.assertEqual((queued.position, queued.holders), (1, 1))
        self.assertGreaterEqual(self.expect(first, "contended").waiters, 1)

        outcome = pb.Outcome(status=pb.OUTCOME_STATUS_SUCCESS, note="layer is there")
        answer = self.unlock("line", "a", fencing_token=token, outcome=outcome)
        self.assertEqual(answer.result, pb.UNLOCK_RESULT_RELEASED)
        granted = self.expect(second, "granted")
        self.assertGreater(granted.fencing_token, token)
        self.assertEqual(granted.lowest_valid, granted.fencing_token)
        self.assertEqual(granted.previous_outcome, outcome)
        # The holder's stream ends by itself; a Contended may still be on its way.
        self.assertLessEqual({kind for kind in map(kind_of, first)}, {"contended"})

        late = self.unlock("line", "a", fencing_token=token)
        self.assertEqual(late.result, pb.UNLOCK_RESULT_ALREADY_RELEASED)
        answer = self.unlock("line", "b", fencing_token=granted.fencing_token)
        self.assertEqual(answer.result, pb.UNLOCK_RESULT_RELEASED)
        last = self.expect(third, "granted")
        self.assertGreater(last.fencing_token, granted.fencing_token)
        self.unlock("line", "c", fencing_token=last.fencing_token)

    def test_loses_a_lease_by_expiry_and_is_told(self):
        """With LEASE nobody but the client renews: the hold ends with its lease, and the stream says EXPIRED."""
        ttl = Duration(nanos=300_000_000)
        stream = self.lock(request("lease", "a", ttl=ttl, on_disconnect=pb.ON_DISCONNECT_LEASE))
        granted = self.expect(stream, "granted")
        self.assertEqual(granted.ttl, ttl)
        lost = self.expect(stream, "lost")
        self.assertEqual((lost.reason, lost.fencing_token), (pb.LOST_REASON_EXPIRED, granted.fencing_token))
        self.assertEqual(list(stream), [])

        late = self.unlock("lease", "a", fencing_token=granted.fencing_token)
        self.assertEqual(late.result, pb.UNLOCK_RESULT_ALREADY_RELEASED)
        self.assertEqual(late.ended_by, pb.LOST_REASON_EXPIRED)
        renewal = pb.RenewRequest(owner="a", items=[pb.RenewItem(key="lease", fencing_token=granted.fencing_token)])
        answer = self.locks.Renew(renewal, timeout=BOUND_SECONDS)
        self.assertEqual([result.status for result in answer.results], [pb.RENEW_STATUS_NOT_HELD])
        state = self.locks.GetLock(pb.GetLockRequest(key="lease"), timeout=BOUND_SECONDS)
        self.assertFalse(state.held)

    def test_cancels_by_request_id(self):
        """A waiter leaves the line by its request id alone, is told so, and the one behind it moves up."""
        holder = self.lock(request("cancel", "a"))
        token = self.expect(holder, "granted").fencing_token
        message = request("cancel", "b")
        waiter = self.lock(message)
        self.expect(waiter, "queued")
        behind = self.lock(request("cancel", "c", events=pb.EventOptions(queue_updates=True)))
        self.assertEqual(self.expect(behind, "queued").position, 1)

        answer = self.unlock("cancel", "b", request_id=message.request_id)
        self.assertEqual(answer.result, pb.UNLOCK_RESULT_CANCELLED)
        self.assertEqual(self.expect(waiter, "refused").reason, pb.REFUSED_REASON_CANCELLED)
        self.assertEqual(list(waiter), [])
        self.assertEqual(self.expect(behind, "queued").position, 0)

        self.unlock("cancel", "a", fencing_token=token)
        granted = self.expect(behind, "granted")
        self.unlock("cancel", "c", fencing_token=granted.fencing_token)

    def test_a_stream_that_goes_away_passes_the_lock_on(self):
        """A cancelled stream is the client's own end: the next in line is granted at once."""
        holder = self.lock(request("drop", "a"))
        self.expect(holder, "granted")
        waiter = self.lock(request("drop", "b"))
        self.expect(waiter, "queued")
        holder.cancel()
        granted = self.expect(waiter, "granted")
        self.assertEqual(granted.previous_outcome.status, pb.OUTCOME_STATUS_LOST)
        self.unlock("drop", "b", fencing_token=granted.fencing_token)

    def test_a_try_names_what_is_in_the_way(self):
        """TryLock is refused while somebody holds, and names the holder."""
        holder = self.lock(request("try", "a"))
        token = self.expect(holder, "granted").fencing_token
        answer = self.locks.TryLock(pb.TryLockRequest(key="try", owner="b"), timeout=BOUND_SECONDS)
        self.assertEqual(answer.WhichOneof("result"), "refused")
        self.assertEqual(answer.refused.obstacle.holder.owner, "a")
        self.assertEqual(answer.refused.obstacle.holder.fencing_token, token)
        self.unlock("try", "a", fencing_token=token)

    def test_reads_the_reason_of_an_error(self):
        """A failure carries google.rpc.ErrorInfo: clients switch on its reason, not on the text."""
        too_long = Duration(seconds=7 * 24 * 3600)
        cases = [
            (request("", "a"), "INVALID_KEY"),
            (request("with\nnewline", "a"), "INVALID_KEY"),
            (request("error", "a", ttl=too_long), "INVALID_TTL"),
        ]
        for message, reason in cases:
            with self.subTest(reason=reason), self.assertRaises(grpc.RpcError) as raised:
                next(self.lock(message))
            self.assertEqual(raised.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
            self.assertEqual(error_info(raised.exception), ("ticketlock", reason))

    def test_an_owner_that_asks_for_it_is_refused_its_own_lock(self):
        """same_owner REFUSE answers LOCK_BY_SELF."""
        holder = self.lock(request("self", "a"))
        token = self.expect(holder, "granted").fencing_token
        with self.assertRaises(grpc.RpcError) as raised:
            next(self.lock(request("self", "a", same_owner=pb.SAME_OWNER_REFUSE)))
        self.assertEqual(raised.exception.code(), grpc.StatusCode.ALREADY_EXISTS)
        self.assertEqual(error_info(raised.exception), ("ticketlock", "LOCK_BY_SELF"))
        self.unlock("self", "a", fencing_token=token)


def kind_of(message):
    return message.WhichOneof("event")


def error_info(error):
    """(domain, reason) of the error's google.rpc.ErrorInfo."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.domain, info.reason
    return None
