"""Reads what the kernel says of this host. What it does not say is `None`."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
from pathlib import Path

from services.cli.checks.host import HostFacts

#: `struct timex` of adjtimex(2) is 208 bytes on 64-bit Linux; its field `status` lies at 40.
_TIMEX_BYTES, _STATUS_AT = 512, 40
_STA_UNSYNC = 0x40
_WAIT_S = 2.0
#: in so long a kernel that stamps has begun to
_STAMPS_WITHIN_S = 2.0
#: between two bytes while none has had a stamp
_PAUSE_S = 0.001


def read_host(root: Path = Path("/")) -> HostFacts:
    """`root`: where /sys and /dev are."""
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    shared = _disk(root / "dev/shm")
    governors = {_line(path) for path in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return HostFacts(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        clock_source=_line(root / "sys/devices/system/clocksource/clocksource0/current_clocksource"),
        time_synced=_is_time_synced(),
        governors=tuple(sorted(one for one in governors if one)),
        shared_bytes=None if shared is None else shared[0],
        shared_free_bytes=None if shared is None else shared[1],
        open_files=None if most_files == resource.RLIM_INFINITY else most_files,
        receive_stamps=has_receive_stamps(),
    )


def has_receive_stamps() -> bool | None:
    """Sends bytes to itself over loopback as a load receives them; `None`: they did not get through.

    The kernel begins to stamp some time after the first socket of the host asks for it, tens of ms on a busy one, so
    the first bytes may have none.
    """
    from bench_runner.load.connection import ANCILLARY_BYTES, SO_TIMESTAMPNS
    from engines.clock import monotonic_ns, sleep_s

    until_ns = monotonic_ns() + round(_STAMPS_WITHIN_S * 1e9)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(_WAIT_S)
            with (
                socket.create_connection(listener.getsockname(), timeout=_WAIT_S) as receiver,
                listener.accept()[0] as sender,
            ):
                receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
                while True:
                    sender.sendall(b"x")
                    _, told, _, _ = receiver.recvmsg(1, ANCILLARY_BYTES)
                    if any((level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS) for level, kind, _ in told):
                        return True
                    if monotonic_ns() > until_ns:
                        return False
                    sleep_s(_PAUSE_S)
    except (OSError, AttributeError):
        return None


def _is_time_synced() -> bool | None:
    """What adjtimex(2) says when it is only asked, as anybody may."""
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        if ctypes.CDLL(None).adjtimex(timex) < 0:
            return None
    except (OSError, AttributeError):
        return None
    status = ctypes.c_int.from_buffer(timex, _STATUS_AT).value
    return not status & _STA_UNSYNC


def _line(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def _disk(folder: Path) -> tuple[int, int] | None:
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail
