"""Stubs generated from proto/ by grpcio-tools alone: what any foreign client would have."""

import importlib
import pathlib
import sys
import tempfile

import grpc_tools
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[2]


def generate(folder):
    """Generates the modules of package ticketlock.v1 into `folder`."""
    protos = sorted(str(path) for path in (ROOT / "proto").glob("ticketlock/v1/*.proto"))
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"-I{well_known}", f"--python_out={folder}"]
    status = protoc.main([*arguments, f"--grpc_python_out={folder}", *protos])
    if status != 0:
        raise RuntimeError(f"protoc answered {status}")


def _load():
    with tempfile.TemporaryDirectory(prefix="ticketlock-stubs-") as folder:
        generate(folder)
        sys.path.insert(0, folder)
        try:
            names = ("lock_pb2", "session_pb2", "service_pb2_grpc", "admin_pb2", "admin_pb2_grpc")
            return [importlib.import_module(f"ticketlock.v1.{name}") for name in names]
        finally:
            sys.path.remove(folder)


lock_pb2, session_pb2, service_pb2_grpc, admin_pb2, admin_pb2_grpc = _load()
