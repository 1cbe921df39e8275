"""A process that takes one lock and says each event on its standard output: `locker.py ADDRESS KEY OWNER`."""

import sys

import grpc

import stubs

LOCK_SECONDS = 120.0


def main(address, key, owner):
    with grpc.insecure_channel(address) as channel:
        locks = stubs.service_pb2_grpc.LockServiceStub(channel)
        for message in locks.Lock(stubs.lock_pb2.LockRequest(key=key, owner=owner), timeout=LOCK_SECONDS):
            kind = message.WhichOneof("event")
            print(kind, message.granted.fencing_token if kind == "granted" else "", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
