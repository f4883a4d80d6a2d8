"""Are the NVIDIA driver and its cards as an engine needs them? Judged from what nvidia-smi said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.cli.checks.finding import Finding, fail, not_applicable, ok, warn

#: CUDA that the engine images of docker-compose.yml are built with; the driver must know it. vLLM's images without a
#: suffix are of CUDA 13.0 since 0.20, TGI's are made from nvidia/cuda:12.4.
IMAGES: dict[str, tuple[int, int]] = {
    "vllm/vllm-openai:v0.32.0": (13, 0),
    "ghcr.io/huggingface/text-generation-inference:3.3.5": (12, 4),
}
#: CUDA's major version -> the first driver that runs it (NVIDIA, "CUDA compatibility", table 1)
FIRST_DRIVER = {11: 450, 12: 525, 13: 580}

#: Share of a card that the engines are told to take (container_flags.MEMORY): what is not free then, they die for.
MEMORY_SHARE = 0.90
#: Weights of a model of 7.6 billion parameters in BF16, bytes, and a little for its cache.
SMALLEST_CARD = 17_000_000_000

#: What holds a card's clocks back for a reason that is not its load.
HELD_BACK = ("hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake_slowdown", "hw_slowdown")


@dataclass(frozen=True, slots=True)
class CardProcess:
    """A program that holds memory of a card."""

    pid: int
    name: str
    #: "C" computes, "G" draws
    kind: str
    #: `None`: the driver does not tell
    used_bytes: int | None


@dataclass(frozen=True, slots=True)
class Card:
    """One card; what its driver does not tell is `None`."""

    index: int
    name: str
    total_bytes: int | None
    used_bytes: int | None
    persistence: bool | None
    #: what it may draw, and what it may draw as it was made, W
    power_limit_w: float | None
    default_power_limit_w: float | None
    sm_clock_mhz: int | None
    max_sm_clock_mhz: int | None
    #: a person's ceiling for the clock while programs run, and its default
    applications_clock_mhz: int | None
    default_applications_clock_mhz: int | None
    #: why its clock is where it is, such as "hw_thermal_slowdown"
    reasons: tuple[str, ...]
    #: "Default", "Exclusive_Process", "Prohibited"
    compute_mode: str | None
    mig: bool
    processes: tuple[CardProcess, ...]


@dataclass(frozen=True, slots=True)
class CardHost:
    """This host's NVIDIA cards."""

    #: nvidia-smi is on PATH
    has_program: bool
    #: what it said instead of an answer; "" where it answered
    error: str
    #: NVIDIA cards on the PCI bus, whatever drives them
    on_bus: int
    driver: str | None = None
    #: newest CUDA that the driver knows
    cuda: tuple[int, int] | None = None
    cards: tuple[Card, ...] = ()


def judge_cards(host: CardHost, *, demanded: bool, only: Sequence[int] = ()) -> list[Finding]:
    """The driver, then each card.

    Args:
        host: what was read.
        demanded: this host is to run engines on a card: none is a FAIL, not a WARN.
        only: indices of the cards to be looked at; empty: all.
    """
    check = "gpu driver"
    if not host.cards:
        return [_without_cards(check, host, demanded)]
    found = [ok(check, f"driver {host.driver}, CUDA {_dotted(host.cuda)}, {len(host.cards)} card(s)")]
    there = {card.index for card in host.cards}
    for index in sorted({*only} - there):
        names = ", ".join(map(str, sorted(there)))
        found.append(
            fail(f"gpu {index}", f"there is no card {index}", f"choose one of {names}: GPU in .env, or --card")
        )
    for card in host.cards:
        if not only or card.index in only:
            found += judge_card(card)
    return found


def judge_card(card: Card) -> list[Finding]:
    """One card's checks."""
    return [_memory(card), _programs(card), _power(card), _clocks(card), _persistence(card), _mode(card)]


def judge_driver(host: CardHost, needs: Mapping[str, tuple[int, int]]) -> Finding:
    """Can the driver run the images?

    Args:
        host: what was read.
        needs: image -> the CUDA it is built with.
    """
    check = "gpu driver for the images"
    if host.cuda is None:
        return not_applicable(check, "no driver, or one that does not say which CUDA it knows")
    told = ", ".join(f"{image.rpartition('/')[2]} wants CUDA {_dotted(cuda)}" for image, cuda in needs.items())
    seen = f"the driver knows CUDA {_dotted(host.cuda)}; {told}"
    newest = max(needs.values(), default=(0, 0))
    if host.cuda >= newest:
        return ok(check, seen)
    first = FIRST_DRIVER.get(newest[0])
    mend = f"install a driver of branch {first} or newer" if first else "install a newer driver"
    mend += ": sudo apt install nvidia-driver-580-server (Ubuntu), then reboot"
    if host.cuda[0] == newest[0]:
        # CUDA's minor versions run on any driver of their major, but the container toolkit may refuse the image.
        return warn(check, seen, f"{mend}; or try, for minor versions are compatible")
    return fail(check, seen, mend)


