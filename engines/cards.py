"""This host's NVIDIA cards: for how long their clocks were held back, as the driver itself counts it.

The driver's counters run on, so two readings around a window tell all of it and nothing is asked within it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

_PROGRAM = "nvidia-smi"
_TIMEOUT_S = 10.0
_COUNTERS = "clocks_event_reasons_counters"
#: index, then microseconds each; drivers that do not count these refuse the whole question
_FIELDS = (
    "index",
    f"{_COUNTERS}.hw_thermal_slowdown",
    f"{_COUNTERS}.sw_thermal_slowdown",
    f"{_COUNTERS}.hw_power_brake_slowdown",
    f"{_COUNTERS}.sw_power_cap",
)


@dataclass(frozen=True, slots=True)
class HeldBack:
    """For how long a card's clocks were held back, s: since the driver was loaded, or between two readings."""

    #: it was too hot; the hardware's and the driver's slowdown may count the same time, and the longer holds
    thermal_s: float
    #: the power supply asked it to
    brake_s: float
    #: it drew what it may draw: how many cards run at full load
    power_cap_s: float

    def since(self, before: HeldBack) -> HeldBack:
        """What came since an earlier reading."""
        return HeldBack(
            self.thermal_s - before.thermal_s,
            self.brake_s - before.brake_s,
            self.power_cap_s - before.power_cap_s,
        )


def read_cards() -> dict[str, HeldBack]:
    """Each card by its index; {} where there is none, or its driver does not count."""
    program = shutil.which(_PROGRAM)
    if program is None:
        return {}
    command = [program, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_cards(told.stdout) if told.returncode == 0 else {}


def parse_cards(text: str) -> dict[str, HeldBack]:
    """The cards of such a table: a line a card. One that lacks a counter ("[N/A]") is left out."""
    found = {}
    for line in text.splitlines():
        index, *counters = (cell.strip() for cell in line.split(","))
        try:
            hot_us, warm_us, brake_us, cap_us = map(int, counters)
        except ValueError:
            continue
        found[index] = HeldBack(max(hot_us, warm_us) / 1e6, brake_us / 1e6, cap_us / 1e6)
    return found


def held_back(before: Mapping[str, HeldBack], after: Mapping[str, HeldBack]) -> dict[str, HeldBack]:
    """What came between two readings, of the cards that both have; a driver that was loaded anew is left out."""
    moved = {index: now.since(before[index]) for index, now in after.items() if index in before}
    return {index: one for index, one in moved.items() if min(one.thermal_s, one.brake_s, one.power_cap_s) >= 0}
