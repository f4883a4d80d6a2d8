"""The worker: claims runs one after the other and carries them out, until it is told to end.

It rides out a database that is away, hands in what an earlier life of it measured, and ends that life's engines.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import resource
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engines.address import AddressPolicy, look_up
from engines.clock import monotonic_ns
from engines.launch.container import reap_containers
from engines.launch.orphans import reap_orphans
from engines.target import HeldServer, Secret, Site
from services.domain.errors import Unavailable
from services.domain.target import occupied_resources
from services.settings import Settings
from services.store.database import Database, close, open_database, ping
from services.store.queue import claim, hold
from services.store.rows import ClaimedRun, WorkerHost
from services.store.workers import beat, sign_off
from services.telemetry.logs import about_run, in_work
from services.telemetry.traces import open_traces
from services.worker.execute import LONGEST_PAUSE_S, Runner, Workplace, carry_out, deliver
from services.worker.heart import Heart
from services.worker.retention import Housekeeping
from services.worker.spool import waiting_results

log = logging.getLogger(__name__)

#: Between two signs of life.
BEAT_EVERY_S = 5.0
#: A worker has results to hand in and nobody waiting, so it bears with a slow database so many times as long.
PATIENCE = 4.0
#: Longest wait for an answer to a step of housekeeping: it may have much to read.
HOUSEKEEPING_S = 600.0
#: Between two looks at a state folder that another worker holds.
LOCK_PAUSE_S = 0.2


def work(settings: Settings) -> int:
    """A worker in this process until SIGTERM or SIGINT; then it drains. The exit code."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run_worker(settings, stop)
    return 0


def run_worker(settings: Settings, stop: threading.Event, run: Runner | None = None) -> None:
    """Work until `stop` is set.

    Args:
        settings: where, as whom, how long.
        stop: set to end: the run under way has `settings.drain_s` left, then it is given back.
        run: what carries out a run; `None`: the runner.
    """
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    url, timeout_s = settings.database_url.get_secret_value(), PATIENCE * settings.database_timeout_s
    database = open_database(url, timeout_s=timeout_s)
    traces = open_traces("worker")
    place = Workplace(
        database=database,
        run=run or _runner(),
        site=site_of(settings),
        results=settings.state_dir / "results",
        lease_s=settings.lease_s,
        drain_s=settings.drain_s,
        stop=stop,
        heart=Heart(settings.state_dir),
        traces=traces,
    )
    try:
        with _alone_in(settings.state_dir, stop) as alone:
            if alone:
                place.heart.beat()
                _clean_up(settings.state_dir)
                with (
                    _Pulse(database, settings.worker_id, settings.state_dir) as pulse,
                    _keeping_house(settings) as house,
                ):
                    _claim_and_run(place, settings, pulse, house)
    finally:
        close(database)
        if traces is not None:
            traces.close()


@contextmanager
def _keeping_house(settings: Settings) -> Iterator[Housekeeping]:
    """With connections of its own, whose steps may take long."""
    keep = None if settings.retention_days is None else timedelta(days=settings.retention_days)
    database = open_database(settings.database_url.get_secret_value(), timeout_s=HOUSEKEEPING_S)
    try:
        yield Housekeeping(database, keep)
    finally:
        close(database)


def _runner() -> Runner:
    # late, for it brings everything a run needs with it
    from bench_runner.runner import run

    return run


def site_of(settings: Settings) -> Site:
    """This host as runs see it."""
    return Site(
        state_dir=settings.state_dir,
        secrets={name: Secret(value, settings.secrets[name]) for name, value in settings.secret_values().items()},
        address_policy=AddressPolicy(
            allow_loopback=settings.allow_loopback, allow_private=settings.allow_private_networks
        ),
        allow_launch=settings.allow_launch,
        docker_url=settings.docker_url,
        containers=settings.containers,
        docker_is_local=settings.docker_is_local,
    )


