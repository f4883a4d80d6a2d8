"""Is this host fit to measure: its clocks, cores, limits and stamps? Judged from what its kernel said."""

from __future__ import annotations

from dataclasses import dataclass

from services.cli.checks.finding import Finding, fail, not_applicable, ok, warn

#: Clock sources that are read without a call into the kernel or a slow device.
FAST_CLOCKS = ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "xen")
#: Files that a large load opens: a connection for each of thousands of streams.
OPEN_FILES, FEWEST_OPEN_FILES = 65_536, 1_024
#: Shared memory that an engine's processes hand each other tensors in.
SHARED_BYTES = 1 << 30
#: The load, the engine's server and the rest want one each.
CORES = 4


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the kernel says; what it does not say is `None`."""

    #: cores that this process may use
    cores: int | None
    clock_source: str | None
    #: the kernel's clock is held in step by some daemon
    time_synced: bool | None
    #: governors of the cores, each once; () where the host does not scale, or does not say
    governors: tuple[str, ...]
    #: size of /dev/shm, and what of it is free
    shared_bytes: int | None
    shared_free_bytes: int | None
    #: most files that a process may open; `None`: as many as it likes
    open_files: int | None
    #: bytes received over loopback carry the kernel's stamp; `None`: there is no loopback to try it on
    receive_stamps: bool | None


def judge_host(facts: HostFacts) -> list[Finding]:
    """All of it."""
    return [
        _cores(facts.cores),
        _stamps(facts.receive_stamps),
        _clock_source(facts.clock_source),
        _time_sync(facts.time_synced),
        _governors(facts.governors),
        _open_files(facts.open_files),
        _shared(facts.shared_bytes, facts.shared_free_bytes),
    ]


def _cores(cores: int | None) -> Finding:
    check = "cores"
    if cores is None:
        return not_applicable(check, "the kernel does not tell")
    seen = f"{cores} may be used"
    if cores < CORES:
        mend = f"give the load {CORES} or more: the load and an engine on the same cores share their time"
        return warn(check, seen, mend)
    return ok(check, seen)


def _stamps(receive_stamps: bool | None) -> Finding:
    check = "kernel receive stamps"
    match receive_stamps:
        case True:
            return ok(check, "bytes over loopback carry the kernel's stamp (SO_TIMESTAMPNS)")
        case False:
            seen = "bytes over loopback carry no stamp: arrivals are stamped by the load process itself, less exactly"
            return warn(check, seen, "use a Linux kernel that is not emulated (no gVisor, no WSL1): uname -a")
    return not_applicable(check, "there is no loopback here to try it on")


def _clock_source(source: str | None) -> Finding:
    check = "clock source"
    if source is None:
        return not_applicable(check, "the kernel does not tell")
    if source in FAST_CLOCKS:
        return ok(check, source)
    mend = "echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource, where dmesg trusts it"
    return warn(check, f"{source}: each reading of the clock takes a microsecond or more", mend)


def _time_sync(synced: bool | None) -> Finding:
    check = "time in step"
    match synced:
        case True:
            return ok(check, "the kernel's clock is held in step")
        case False:
            seen = "nothing holds the clock in step: it may be stepped in mid-run, and rows of several hosts disagree"
            return warn(check, seen, "sudo timedatectl set-ntp true, or sudo apt install chrony")
    return not_applicable(check, "the kernel does not tell")


def _governors(governors: tuple[str, ...]) -> Finding:
    check = "CPU governor"
    if not governors:
        return not_applicable(check, "the host does not scale its clocks, or does not say")
    seen = ", ".join(governors)
    if governors == ("performance",):
        return ok(check, seen)
    return warn(check, f"{seen}: cores wake slowly", "sudo cpupower frequency-set -g performance")


def _open_files(most: int | None) -> Finding:
    check = "open files"
    if most is None:
        return ok(check, "as many as wanted")
    seen = f"{most} a process"
    mend = f"ulimit -Hn {OPEN_FILES} as root, or nofile in /etc/security/limits.conf"
    if most < FEWEST_OPEN_FILES:
        return fail(check, seen, mend)
    if most < OPEN_FILES:
        return warn(check, f"{seen}: enough for {most - 100} streams or so", mend)
    return ok(check, seen)


def _shared(size: int | None, free: int | None) -> Finding:
    check = "shared memory"
    if size is None or free is None:
        return not_applicable(check, "there is no /dev/shm")
    seen = f"{free / 1e9:.1f} of {size / 1e9:.1f} GB free in /dev/shm"
    if free < SHARED_BYTES:
        mend = "sudo mount -o remount,size=8G /dev/shm; for a container: shm_size in docker-compose.yml"
        return warn(check, f"{seen}: an engine of several processes wants more", mend)
    return ok(check, seen)
