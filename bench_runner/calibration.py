"""Known-answer calibration: the load process, right after its window, against a server that knows the truth.

records ─cut▶ Excerpt ─▶ replay server ◀─ the same load process ─decode▶ answers ─join with the truth▶ Calibration
"""

from __future__ import annotations

import http.client
import json
import tempfile
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_runner.load.contract import LoadOutcome, LoadPlan, RunControl, SocketPolicy
from bench_runner.load.fleet import drive_fleet
from bench_runner.measure.calibration import Calibration, KnownAnswer, errors_of
from bench_runner.measure.excerpt import Excerpt, cut_excerpt
from bench_runner.measure.record import RequestRecord
from bench_runner.measure.stats import percentile
from engines.clock import monotonic_ns
from engines.contract import Capture, Origin, WireRequest
from engines.dialects.http1 import encode_http
from engines.dialects.openai_completions import OPENAI_COMPLETIONS
from engines.errors import LaunchFailed
from engines.simulated.process import running

#: A calibration may take this share of its run's window, or so long where that is more.
TIME_SHARE = 0.05
LEAST_TIME_S = 2.0
#: share of that time for the replay itself; the rest starts processes and decodes
REPLAY_SHARE = 0.5
#: a longer replay finds no more
MOST_REPLAY_S = 5.0
#: token events replayed for each second that the calibration may take: more could not be decoded in it
EVENTS_PER_S = 20_000
#: bytes of one event, and of one prompt, that are replayed at most
MOST_EVENT_BYTES = 16 * 1024
MOST_PROMPT_BYTES = 64 * 1024
_CONNECT_TIMEOUT_S = 2.0
#: key and certificate of a replay server that speaks TLS, which vouches for itself
REPLAY_PEM = Path(__file__).parents[1] / "engines" / "simulated" / "replay.pem"


class NotCalibrated(Exception):
    """There is no calibration of this run, and why."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the run was driven, and so must be its calibration."""

    window_s: float
    #: most in flight; `None`: no cap
    concurrency: int | None
    socket: SocketPolicy
    processes: int
    #: of one token event, on average
    event_bytes: int
    #: where spools may be
    folder: Path
    #: the run was driven over TLS
    tls: bool = False


class _Beside(RunControl):
    """Of a load beside the run: it stops when the run is told to, and its counts are not the run's."""

    def __init__(self, run: RunControl, deadline_ns: int) -> None:
        super().__init__()
        self._run = run
        self.deadline_ns = deadline_ns

    @property
    def cancelled(self) -> bool:
        return self._run.cancelled


def calibrate(records: list[RequestRecord], conditions: Conditions, control: RunControl) -> Calibration:
    """Replay a part of the run to its own client.

    Raises:
        NotCalibrated: it could not be done.
        LoadFailed: the load process died or could not do its work.
    """
    started_ns = monotonic_ns()
    time_s = max(LEAST_TIME_S, TIME_SHARE * conditions.window_s)
    span_s = min(REPLAY_SHARE * time_s, MOST_REPLAY_S, conditions.window_s)
    excerpt = cut_excerpt(records, span_ns=round(span_s * 1e9), most_events=round(EVENTS_PER_S * time_s))
    if excerpt is None:
        raise NotCalibrated("no token ever came")
    return replay(excerpt, conditions, _Beside(control, started_ns + round(time_s * 1e9)))


