"""This host's cards as enginebench reads them, beside what nvidia-smi says just then: `python -m engines.cards`.

python -m engines.cards              both at once
python -m engines.cards --seconds 5  and what each has drawn within so long, by its counter and by nvidia-smi's watts
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

from engines.cards.nvml import Nvml
from engines.cards.reading import CardFacts, CardReading
from engines.clock import monotonic_ns, sleep_s

_PROGRAM = "nvidia-smi"
_TIMEOUT_S = 30.0
_PERSISTENCE = {True: "Enabled", False: "Disabled", None: None}

_Row = tuple[str, str, Callable[[CardFacts, CardReading], float | str | None]]


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


#: What is shown, nvidia-smi's name of it, and ours in its unit.
ROWS: tuple[_Row, ...] = (
    ("name", "name", lambda card, _: card.name),
    ("memory, MiB", "memory.total", lambda card, _: _scaled(card.memory_bytes, 2**20)),
    ("memory used, MiB", "memory.used", lambda _, now: _scaled(now.memory_used_bytes, 2**20)),
    ("power limit, W", "enforced.power.limit", lambda card, _: card.power_limit_w),
    ("power, W", "power.draw", lambda _, now: now.power_w),
    ("utilisation, %", "utilization.gpu", lambda _, now: _scaled(now.utilisation_ratio, 0.01)),
    ("temperature, °C", "temperature.gpu", lambda _, now: now.temperature_c),
    ("SM clock, MHz", "clocks.sm", lambda _, now: _scaled(now.sm_clock_hz, 1e6)),
    ("memory clock, MHz", "clocks.mem", lambda _, now: _scaled(now.memory_clock_hz, 1e6)),
    ("persistence", "persistence_mode", lambda card, _: _PERSISTENCE[card.persistence]),
    ("held back by", "clocks_event_reasons.active", lambda _, now: _words(now.held_back_by)),
    ("power cap, µs", "clocks_event_reasons_counters.sw_power_cap", lambda _, now: _scaled(now.power_capped_s, 1e-6)),
    ("too hot, µs", "clocks_event_reasons_counters.sw_thermal_slowdown", lambda _, now: _scaled(now.too_hot_s, 1e-6)),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where every card told something; 1 where there is no card, or one told nothing."""
    parser = argparse.ArgumentParser(prog="python -m engines.cards", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.0, help="also show what was drawn within so long")
    seconds = parser.parse_args(arguments).seconds
    nvml = Nvml.opened()
    if nvml is None:
        print("no NVIDIA driver answers on this host: runs here carry no figures of cards (None)")
        return 1
    with nvml:
        host = nvml.describe()
        print(f"driver {host.driver}, CUDA {host.cuda}, {host.count} cards")
        silent = 0
        for card in host.cards:
            silent += not _show(nvml, card)
            if seconds > 0:
                _show_energy(nvml, card, seconds)
    return 1 if silent or not host.cards else 0


def _show(nvml: Nvml, card: CardFacts) -> bool:
    reading = nvml.read(card.index)
    if isinstance(reading, str):
        print(f"card {card.index}: {reading}")
        return False
    names = [name for _, name, _ in ROWS]
    # It refuses the whole question where its version does not know one of them.
    theirs = ask_program(card.index, names) or {
        name: value for name in names for value in ask_program(card.index, [name]).values()
    }
    print(f"card {card.index}{'':18}{'enginebench':>26}{_PROGRAM:>26}")
    for title, name, ours in ROWS:
        print(f"  {title:22}{_cell(ours(card, reading)):>26}{theirs.get(name, 'not told'):>26}")
    return True


def _show_energy(nvml: Nvml, card: CardFacts, seconds: float) -> None:
    """The counter's movement beside the mean of nvidia-smi's watts, which asks the card by another way."""
    before, watts = nvml.read(card.index), []
    until_ns = monotonic_ns() + int(seconds * 1e9)
    while monotonic_ns() < until_ns:
        watts.append(ask_program(card.index, ["power.draw"]).get("power.draw"))
        sleep_s(0.2)
    after = nvml.read(card.index)
    if isinstance(before, str) or isinstance(after, str) or before.energy_j is None or after.energy_j is None:
        print("  energy: not told")
        return
    took_s, drawn_j = (after.at_ns - before.at_ns) / 1e9, after.energy_j - before.energy_j
    told = [float(one) for one in watts if one is not None and one.replace(".", "", 1).isdigit()]
    mean = f"{sum(told) / len(told):.1f} W over {len(told)} questions" if told else "not told"
    print(f"  energy: {drawn_j:.1f} J in {took_s:.2f} s, {drawn_j / took_s:.1f} W by its counter; {_PROGRAM}: {mean}")


def ask_program(index: int, names: Sequence[str]) -> Mapping[str, str]:
    """nvidia-smi's word for each name of its own; {} where it is not there, or does not know one of them."""
    program = shutil.which(_PROGRAM)
    if program is None:
        return {}
    command = [program, f"--id={index}", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return {}
    rows = list(csv.reader(told.stdout.splitlines(), skipinitialspace=True)) if told.returncode == 0 else []
    return dict(zip(names, rows[0], strict=False)) if rows else {}


def _words(reasons: tuple[str, ...] | None) -> str | None:
    return None if reasons is None else ", ".join(reasons) or "nothing"


def _cell(value: float | str | None) -> str:
    match value:
        case None:
            return "None"
        case str():
            return value
        case _:
            return f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