def _without_cards(check: str, host: CardHost, demanded: bool) -> Finding:
    install = "sudo apt install nvidia-driver-580-server (Ubuntu), then reboot"
    if host.error:
        return fail(check, f"nvidia-smi: {host.error}", f"after an update of the driver: sudo reboot; else {install}")
    if host.on_bus:
        seen, mend = f"{host.on_bus} NVIDIA card(s) on the bus and no driver: simulated and CPU engines only", install
    else:
        seen = "no NVIDIA GPU: simulated and CPU engines only"
        mend = f"to measure engines on a GPU, run this on its host; the driver: {install}"
    return fail(check, seen, mend) if demanded else warn(check, seen, mend)


def _memory(card: Card) -> Finding:
    check = f"gpu {card.index} memory"
    if card.total_bytes is None or card.used_bytes is None:
        return not_applicable(check, f"{card.name}: the driver does not tell")
    free = card.total_bytes - card.used_bytes
    seen = f"{card.name}: {_gb(free)} of {_gb(card.total_bytes)} free"
    if free < MEMORY_SHARE * card.total_bytes:
        wanted = f"engines are told to take {MEMORY_SHARE:.0%} of the card and would not start"
        return fail(
            check, f"{seen}; {wanted}", "end what holds it: nvidia-smi, then kill PID; a container: docker stop"
        )
    if MEMORY_SHARE * card.total_bytes < SMALLEST_CARD:
        return warn(check, seen, "too small for a 7B model in BF16 (15 GB of weights): choose a smaller one")
    return ok(check, seen)


def _programs(card: Card) -> Finding:
    check = f"gpu {card.index} other programs"
    if not card.processes:
        return ok(check, "none")
    seen = ", ".join(
        f"{one.name} (pid {one.pid}{'' if one.used_bytes is None else ', ' + _gb(one.used_bytes)})"
        for one in card.processes
    )
    pids = " ".join(str(one.pid) for one in card.processes)
    return warn(check, f"{seen}: what they do is in every number", f"end them before a job: sudo kill {pids}")


def _power(card: Card) -> Finding:
    check = f"gpu {card.index} power limit"
    limit, default = card.power_limit_w, card.default_power_limit_w
    if limit is None:
        return not_applicable(check, "the driver does not tell")
    seen = f"{limit:g} W" + ("" if default is None else f", {default:g} W as it was made")
    if default is not None and limit < default:
        return warn(check, seen, f"sudo nvidia-smi -i {card.index} -pl {default:g}")
    return ok(check, seen)


def _clocks(card: Card) -> Finding:
    check = f"gpu {card.index} clocks"
    if card.sm_clock_mhz is None and not card.reasons:
        return not_applicable(check, "the driver does not tell")
    seen = f"SM {card.sm_clock_mhz} MHz now, {card.max_sm_clock_mhz} MHz at most"
    if held := [reason for reason in card.reasons if reason in HELD_BACK]:
        seen = f"{seen}; held back: {', '.join(held)}"
        return warn(check, seen, f"see to its cooling and power supply: nvidia-smi -i {card.index} -q -d PERFORMANCE")
    ceiling, default = card.applications_clock_mhz, card.default_applications_clock_mhz
    if ceiling is not None and default is not None and ceiling != default:
        seen = f"{seen}; set to {ceiling} MHz for programs, {default} MHz as it was made"
        return warn(check, seen, f"sudo nvidia-smi -i {card.index} -rac")
    return ok(check, seen)


def _persistence(card: Card) -> Finding:
    check = f"gpu {card.index} persistence"
    match card.persistence:
        case None:
            return not_applicable(check, "the driver does not tell")
        case True:
            return ok(check, "on")
    seen = "off: the driver starts anew with each program, and forgets limits and clocks"
    return warn(
        check, seen, f"sudo nvidia-smi -i {card.index} -pm 1, or sudo systemctl enable --now nvidia-persistenced"
    )


def _mode(card: Card) -> Finding:
    check = f"gpu {card.index} mode"
    if card.mig:
        return warn(check, "MIG is on: the card is in slices", f"sudo nvidia-smi -i {card.index} -mig 0")
    if card.compute_mode == "Prohibited":
        return fail(check, "compute mode Prohibited: nothing may run", f"sudo nvidia-smi -i {card.index} -c DEFAULT")
    return ok(check, f"compute mode {card.compute_mode or 'not told'}, MIG off")


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"


def _dotted(cuda: tuple[int, int] | None) -> str:
    return "?" if cuda is None else f"{cuda[0]}.{cuda[1]}"
