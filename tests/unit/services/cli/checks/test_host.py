"""From what the kernel says to what is to be done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.cli.checks.finding import State
from services.cli.checks.host import HostFacts, judge_host
from services.cli.checks.kernel import read_host

FIT = HostFacts(
    cores=16,
    clock_source="tsc",
    time_synced=True,
    governors=("performance",),
    shared_bytes=64 << 30,
    shared_free_bytes=64 << 30,
    open_files=1_048_576,
    receive_stamps=True,
)
UNKNOWN = HostFacts(None, None, None, (), None, None, None, None)


def test_a_host_that_is_fit_wants_nothing() -> None:
    assert {one.state for one in judge_host(FIT)} == {State.OK}


def test_what_is_not_told_is_not_applicable_and_no_limit_is_fine() -> None:
    found = {one.check: one.state for one in judge_host(UNKNOWN)}
    assert found.pop("open files") is State.OK
    assert {*found.values()} == {State.NOT_APPLICABLE}


@pytest.mark.parametrize(
    ("fact", "value", "check", "state", "words"),
    [
        ("cores", 2, "cores", State.WARN, "4 or more"),
        ("clock_source", "hpet", "clock source", State.WARN, "current_clocksource"),
        ("time_synced", False, "time in step", State.WARN, "timedatectl set-ntp true"),
        ("governors", ("performance", "powersave"), "CPU governor", State.WARN, "cpupower frequency-set"),
        ("shared_free_bytes", 64 << 20, "shared memory", State.WARN, "remount,size=8G"),
        ("open_files", 4_096, "open files", State.WARN, "ulimit -Hn 65536"),
        ("open_files", 256, "open files", State.FAIL, "ulimit -Hn 65536"),
        ("receive_stamps", False, "kernel receive stamps", State.WARN, "gVisor"),
    ],
)
def test_each_fact_is_judged(fact: str, value: Any, check: str, state: State, words: str) -> None:
    wrong = [one for one in judge_host(replace(FIT, **{fact: value})) if one.state is not State.OK]
    assert [(one.check, one.state) for one in wrong] == [(check, state)]
    assert words in wrong[0].mend


def test_governors_and_the_clock_source_are_read_below_the_root(tmp_path: Path) -> None:
    for number, governor in enumerate(("powersave", "performance", "powersave")):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{number}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{governor}\n")
    clocks = tmp_path / "sys/devices/system/clocksource/clocksource0"
    clocks.mkdir(parents=True)
    (clocks / "current_clocksource").write_text("acpi_pm\n")
    facts = read_host(tmp_path)
    assert (facts.governors, facts.clock_source) == (("performance", "powersave"), "acpi_pm")
    assert facts.shared_bytes is None
    assert (facts.cores or 0) >= 1
