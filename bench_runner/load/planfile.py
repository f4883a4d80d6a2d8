"""The plan file: all that a load process needs, laid out to be used in place.

header, address, host name, path of a CA file, offsets, think times, payload ends (int64 each), payloads. Native byte
order: the file never leaves its host. It holds complete requests, credentials included, so it is
unlinked once it is open, and load processes inherit it.
"""

from __future__ import annotations

import mmap
import os
import struct
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench_runner.load.channel import NEVER_NS

if TYPE_CHECKING:
    from bench_runner.load.contract import LoadPlan

PLAN_FILE = "plan.bin"

_MAGIC = b"EBPLAN02"
#: magic; requests, concurrency (0: no cap); request, connect and run timeout, end of sending (-1: none) in ns; port,
#: flags, lengths of the three texts
_HEADER = struct.Struct("=8sqqqqqqHHHHHxxxxxx")
_FRESH, _QUICK_ACK, _TLS, _SCHEDULED, _THINKING = 1, 2, 4, 8, 16


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
    #: closed loop: wait behind each request before its slot goes on, ns; `None`: none
    think_ns: memoryview | None
    #: offset after which nothing new is sent, ns
    until_ns: int
    #: certificate authorities beside the system's; "": none
    ca_file: str
    #: where each payload ends, from `payloads_at` on
    ends: memoryview
    payloads_at: int
    fd: int

    def forget(self) -> None:
        """Gives back the pages of the arrays that were looked at, which the page cache keeps."""
        assert isinstance(self.ends.obj, mmap.mmap)
        self.ends.obj.madvise(mmap.MADV_DONTNEED)

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
        | (_THINKING if plan.think_ns is not None else 0)
    )
    address, host = plan.origin.address.encode(), plan.origin.host.encode()
    ca_file = os.fsencode(plan.ca_file) if plan.ca_file is not None else b""
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
                -1 if plan.send_until_ns is None else plan.send_until_ns,
                plan.origin.port,
                flags,
                len(address),
                len(host),
                len(ca_file),
            )
        )
        file.write(_padded(address + host + ca_file))
        if plan.offsets_ns is not None:
            file.write(plan.offsets_ns.tobytes())
        if plan.think_ns is not None:
            file.write(plan.think_ns.tobytes())
        ends, end = array("q"), 0
        for request in plan.requests:
            end += len(request.payload)
            ends.append(end)
        file.write(ends.tobytes())
        file.writelines(request.payload for request in plan.requests)
    return path


def open_plan(fd: int) -> Plan:
    """Takes an open plan file, for as long as the process lives.

    Raises:
        ValueError: not a plan file of this version.
    """
    view = memoryview(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
    magic, count, concurrency, request_ns, connect_ns, run_ns, until_ns, port, flags, *lengths = _HEADER.unpack_from(
        view
    )
    if magic != _MAGIC:
        raise ValueError("not a plan file of this version")
    at = _HEADER.size
    names = bytes(view[at : at + sum(lengths)])
    address_end, host_end = lengths[0], lengths[0] + lengths[1]
    at += len(_padded(names))
    arrays = []
    for flag in (_SCHEDULED, _THINKING, 0):
        present = flags & flag == flag
        arrays.append(view[at : at + 8 * count].cast("q") if present else None)
        at += 8 * count if present else 0
    offsets, think, ends = arrays
    assert ends is not None
    return Plan(
        address=names[:address_end].decode(),
        port=port,
        host=names[address_end:host_end].decode(),
        tls=bool(flags & _TLS),
        fresh_connections=bool(flags & _FRESH),
        quick_ack=bool(flags & _QUICK_ACK),
        concurrency=concurrency or None,
        request_timeout_ns=request_ns,
        connect_timeout_ns=connect_ns,
        run_timeout_ns=run_ns,
        offsets_ns=offsets,
        think_ns=think,
        until_ns=NEVER_NS if until_ns < 0 else until_ns,
        ca_file=os.fsdecode(names[host_end:]),
        ends=ends,
        payloads_at=at,
        fd=fd,
    )


def _padded(data: bytes) -> bytes:
    """Up to a multiple of eight, so that the arrays behind are aligned."""
    return data + bytes(-len(data) % 8)
