"""`python -m tests.calibration.soak --runs 300`: clean runs, and what they say of themselves. None may be called wrong.

Bursts, closed loops, constant and Poisson arrivals take turns on one simulated engine; every eighth run is calibrated.
A run that is not VALID was kept from it by the machine, or by a false alarm: then the exit code is 1. `--out FOLDER`
keeps `soak.json`, and goes on where an earlier soak of it ended.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_runner.load.contract import RunControl
from bench_runner.outcome import RunOutcome
from bench_runner.plan.spec import RunSpec
from bench_runner.runner import run
from engines.clock import monotonic_ns
from engines.simulated.start import SimulatedServer, simulated_engine
from engines.target import Site
from tests.calibration.machine import describe_machine
from tests.fakes.verdicts import MACHINE_REASONS

PROFILE, SPEED = "vllm-mistral-7b", 4.0
#: One after the other; about a second each. The last is calibrated.
SHAPES: dict[str, dict[str, Any]] = {
    "burst": {"requests": 100, "arrival": {"kind": "burst"}, "output_tokens": {"kind": "fixed", "tokens": 64}},
    "closed loop": {"requests": 160, "arrival": {"kind": "closed_loop", "concurrency": 8}},
    "poisson": {"requests": 60, "arrival": {"kind": "poisson", "rate_per_s": 60}},
    "constant": {"requests": 60, "arrival": {"kind": "constant", "rate_per_s": 60}},
    "lengths that differ": {
        "requests": 80,
        "arrival": {"kind": "poisson", "rate_per_s": 60},
        "prompts": {"kind": "synthetic", "input_tokens": {"kind": "uniform", "low": 8, "high": 200}},
        "output_tokens": {"kind": "uniform", "low": 2, "high": 40},
    },
    "kept connections": {
        "requests": 160,
        "arrival": {"kind": "closed_loop", "concurrency": 8},
        "socket": {"connections": "reused"},
    },
    "ramp-up": {
        "duration_s": 1.5,
        "ramp_up_s": 0.3,
        "arrival": {"kind": "poisson", "rate_per_s": 80},
    },
    "calibrated": {"requests": 70, "arrival": {"kind": "constant", "rate_per_s": 60}},
}


def main(argv: Sequence[str]) -> int:
    """Runs, prints, and says by the exit code whether a clean run was called wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.calibration.soak", description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further run after so long")
    parser.add_argument("--out", type=Path, help="folder for soak.json; an earlier soak's runs count on")
    arguments = parser.parse_args(argv)
    kept = None if arguments.out is None else arguments.out / "soak.json"
    runs: list[dict[str, Any]] = []
    if kept is not None and kept.exists():
        runs = json.loads(kept.read_text())["runs"]
    end_ns = monotonic_ns() + arguments.seconds * 1e9
    with simulated_engine(PROFILE, speed=SPEED) as server, tempfile.TemporaryDirectory() as folder:
        while len(runs) < arguments.runs and monotonic_ns() < end_ns:
            runs.append(_one(server, Path(folder), len(runs)))
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps({"machine": describe_machine(), **tell(runs), "runs": runs}, indent=1))
    told = tell(runs)
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    return 1 if told["false_alarms"] else 0


def _one(server: SimulatedServer, folder: Path, number: int) -> dict[str, Any]:
    shape = list(SHAPES)[number % len(SHAPES)]
    load = {
        "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 48}},
        "output_tokens": {"kind": "fixed", "tokens": 16},
    }
    spec = RunSpec.model_validate(
        {
            "target": {"engine": "vllm", "model": server.model, "reach": {"kind": "attached", "url": server.url}},
            "workload": load | SHAPES[shape],
            # Of this start of the engine, whose cache knows nothing of an earlier one.
            "seed": number,
            "calibration": shape == "calibrated",
        }
    )
    began_ns = monotonic_ns()
    outcome = run(spec, control=RunControl(), site=Site(folder))
    return describe(shape, outcome) | {"took_s": (monotonic_ns() - began_ns) / 1e9}


def describe(shape: str, outcome: RunOutcome) -> dict[str, Any]:
    """One run: what it said of itself, and the counters that tell whose doing it was."""
    result = outcome.result
    reasons = {r.code: r.message for r in result.validity.reasons if r.severity != "note"}
    return {
        "shape": shape,
        "state": result.validity.state.value,
        "reasons": reasons,
        "notes": sorted({r.code for r in result.validity.reasons if r.severity == "note"}),
        "error": result.error,
        "calibrated": result.calibration is not None,
        "control": result.environment.get("load"),
    }


def tell(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many were VALID, and of the others whose doing it was."""
    wrong = [one for one in runs if one["error"] is not None or set(one["reasons"]) - MACHINE_REASONS]
    machine = [one for one in runs if one["state"] != "VALID" and one not in wrong]
    return {
        "runs": len(runs),
        "valid": sum(one["state"] == "VALID" for one in runs),
        "by_shape": {shape: _states(one for one in runs if one["shape"] == shape) for shape in SHAPES},
        "calibrated": sum(one["calibrated"] for one in runs),
        "by_machine": dict(Counter(code for one in machine for code in one["reasons"])),
        "by_machine_runs": [
            {"shape": one["shape"], "reasons": one["reasons"], "control": _shares(one["control"])} for one in machine
        ],
        "false_alarms": [
            {
                "shape": one["shape"],
                "reasons": one["reasons"],
                "error": one["error"],
                "control": _shares(one["control"]),
            }
            for one in wrong
        ],
        "notes": dict(Counter(code for one in runs for code in one["notes"])),
    }


def _states(runs: Any) -> dict[str, int]:
    return dict(Counter(one["state"] for one in runs))


def _shares(control: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the host kept from the load process, as shares of the window, and how late it was."""
    if control is None:
        return None
    wall_s = control["wall_s"] or 1.0
    names = ("stolen_s", "cpu_wait_s", "busiest_cpu_s")
    shares = {name: None if control[name] is None else f"{control[name] / wall_s:.1%}" for name in names}
    return {"wall_s": round(wall_s, 2), **shares, "max_lag_s": control["max_lag_s"], "priority": control["priority"]}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
