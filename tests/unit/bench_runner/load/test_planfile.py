"""A plan through its file and back."""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from typing import Any

import pytest

from bench_runner.load.channel import NEVER_NS
from bench_runner.load.contract import LoadPlan, SocketPolicy
from bench_runner.load.planfile import Plan, open_plan, write_plan
from engines.contract import Origin, WireRequest


def make_plan(spool: Path, *, offsets_ns: array[int] | None, concurrency: int | None, **changes: Any) -> LoadPlan:
    return LoadPlan(
        origin=Origin(scheme="https", host="engine.example", port=8443, base_path="", address="2001:db8::1"),
        requests=(WireRequest(0, b"first"), WireRequest(1, b""), WireRequest(2, b"the third")),
        offsets_ns=offsets_ns,
        concurrency=concurrency,
        socket=SocketPolicy(fresh_connections=False, quick_ack=True),
        request_timeout_s=1.5,
        connect_timeout_s=0.25,
        run_timeout_s=3600.0,
        spool=spool,
        **changes,
    )


def reopen(path: Path) -> Plan:
    return open_plan(os.open(path, os.O_RDONLY))


def test_a_scheduled_plan(tmp_path: Path) -> None:
    plan = reopen(write_plan(make_plan(tmp_path, offsets_ns=array("q", [0, 5, 2**40]), concurrency=None)))
    assert (plan.address, plan.port, plan.host, plan.tls) == ("2001:db8::1", 8443, "engine.example", True)
    assert (plan.fresh_connections, plan.quick_ack, plan.concurrency) == (False, True, None)
    assert (plan.request_timeout_ns, plan.connect_timeout_ns) == (1_500_000_000, 250_000_000)
    assert plan.run_timeout_ns == 3_600_000_000_000
    assert plan.offsets_ns is not None
    assert list(plan.offsets_ns) == [0, 5, 2**40]
    assert [bytes(plan.payload(position)) for position in range(3)] == [b"first", b"", b"the third"]
    assert (plan.think_ns, plan.until_ns, plan.ca_file) == (None, NEVER_NS, "")


def test_a_closed_loop_has_no_offsets(tmp_path: Path) -> None:
    plan = reopen(write_plan(make_plan(tmp_path, offsets_ns=None, concurrency=2)))
    assert plan.offsets_ns is None
    assert plan.concurrency == 2
    assert bytes(plan.payload(2)) == b"the third"


def test_think_times_an_end_of_sending_and_authorities(tmp_path: Path) -> None:
    more = {"think_ns": array("q", [7, 0, 2**40]), "send_until_ns": 0, "ca_file": Path("/own/ca of ours.pem")}
    plan = reopen(write_plan(make_plan(tmp_path, offsets_ns=None, concurrency=2, **more)))
    assert plan.think_ns is not None
    plan.forget()
    assert list(plan.think_ns) == [7, 0, 2**40]
    assert (plan.until_ns, plan.ca_file, plan.host) == (0, "/own/ca of ours.pem", "engine.example")
    assert bytes(plan.payload(2)) == b"the third"


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = write_plan(make_plan(tmp_path, offsets_ns=None, concurrency=1))
    assert path.stat().st_mode & 0o077 == 0


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.bin"
    path.write_bytes(b"something else" * 20)
    with pytest.raises(ValueError, match="not a plan file"):
        reopen(path)
