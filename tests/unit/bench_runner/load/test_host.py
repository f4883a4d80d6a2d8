"""What the kernel tells about a load process, and what it grants."""

from __future__ import annotations

import os
from typing import Any

import pytest

from bench_runner.load import host
from bench_runner.load.host import PRIORITIES, peak_memory_kib, raise_priority, read_counters


def refuse(*_: Any) -> None:
    raise PermissionError


@pytest.fixture
def granted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked for and granted; nothing happens to this process."""
    asked: list[str] = []
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: asked.append("realtime"))
    monkeypatch.setattr(os, "setpriority", lambda *_: asked.append("nice"))
    return asked


def test_real_time_leaves_a_core_to_everyone_else(granted: list[str]) -> None:
    assert [raise_priority(1), raise_priority(2)] == granted == ["realtime", "nice"]


def test_the_next_best_is_taken(granted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert raise_priority(1) == "nice"
    monkeypatch.setattr(os, "setpriority", refuse)
    assert raise_priority(1) == "normal"
    assert granted == ["nice"]
    assert PRIORITIES == ("realtime", "nice", "normal")


def test_counters_only_rise() -> None:
    before = read_counters()
    after = read_counters()
    assert after.preemptions >= before.preemptions >= 0
    assert before.cpu_wait_ns is not None
    assert after.cpu_wait_ns is not None
    assert after.cpu_wait_ns >= before.cpu_wait_ns
    assert before.stolen_ms is not None


@pytest.mark.parametrize("place", [1, 10_000])
def test_a_counter_that_is_not_there_is_none(place: int) -> None:
    assert host._field("/proc/none/of/these", place) is None
    assert host._field("/proc/self/comm", place) is None


def test_memory_is_more_than_an_interpreter_takes_at_least() -> None:
    assert peak_memory_kib() > 5_000
