"""Asks nvidia-smi about this host's cards, once, and reads its XML: elements that a driver lacks are `None`."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

from services.cli.checks.cards import Card, CardHost, CardProcess

_TIMEOUT_S = 30.0
_NVIDIA = "0x10de"
#: PCI classes of cards: VGA and 3D controllers
_CARD_CLASSES = ("0x0300", "0x0302")
_MIB = 2**20


def read_card_host(root: Path = Path("/")) -> CardHost:
    """What nvidia-smi on PATH says; `root`: where /sys is."""
    on_bus = _cards_on_bus(root)
    program = shutil.which("nvidia-smi")
    if program is None:
        return CardHost(has_program=False, error="", on_bus=on_bus)
    try:
        told = subprocess.run([program, "-q", "-x"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return CardHost(has_program=True, error=f"does not answer ({type(error).__name__})", on_bus=on_bus)
    if told.returncode != 0:
        said = " ".join((told.stdout + told.stderr).split())[:300] or f"exit code {told.returncode}"
        return CardHost(has_program=True, error=said, on_bus=on_bus)
    return parse_card_host(told.stdout, on_bus)


def parse_card_host(text: str, on_bus: int = 0) -> CardHost:
    """The answer of `nvidia-smi -q -x`."""
    try:
        log = ElementTree.fromstring(text)  # noqa: S314 - the driver's own program wrote it
    except ElementTree.ParseError:
        return CardHost(has_program=True, error="its answer cannot be read", on_bus=on_bus)
    cuda = _text(log, "cuda_version")
    version = re.fullmatch(r"(\d+)\.(\d+)", cuda or "")
    return CardHost(
        has_program=True,
        error="",
        on_bus=on_bus,
        driver=_text(log, "driver_version"),
        cuda=(int(version[1]), int(version[2])) if version else None,
        cards=tuple(_card(index, gpu) for index, gpu in enumerate(log.findall("gpu"))),
    )


def _card(index: int, gpu: ElementTree.Element) -> Card:
    # Newer drivers say "gpu_power_readings" and "clocks_event_reasons"; MiB, MHz and W stand behind the numbers.
    total, used = (_number(gpu, f"fb_memory_usage/{what}") for what in ("total", "used"))
    reserved = _number(gpu, "fb_memory_usage/reserved")
    persistence = _text(gpu, "persistence_mode")
    return Card(
        index=index,
        name=_text(gpu, "product_name") or "NVIDIA card",
        total_bytes=None if total is None else int((total - (reserved or 0)) * _MIB),
        used_bytes=None if used is None else int(used * _MIB),
        persistence=None if persistence is None else persistence == "Enabled",
        power_limit_w=_first(
            gpu,
            "gpu_power_readings/current_power_limit",
            "gpu_power_readings/power_limit",
            "power_readings/enforced_power_limit",
            "power_readings/power_limit",
        ),
        default_power_limit_w=_first(
            gpu, "gpu_power_readings/default_power_limit", "power_readings/default_power_limit"
        ),
        sm_clock_mhz=_whole(_number(gpu, "clocks/sm_clock")),
        max_sm_clock_mhz=_whole(_number(gpu, "max_clocks/sm_clock")),
        applications_clock_mhz=_whole(_number(gpu, "applications_clocks/graphics_clock")),
        default_applications_clock_mhz=_whole(_number(gpu, "default_applications_clocks/graphics_clock")),
        reasons=_reasons(gpu),
        compute_mode=_text(gpu, "compute_mode"),
        mig=_text(gpu, "mig_mode/current_mig") == "Enabled",
        processes=tuple(
            CardProcess(
                pid=int(_number(one, "pid") or 0),
                name=_text(one, "process_name") or "?",
                kind=_text(one, "type") or "?",
                used_bytes=None if (mib := _number(one, "used_memory")) is None else int(mib * _MIB),
            )
            for one in gpu.findall("processes/process_info")
        ),
    )


def _reasons(gpu: ElementTree.Element) -> tuple[str, ...]:
    found = []
    for group in ("clocks_event_reasons", "clocks_throttle_reasons"):
        for element in gpu.findall(f"{group}/*"):
            if (element.text or "").strip() == "Active":
                found.append(re.sub(r"^clocks_(event|throttle)_reasons?_", "", element.tag))
    return tuple(dict.fromkeys(found))


def _text(element: ElementTree.Element, path: str) -> str | None:
    """`None` where it is not there, or the driver says that it does not know."""
    said = (element.findtext(path) or "").strip()
    return None if said in ("", "N/A", "[N/A]", "[Not Supported]", "Unknown Error") else said


def _number(element: ElementTree.Element, path: str) -> float | None:
    found = re.match(r"\d+(\.\d+)?", _text(element, path) or "")
    return None if found is None else float(found[0])


def _first(element: ElementTree.Element, *paths: str) -> float | None:
    return next((number for path in paths if (number := _number(element, path)) is not None), None)


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _cards_on_bus(root: Path) -> int:
    found = 0
    for device in (root / "sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        found += vendor == _NVIDIA and kind.startswith(_CARD_CLASSES)
    return found