def _claim_and_run(place: Workplace, settings: Settings, pulse: _Pulse, house: Housekeeping) -> None:
    pause_s = settings.poll_s
    log.info("worker started", extra={"worker": settings.worker_id})
    while not place.stop.is_set():
        place.heart.beat()
        before_ns = monotonic_ns()
        try:
            ping(place.database)
            for waiting in waiting_results(place.results):
                with in_work(**about_run(waiting.run_id, attempt=waiting.attempt)):
                    deliver(place, waiting)
            house.step()
            before_ns = monotonic_ns()
            claimed = claim(place.database, settings.worker_id, settings.lease_s)
            if claimed is not None:
                # A name that the API could not resolve, or that means another address here, is held by its address too.
                found = occupied_resources(claimed.run_spec.target, look_up)
                if not hold(place.database, claimed, found, settings.lease_s):
                    log.info("run waits for its address", extra=about_run(claimed.run_id, resources=found))
                    continue
        except Unavailable as error:
            log.warning("database away", extra={"reason": str(error), "pause_s": pause_s})
            place.stop.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            continue
        pause_s = settings.poll_s
        if claimed is None:
            place.stop.wait(settings.poll_s)
            continue
        _carry_out_start(place, claimed, before_ns, pulse)
    log.info("worker ended", extra={"worker": settings.worker_id})


def _carry_out_start(place: Workplace, claimed: ClaimedRun, before_ns: int, pulse: _Pulse) -> None:
    """The run, and all further bursts of its start that can follow while the engine is up."""
    following: tuple[ClaimedRun, int] | None = (claimed, before_ns)
    with HeldServer(block=_block_of(claimed)) as held:
        while following is not None:
            run, since_ns = following
            pulse.run_id = run.run_id
            about = about_run(run.run_id, attempt=run.attempt, engine=run.run_spec.target.engine)
            with in_work(**about):
                following = carry_out(place, run, since_ns, None if run.start is None else held)
    pulse.run_id = None


def _block_of(claimed: ClaimedRun) -> str | None:
    """Names its start as the job asked for it; `None`: the job has no starts."""
    if claimed.start is None:
        return None
    return hashlib.sha256(f"{claimed.job_id} {claimed.start} {claimed.target}".encode()).hexdigest()[:12]


@contextmanager
def _alone_in(state_dir: Path, stop: threading.Event) -> Iterator[bool]:
    """Holds the folder for one worker; another waits here until the first is gone. False: told to stop meanwhile."""
    with (state_dir / "worker.lock").open("w") as lock:
        told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    log.warning("another worker uses this state folder; waiting", extra={"state_dir": str(state_dir)})
                told = True
            if stop.wait(LOCK_PAUSE_S):
                yield False
                return
        yield True


def _clean_up(state_dir: Path) -> None:
    """What a life that was killed left behind: engines it launched, captures it was writing."""
    reaped = reap_orphans(state_dir) + reap_containers(state_dir)
    if reaped:
        log.warning("orphaned engines ended", extra={"engines": reaped})
    for folder in state_dir.glob("spool-*"):
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(slots=True)
class _Pulse:
    """Signs of life in the database, from a thread, for as long as the `with` block lasts."""

    database: Database
    worker: str
    state_dir: Path
    run_id: str | None = None
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> _Pulse:
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._done.set()
        assert self._thread is not None
        self._thread.join()
        if kind is not None:
            return  # it dies: the alert of a silent worker is to name it
        try:
            sign_off(self.database, self.worker)
        except Exception as error:
            log.debug("not signed off", extra={"reason": str(error)})

    def _beat(self) -> None:
        while True:
            try:
                beat(self.database, self.worker, self.run_id, _version(), _host(self.state_dir))
            except Exception as error:
                log.debug("no sign of life", extra={"reason": str(error)})
            if self._done.wait(BEAT_EVERY_S):
                return


def _host(state_dir: Path) -> WorkerHost:
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    disk = shutil.disk_usage(state_dir)
    return WorkerHost(None if most_files == resource.RLIM_INFINITY else most_files, disk.free, disk.total)


def _version() -> str:
    try:
        return version("enginebench")
    except PackageNotFoundError:
        return ""