def replay(excerpt: Excerpt, conditions: Conditions, control: RunControl) -> Calibration:
    """Replay any excerpt to a client.

    Raises:
        NotCalibrated: it could not be done.
        LoadFailed: the load process died or could not do its work.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="calibration-", dir=conditions.folder) as folder:
            return _replay(excerpt, conditions, Path(folder), control)
    except (OSError, http.client.HTTPException, LaunchFailed) as error:
        raise NotCalibrated(str(error)) from error


def _replay(excerpt: Excerpt, conditions: Conditions, folder: Path, control: RunControl) -> Calibration:
    started_ns = monotonic_ns()
    timeline = folder / "timeline.json"
    timeline.write_text(
        json.dumps(
            {
                "event_bytes": min(conditions.event_bytes, MOST_EVENT_BYTES),
                "offsets_ns": [request.event_offsets_ns for request in excerpt.requests],
            }
        )
    )
    arguments = ["-m", "engines.simulated.replay", "--timeline", str(timeline)]
    arguments += ["--tls-pem", str(REPLAY_PEM)] if conditions.tls else []
    with running("the replay server", arguments, lean=True) as ready:
        port = ready["port"]
        outcome = drive_fleet(_plan(excerpt, conditions, folder, port), control)
        truths = _truths(port, tls=conditions.tls)
    if control.cancelled:
        raise NotCalibrated("the run was cancelled meanwhile")
    seen = _Seen(excerpt)
    errors = errors_of(list(seen.join(outcome, truths)))
    ttft, event = errors["ttft"], errors["event"]
    if ttft is None or event is None:
        raise NotCalibrated("the replay gave no token")
    lags_ns = sorted(seen.lags_ns)
    return Calibration(
        requests=ttft.n,
        events=event.n,
        span_s=excerpt.span_ns / 1e9,
        took_s=(monotonic_ns() - started_ns) / 1e9,
        processes=outcome.processes,
        fresh_connections=conditions.socket.fresh_connections,
        tls=conditions.tls,
        complete=outcome.ended == "complete",
        ttft=ttft,
        event=event,
        event_gap=errors["event_gap"],
        tpot=errors["tpot"],
        server_late_p99_s=percentile(sorted(seen.server_late_ns), 0.99) / 1e9,
        client_lag_p99_s=percentile(lags_ns, 0.99) / 1e9 if lags_ns else None,
        client_lag_max_s=lags_ns[-1] / 1e9 if lags_ns else None,
        sent_clock=_one(seen.sent_clocks),
        event_clock=_one(seen.event_clocks),
        cpu_wait_s=outcome.cpu_wait_s,
        stolen_s=outcome.stolen_s,
    )


def _plan(excerpt: Excerpt, conditions: Conditions, folder: Path, port: int) -> LoadPlan:
    origin = Origin("https" if conditions.tls else "http", "127.0.0.1", port, "", "127.0.0.1")
    keep_alive = not conditions.socket.fresh_connections
    limit_s = excerpt.span_ns / 1e9 + 60.0  # never reached: the deadline comes first
    return LoadPlan(
        origin=origin,
        requests=tuple(
            WireRequest(
                k,
                encode_http(
                    origin, f"/replay/{k}", b"x" * min(request.prompt_bytes, MOST_PROMPT_BYTES), keep_alive=keep_alive
                ),
            )
            for k, request in enumerate(excerpt.requests)
        ),
        offsets_ns=array("q", (request.send_offset_ns for request in excerpt.requests)),
        concurrency=conditions.concurrency,
        socket=conditions.socket,
        request_timeout_s=limit_s,
        connect_timeout_s=_CONNECT_TIMEOUT_S,
        run_timeout_s=limit_s,
        spool=folder,
        processes=conditions.processes,
        ca_file=REPLAY_PEM if conditions.tls else None,
    )


def _truths(port: int, *, tls: bool) -> dict[tuple[str, int], dict[str, Any]]:
    """The truth of each request by its route and the client's port; where it was sent again, of the last."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_CONNECT_TIMEOUT_S)
    if tls:
        import ssl  # OpenSSL is loaded only where it is needed

        context = ssl.create_default_context(cafile=str(REPLAY_PEM))
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=_CONNECT_TIMEOUT_S, context=context)
    try:
        connection.request("GET", "/truth")
        told = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return {(truth["route"], truth["local_port"]): truth for truth in told["requests"]}


class _Seen:
    """What the client saw of the replay."""

    def __init__(self, excerpt: Excerpt) -> None:
        self._excerpt = excerpt
        self.server_late_ns: array[int] = array("q")
        self.lags_ns: array[int] = array("q")
        self.sent_clocks: set[str] = set()
        self.event_clocks: set[str] = set()

    def join(self, outcome: LoadOutcome, truths: Mapping[tuple[str, int], dict[str, Any]]) -> Iterator[KnownAnswer]:
        """Each answered request beside its truth."""
        for capture in outcome.captures():
            truth = truths.get((f"/replay/{capture.index}", capture.local_port))
            completion = OPENAI_COMPLETIONS.decode(capture)
            if truth is None or not capture.sent_ns or not completion.event_ns:
                continue
            self.sent_clocks.add(capture.sent_clock)
            self.event_clocks.add(completion.clock)
            self.lags_ns.extend(_lags_ns(capture))
            offsets_ns = self._excerpt.requests[capture.index].event_offsets_ns
            self.server_late_ns.extend(
                token_ns - truth["arrival_ns"] - offset_ns
                for token_ns, offset_ns in zip(truth["token_ns"], offsets_ns, strict=False)
            )
            yield KnownAnswer(capture.sent_ns, completion.event_ns, truth["arrival_ns"], truth["token_ns"])


def _lags_ns(capture: Capture) -> Iterator[int]:
    for user_ns, kernel_ns in zip(capture.read_user_ns, capture.read_kernel_ns, strict=True):
        if kernel_ns:
            yield user_ns - kernel_ns


def _one(clocks: set[str]) -> str:
    return clocks.pop() if len(clocks) == 1 else "mixed"
