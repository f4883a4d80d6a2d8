"""What is known of a card: what it is, and what it did at some moment. `None` each: it or its driver does not say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CardFacts:
    """One card as it stands in its host."""

    #: the driver's number, which CUDA_VISIBLE_DEVICES may count differently
    index: int
    name: str | None
    memory_bytes: int | None
    #: what it may draw, W
    power_limit_w: float | None
    #: the driver stays loaded between programs
    persistence: bool | None
    #: it is divided into instances (MIG), whose power it does not tell apart
    divided: bool | None


@dataclass(frozen=True, slots=True)
class HostCards:
    """The cards of a host, or those of them that were asked for."""

    driver: str | None
    #: newest CUDA that the driver runs, such as "13.0"
    cuda: str | None
    #: in the host, as far as this process may see
    count: int
    cards: tuple[CardFacts, ...]


@dataclass(frozen=True, slots=True)
class CardReading:
    """One card at some moment between the two stamps."""

    asked_ns: int
    answered_ns: int
    power_w: float | None = None
    #: since the driver was loaded; the card's own counter, which knows what was drawn between two readings
    energy_j: float | None = None
    #: share of the driver's last sample period in which some kernel ran
    utilisation_ratio: float | None = None
    memory_used_bytes: int | None = None
    temperature_c: int | None = None
    sm_clock_hz: int | None = None
    memory_clock_hz: int | None = None
    #: why its clocks are not higher just then, of SLOWED; () where nothing holds them back
    held_back_by: tuple[str, ...] | None = None
    #: for how long its clocks were held back since the driver was loaded, by its own counters
    power_capped_s: float | None = None
    too_hot_s: float | None = None

    @property
    def at_ns(self) -> float:
        """The moment it stands for."""
        return (self.asked_ns + self.answered_ns) / 2


#: NVML's bit of a reason -> its name here. The others (idle, clocks set by a person) slow nothing that wants to run.
SLOWED = {
    0x04: "power_cap",
    0x20: "heat",
    0x40: "heat (hardware)",
    0x80: "power_brake",
}
