"""Validity's checks on what the run stood on: this host's CPU, the engine's process, the stated hardware. Pure."""

from __future__ import annotations

from bench_runner.measure.calibration import Calibration
from bench_runner.measure.evidence import Evidence
from bench_runner.measure.result import Reason
from bench_runner.measure.roofline import PRECISIONS
from engines.hardware import HARDWARE, find_hardware

#: Share of the window, as time of one core, that the hypervisor gave to others: worth a note, …
STOLEN_NOTED = 0.01
#: … and beyond this the host itself stood still too often, kernel stamps included.
STOLEN_LIMIT = 0.10
#: Share of the window for which a load process waited for a CPU: the stamps of its own reads are late by as much.
WAIT_LIMIT = 0.05
#: Share of the window for which a card may have been slowed down.
THROTTLED_LIMIT = 0.01
#: Shares of a shorter window are noise: the kernel counts stolen time in hundredths of a second.
LEAST_WALL_S = 0.5


def check_host(evidence: Evidence) -> list[Reason]:
    """CPU time that others took: it is the machine's doing, not the load process's."""
    reasons = []
    wall_s, stolen_s, wait_s = evidence.wall_s, evidence.stolen_s, evidence.cpu_wait_s
    if wall_s is None or wall_s < LEAST_WALL_S:
        return []
    if stolen_s is not None and stolen_s > STOLEN_NOTED * wall_s:
        severity = "inconclusive" if stolen_s > STOLEN_LIMIT * wall_s else "note"
        message = (
            f"the hypervisor gave {stolen_s:.2f} s of this host's CPU time to others within {wall_s:.2f} s "
            f"({stolen_s / wall_s:.1%} of a core; the limit is {STOLEN_LIMIT:.0%}): kernel stamps are late too then"
        )
        reasons.append(Reason("cpu_stolen", severity, message))
    if wait_s is not None and wait_s > WAIT_LIMIT * wall_s:
        clocks = {record.event_clock for record in evidence.records if record.event_clock}
        message = (
            f"other processes of this host kept a load process waiting for a CPU for {wait_s:.2f} s of {wall_s:.2f} s"
            + (f" and took it away {evidence.preemptions} times" if evidence.preemptions is not None else "")
            + f"; the limit is {WAIT_LIMIT:.0%} without kernel stamps on every event"
        )
        reasons.append(Reason("cpu_wait", "inconclusive" if clocks - {"kernel"} else "note", message))
    return reasons


def was_kept_off(evidence: Evidence) -> bool:
    """Other processes kept a load process waiting for a CPU for a good part of the window."""
    wall_s, wait_s = evidence.wall_s, evidence.cpu_wait_s
    if wall_s is None or wait_s is None or wall_s < LEAST_WALL_S:
        return False
    return wait_s > WAIT_LIMIT * wall_s


def name_cause(measured: Evidence | Calibration, when: str = "within the window") -> str:
    """Who may have made the load process late, as the host's counters tell: an ending of a message, or nothing."""
    stolen_s, wait_s = measured.stolen_s or 0.0, measured.cpu_wait_s or 0.0
    parts = []
    if wait_s >= 0.001:
        parts.append(f"it waited {wait_s * 1e3:.0f} ms for a CPU that other processes had")
    if stolen_s > 0:
        parts.append(f"the hypervisor took {stolen_s * 1e3:.0f} ms")
    return f"; {when} " + ", and ".join(parts) if parts else ""


def check_engine(evidence: Evidence) -> list[Reason]:
    """One and the same engine process served the window."""
    if not evidence.engine_restarted:
        return []
    message = "the engine was started anew within the window: its counters began again, and it was not warm"
    return [Reason("engine_restarted", "invalid", message)]


def check_cards(evidence: Evidence) -> list[Reason]:
    """The cards ran as fast as they are meant to: not too hot, not braked. A power cap is how many run, and a note."""
    reasons = []
    wall_s = evidence.wall_s
    if not wall_s:
        return []
    for index, card in evidence.cards.items():
        hot_s, braked_s, capped_s = card.thermal_s or 0.0, card.brake_s or 0.0, card.power_cap_s or 0.0
        slow_s = max(hot_s, braked_s)
        if slow_s > THROTTLED_LIMIT * wall_s:
            why = "it was too hot" if hot_s >= braked_s else "the power supply braked it"
            message = f"card {index} of the engine's host was slowed down for {slow_s:.2f} s of {wall_s:.2f} s because "
            if evidence.cards_judged:
                message += (
                    f"{why}; {THROTTLED_LIMIT:.0%} is the limit; mend its cooling or power, or let it rest before a run"
                )
            else:
                message += f"{why}; the target does not say whether it is its own: name its cards (resources)"
            reasons.append(Reason("throttled", "inconclusive" if evidence.cards_judged else "note", message))
        elif evidence.cards_judged and capped_s > THROTTLED_LIMIT * wall_s:
            message = (
                f"card {index} of the engine's host drew all the power it may for {capped_s:.2f} s of "
                f"{wall_s:.2f} s, and lowered its clocks by it: figures hold for this power limit"
            )
            reasons.append(Reason("power_capped", "note", message))
    return reasons


def check_hardware(evidence: Evidence) -> list[Reason]:
    """Stated hardware or precision that is not known gives no roofline; it may be a slip."""
    reasons = []
    if evidence.hardware is not None and find_hardware(evidence.hardware) is None:
        known = ", ".join(HARDWARE)
        text = f"hardware {evidence.hardware!r} is not known, so there is no roofline; known are {known}"
        reasons.append(Reason("unknown_hardware", "note", text))
    if evidence.precision is not None and evidence.precision.upper() not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        text = f"precision {evidence.precision!r} is not known, so there is no roofline; known are {known}"
        reasons.append(Reason("unknown_precision", "note", text))
    return reasons
