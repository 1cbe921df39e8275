"""A contended load from generated stubs: every way in which a lock can be asked for, lost and given back."""

import os
import threading

import grpc
from google.protobuf.duration_pb2 import Duration

import stubs
from processes import BOUND_SECONDS

pb = stubs.lock_pb2
RIVALS = 6
PAUSE_SECONDS = 0.02


def milliseconds(count):
    return Duration(seconds=count // 1000, nanos=count % 1000 * 1_000_000)


class Load:
    """Runs while its `with` block does. An unexpected error of a worker is in `errors`."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.locks = stubs.service_pb2_grpc.LockServiceStub(self.channel)
        self.stop = threading.Event()
        self.errors = []
        steps = [self.rival] * RIVALS + [self.reader] * 2 + [self.permit] * 2
        steps += [self.loses, self.gives_up, self.tries, self.cancels, self.renews, self.errs]
        self.threads = [threading.Thread(target=self.loop, args=(step, n)) for n, step in enumerate(steps)]

    def __enter__(self):
        self.watch = self.locks.WatchLocks(pb.WatchLocksRequest())
        self.held = self.lock("held", "holder", ttl=milliseconds(60_000))
        self.held_token = granted(self.held).fencing_token
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(BOUND_SECONDS)
        self.held.cancel()
        self.watch.cancel()
        self.channel.close()

    def loop(self, step, number):
        try:
            while not self.stop.wait(PAUSE_SECONDS):
                step(f"worker-{number}")
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append(f"{step.__name__}: {error!r}")

    def lock(self, key, owner, **fields):
        return self.locks.Lock(pb.LockRequest(key=key, owner=owner, **fields), timeout=BOUND_SECONDS)

    def unlock(self, key, owner, **fields):
        return self.locks.Unlock(pb.UnlockRequest(key=key, owner=owner, **fields), timeout=BOUND_SECONDS)

    def cycle(self, key, owner, **fields):
        stream = self.lock(key, owner, **fields)
        token = granted(stream).fencing_token
        self.unlock(key, owner, fencing_token=token)
        for _ in stream:
            pass
        return token

    def rival(self, owner):
        self.cycle("hot", owner)

    def reader(self, owner):
        self.cycle("mixed", owner, mode=pb.LOCK_MODE_SHARED)

    def permit(self, owner):
        self.cycle("permits", owner, mode=pb.LOCK_MODE_PERMITS, permits=2, capacity=3)

    def loses(self, owner):
        stream = self.lock("lease", owner, ttl=milliseconds(100), on_disconnect=pb.ON_DISCONNECT_LEASE)
        token = granted(stream).fencing_token
        for _ in stream:
            pass
        self.unlock("lease", owner, fencing_token=token)

    def gives_up(self, owner):
        for _ in self.lock("held", owner, wait_timeout=milliseconds(50)):
            pass

    def tries(self, owner):
        self.locks.TryLock(pb.TryLockRequest(key="held", owner=owner), timeout=BOUND_SECONDS)

    def cancels(self, owner):
        request_id = os.urandom(16)
        stream = self.lock("held", owner, request_id=request_id)
        next(stream)
        self.unlock("held", owner, request_id=request_id)
        for _ in stream:
            pass

    def renews(self, _):
        for token in (self.held_token, 1):
            items = [pb.RenewItem(key="held", fencing_token=token)]
            self.locks.Renew(pb.RenewRequest(owner="holder", items=items), timeout=BOUND_SECONDS)

    def errs(self, owner):
        try:
            next(self.lock("", owner))
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                return
            raise
        raise RuntimeError("an empty key was accepted")


def granted(stream):
    for message in stream:
        if message.WhichOneof("event") == "granted":
            return message.granted
    raise RuntimeError("the stream ended without a grant")
