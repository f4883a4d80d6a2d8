"""Joins a run's records with the simulated engine's own truth log. Both stamp CLOCK_MONOTONIC of one host."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_runner.load.contract import RunControl
from bench_runner.measure.record import RequestRecord
from bench_runner.measure.stats import percentile
from bench_runner.outcome import RunOutcome
from bench_runner.plan.spec import (
    ArrivalSpec,
    Burst,
    FixedLength,
    Limits,
    RunSpec,
    SyntheticPrompts,
    WorkloadSpec,
)
from bench_runner.runner import run
from engines.contract import Endpoint
from engines.simulated.start import SimulatedServer
from engines.spec import Attached, TargetSpec
from engines.target import Site


@dataclass(frozen=True, slots=True)
class Pair:
    """One request as the client and as the server saw it."""

    record: RequestRecord
    truth: dict[str, Any]

    @property
    def true_ttft_s(self) -> float:
        """Arrival of the request's last byte to the first token's send."""
        return float(self.truth["first_token_ns"] - self.truth["arrival_ns"]) / 1e9

    @property
    def ttft_error_s(self) -> float:
        """The client's TTFT minus the true one."""
        assert self.record.ttft_s is not None
        return self.record.ttft_s - self.true_ttft_s

    @property
    def token_errors_s(self) -> list[float]:
        """Each token event's stamp minus the moment of its send."""
        sends = self.truth["token_ns"]
        if len(sends) != len(self.record.event_ns):
            return []
        return [(seen - sent) / 1e9 for seen, sent in zip(self.record.event_ns, sends, strict=True)]


def drive_simulated(
    server: SimulatedServer,
    *,
    requests: int,
    input_tokens: int = 128,
    output_tokens: int = 128,
    arrival: ArrivalSpec | None = None,
    limits: Limits | None = None,
    endpoint: Endpoint | None = None,
    **target: Any,
) -> RunOutcome:
    """One run of the real runner against a simulated engine; each draws prompts of its own."""
    spec = RunSpec(
        target=TargetSpec(
            engine=server.profile.partition("-")[0],
            model=server.model,
            reach=Attached(url=server.url),
            endpoint=endpoint,
            **target,
        ),
        workload=WorkloadSpec(
            requests=requests,
            prompts=SyntheticPrompts(input_tokens=FixedLength(tokens=input_tokens)),
            output_tokens=FixedLength(tokens=output_tokens),
            arrival=arrival or Burst(),
        ),
        limits=limits or Limits(),
        seed=secrets.randbits(48),
    )
    with tempfile.TemporaryDirectory() as state_dir:
        return run(spec, control=RunControl(), site=Site(Path(state_dir)))


def join(records: Sequence[RequestRecord], truths: Sequence[dict[str, Any]]) -> list[Pair]:
    """Pairs by the client's port, the newest truth of a port first.

    Raises:
        ValueError: a success has no truth.
    """
    by_port = {truth["local_port"]: truth for truth in truths}
    pairs = []
    for record in records:
        if not record.ok:
            continue
        if record.local_port not in by_port:
            raise ValueError(f"request {record.index} from port {record.local_port} is not in the truth log")
        pairs.append(Pair(record, by_port[record.local_port]))
    return pairs


def middle_and_tail(values: Sequence[float]) -> tuple[float, float]:
    """p50 and p99 of the absolute values."""
    sizes = sorted(abs(value) for value in values)
    return percentile(sizes, 0.5), percentile(sizes, 0.99)
