"""The plan file: all that a load process needs, laid out to be used in place.

header, address, host name, offsets (int64 each), payload ends (int64 each), payloads. Native byte order: the file never
leaves its host. It holds complete requests, credentials included, so the load process unlinks it once it is open.
"""

from __future__ import annotations

import mmap
import os
import struct
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bench_runner.load.contract import LoadPlan

PLAN_FILE = "plan.bin"

_MAGIC = b"EBPLAN01"
#: magic; requests, concurrency (0: no cap); request, connect and run timeout in ns; port, flags, lengths of the
#: address and of the host name
_HEADER = struct.Struct("=8sqqqqqHHHHxxxxxxxx")
_FRESH, _QUICK_ACK, _TLS, _SCHEDULED = 1, 2, 4, 8


class Plan(NamedTuple):
    """The plan as the load process sees it. The arrays are mapped, the payloads stay in the file until they are due."""

    address: str
    port: int
    #: name that a TLS certificate must carry
    host: str
    tls: bool
    fresh_connections: bool
    quick_ack: bool
    #: most in flight; `None`: no cap
    concurrency: int | None
    request_timeout_ns: int
    connect_timeout_ns: int
    run_timeout_ns: int
    #: send offset of each request from the window's start, ns; `None`: closed loop
    offsets_ns: memoryview | None
    #: where each payload ends, from `payloads_at` on
    ends: memoryview
    payloads_at: int
    fd: int

    def payload(self, position: int) -> memoryview:
        """The complete HTTP request at `position`. Read, not mapped: pages once touched would stay in memory."""
        start = self.ends[position - 1] if position else 0
        return memoryview(os.pread(self.fd, self.ends[position] - start, self.payloads_at + start))


def write_plan(plan: LoadPlan) -> Path:
    """Writes `plan` into its spool folder, readable by this user only.

    Raises:
        OSError: the spool cannot be written.
    """
    flags = (
        (_FRESH if plan.socket.fresh_connections else 0)
        | (_QUICK_ACK if plan.socket.quick_ack else 0)
        | (_TLS if plan.origin.scheme == "https" else 0)
        | (_SCHEDULED if plan.offsets_ns is not None else 0)
    )
    address, host = plan.origin.address.encode(), plan.origin.host.encode()
    path = plan.spool / PLAN_FILE
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(
            _HEADER.pack(
                _MAGIC,
                len(plan.requests),
                plan.concurrency or 0,
                round(plan.request_timeout_s * 1e9),
                round(plan.connect_timeout_s * 1e9),
                round(plan.run_timeout_s * 1e9),
                plan.origin.port,
                flags,
                len(address),
                len(host),
            )
        )
        file.write(_padded(address + host))
        if plan.offsets_ns is not None:
            file.write(plan.offsets_ns.tobytes())
        ends, end = array("q"), 0
        for request in plan.requests:
            end += len(request.payload)
            ends.append(end)
        file.write(ends.tobytes())
        file.writelines(request.payload for request in plan.requests)
    return path


def open_plan(path: Path) -> Plan:
    """Opens a plan file, for as long as the process lives.

    Raises:
        ValueError: not a plan file of this version.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    view = memoryview(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
    magic, count, concurrency, request_ns, connect_ns, run_ns, port, flags, address_len, host_len = _HEADER.unpack_from(
        view
    )
    if magic != _MAGIC:
        raise ValueError(f"{path.name} is not a plan file of this version")
    at = _HEADER.size
    names = bytes(view[at : at + address_len + host_len])
    at += len(_padded(names))
    offsets = None
    if flags & _SCHEDULED:
        offsets = view[at : at + 8 * count].cast("q")
        at += 8 * count
    return Plan(
        address=names[:address_len].decode(),
        port=port,
        host=names[address_len:].decode(),
        tls=bool(flags & _TLS),
        fresh_connections=bool(flags & _FRESH),
        quick_ack=bool(flags & _QUICK_ACK),
        concurrency=concurrency or None,
        request_timeout_ns=request_ns,
        connect_timeout_ns=connect_ns,
        run_timeout_ns=run_ns,
        offsets_ns=offsets,
        ends=view[at : at + 8 * count].cast("q"),
        payloads_at=at + 8 * count,
        fd=fd,
    )


def _padded(data: bytes) -> bytes:
    """Up to a multiple of eight, so that the arrays behind are aligned."""
    return data + bytes(-len(data) % 8)
