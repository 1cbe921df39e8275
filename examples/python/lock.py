"""Runs a command under a lock, with nothing but stubs that grpcio-tools generated from the API.

    pip install grpcio grpcio-tools
    python -m grpc_tools.protoc -I proto --python_out=stubs --grpc_python_out=stubs proto/ticketlock/v1/*.proto
    PYTHONPATH=stubs python examples/python/lock.py 127.0.0.1:8476 backup -- sh -c 'echo "token $TICKETLOCK_FENCING_TOKEN"'

The stream is the lock: while it is open the server renews the lease, and when this process dies the lock passes on.
"""

import os
import subprocess
import sys

import grpc
from ticketlock.v1 import lock_pb2, service_pb2_grpc


def main(address, key, command):
    owner = f"{os.uname().nodename}/{os.getpid()}"
    # One id per logical request: a retry carries the same one, and a waiter can be cancelled by it.
    request = lock_pb2.LockRequest(key=key, owner=owner, request_id=os.urandom(16))
    with grpc.insecure_channel(address) as channel:
        locks = service_pb2_grpc.LockServiceStub(channel)
        events = locks.Lock(request)
        for event in events:
            kind = event.WhichOneof("event")
            if kind == "queued":
                print(f"{event.queued.position} ahead, {event.queued.holders} hold", file=sys.stderr)
            elif kind == "granted":
                return work(locks, events, key, owner, event.granted.fencing_token, command)
            elif kind == "refused":
                print(f"not granted: {lock_pb2.RefusedReason.Name(event.refused.reason)}", file=sys.stderr)
        return 75


def work(locks, events, key, owner, token, command):
    """Under the lock. The command gets the token, and gives it to whatever it writes to."""
    status = subprocess.run(command, env={**os.environ, "TICKETLOCK_FENCING_TOKEN": str(token)}).returncode
    success = lock_pb2.OUTCOME_STATUS_SUCCESS if status == 0 else lock_pb2.OUTCOME_STATUS_FAILURE
    unlock = lock_pb2.UnlockRequest(key=key, owner=owner, fencing_token=token, outcome=lock_pb2.Outcome(status=success))
    released = locks.Unlock(unlock).result == lock_pb2.UNLOCK_RESULT_RELEASED
    # The stream ends by itself, after a last event if the lock was lost meanwhile: read it to its end.
    for event in events:
        if event.WhichOneof("event") == "lost":
            print(f"lost: {lock_pb2.LostReason.Name(event.lost.reason)}", file=sys.stderr)
    return status if released else 76


if __name__ == "__main__":
    if len(sys.argv) < 5 or sys.argv[3] != "--":
        sys.exit("usage: lock.py ADDRESS KEY -- COMMAND...")
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[4:]))
