"""What `nvidia-smi -q -x` writes, cut down to what is read here: element names as drivers of two ages have them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

#: An idle A100 of a driver of 2025, all in order.
A100: Mapping[str, str] = {
    "product_name": "NVIDIA A100-SXM4-80GB",
    "persistence_mode": "Enabled",
    "compute_mode": "Default",
    "mig_mode/current_mig": "Disabled",
    "fb_memory_usage/total": "81920 MiB",
    "fb_memory_usage/reserved": "633 MiB",
    "fb_memory_usage/used": "4 MiB",
    "fb_memory_usage/free": "81284 MiB",
    "clocks_event_reasons/clocks_event_reason_gpu_idle": "Active",
    "clocks_event_reasons/clocks_event_reason_hw_thermal_slowdown": "Not Active",
    "gpu_power_readings/current_power_limit": "400.00 W",
    "gpu_power_readings/default_power_limit": "400.00 W",
    "clocks/sm_clock": "210 MHz",
    "applications_clocks/graphics_clock": "1275 MHz",
    "default_applications_clocks/graphics_clock": "1275 MHz",
    "max_clocks/sm_clock": "1410 MHz",
}

#: The same card under a driver of 2022, whose elements have other names.
OLD_A100: Mapping[str, str] = {
    "product_name": "NVIDIA A100-SXM4-80GB",
    "persistence_mode": "Disabled",
    "compute_mode": "Default",
    "mig_mode/current_mig": "N/A",
    "fb_memory_usage/total": "81251 MiB",
    "fb_memory_usage/used": "0 MiB",
    "clocks_throttle_reasons/clocks_throttle_reason_sw_thermal_slowdown": "Active",
    "power_readings/power_limit": "300.00 W",
    "power_readings/enforced_power_limit": "300.00 W",
    "power_readings/default_power_limit": "400.00 W",
    "clocks/sm_clock": "210 MHz",
    "applications_clocks/graphics_clock": "765 MHz",
    "default_applications_clocks/graphics_clock": "1275 MHz",
    "max_clocks/sm_clock": "1410 MHz",
}


def answer(
    *cards: Mapping[str, str],
    driver: str = "580.95.05",
    cuda: str = "13.0",
    processes: tuple[tuple[int, str, str, str], ...] = (),
) -> str:
    """The program's answer; `processes` are the first card's: pid, type, name, memory."""
    gpus = []
    for number, card in enumerate(cards):
        told = "".join(_element(path.split("/"), value) for path, value in card.items())
        if number == 0:
            told += f"<processes>{''.join(map(_process, processes))}</processes>"
        gpus.append(f'<gpu id="00000000:0{number}:00.0">{told}</gpu>')
    head = '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n'
    versions = f"<driver_version>{driver}</driver_version><cuda_version>{cuda}</cuda_version>"
    return (
        f"{head}<nvidia_smi_log>{versions}<attached_gpus>{len(cards)}</attached_gpus>{''.join(gpus)}</nvidia_smi_log>"
    )


def place(folder: Path, says: str, exit_code: int = 0) -> Path:
    """An nvidia-smi in a folder, to be put on PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "answer").write_text(says)
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\ncat "{folder}/answer"\nexit {exit_code}\n')
    program.chmod(0o755)
    return folder


def _element(path: list[str], value: str) -> str:
    inner = value if len(path) == 1 else _element(path[1:], value)
    return f"<{path[0]}>{inner}</{path[0]}>"


def _process(one: tuple[int, str, str, str]) -> str:
    pid, kind, name, memory = one
    return (
        f"<process_info><pid>{pid}</pid><type>{kind}</type><process_name>{name}</process_name>"
        f"<used_memory>{memory}</used_memory></process_info>"
    )
