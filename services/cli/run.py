"""`enginebench run`: one run against one server, no service and no database."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli.load_flags import WrongUse, add_load_flags, sending_of, trace_rows

if TYPE_CHECKING:
    from bench_runner.load.contract import RunControl
    from bench_runner.outcome import RunOutcome
    from bench_runner.plan.spec import RunSpec, Slo, WorkloadSpec

ENGINE_NAMES = ("vllm", "tgi", "transformers", "bud", "sglang", "mlx", "openai")
ENDPOINT_NAMES = ("completions", "chat", "native")
DEFAULT_WORKLOAD = "burst-100x128x128"
#: field of a workload -> the flag that is laid over it
_WORKLOAD_FLAGS = {
    "requests": "--requests",
    "prompts.input_tokens.tokens": "--input-tokens",
    "output_tokens.tokens": "--output-tokens",
    "warmup_batches": "--warmup",
    "arrival.concurrency": "--concurrency",
    "arrival.max_concurrency": "--max-concurrency",
    "arrival.rate_per_s": "--rate",
    "arrival.burstiness": "--burstiness",
    "arrival.think_time_s": "--think-time",
    "arrival.time_scale": "--time-scale",
}
#: field of a spec -> the flag that fills it
_FLAGS = {
    "url": "--url",
    "api_key_header": "--api-key-header",
    "model": "--model",
    "hardware": "--hardware",
    "precision": "--precision",
    "request_timeout_s": "--timeout",
    "run_timeout_s": "--run-timeout",
    "ttft_s": "--slo-ttft",
    "tpot_s": "--slo-tpot",
    "e2e_s": "--slo-e2e",
    "seed": "--seed",
    "requests": "--requests",
    "warmup_batches": "--warmup",
    "duration_s": "--duration",
    "ramp_up_s": "--ramp-up",
    "scrape_interval_s": "--scrape-interval",
}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`enginebench run …`."""
    parser = commands.add_parser("run", help="one run against one server, without a service", allow_abbrev=False)
    target = parser.add_argument_group("target")
    target.add_argument("--engine", required=True, choices=ENGINE_NAMES)
    target.add_argument("--url", required=True, metavar="http://HOST:PORT")
    target.add_argument("--model", required=True, metavar="NAME", help="as the server knows it")
    target.add_argument("--endpoint", choices=ENDPOINT_NAMES, help="default: the engine's first, usually completions")
    target.add_argument("--tokenizer", metavar="PATH", help="tokenizer.json of the model, or a folder that holds one")
    target.add_argument("--hardware", metavar="NAME", help="such as A100-80GB; needed for the roofline")
    target.add_argument("--precision", metavar="P", help="such as BF16")
    target.add_argument("--api-key-env", metavar="VAR", help="environment variable that holds the key")
    target.add_argument(
        "--api-key-header", metavar="HEADER", help="send the key in this header as it is; default: as a bearer token"
    )
    target.add_argument("--header", action="append", default=[], metavar="K=V", help="a further request header")
    load = parser.add_argument_group("workload")
    load.add_argument("--workload", default=DEFAULT_WORKLOAD, metavar="PRESET|FILE.yaml")
    load.add_argument("--requests", type=int, metavar="N")
    load.add_argument("--input-tokens", type=int, metavar="I")
    load.add_argument("--output-tokens", type=int, metavar="O")
    load.add_argument("--warmup", type=int, metavar="N", help="whole batches thrown away first; default: automatic")
    load.add_argument("--seed", type=int, metavar="S", help="default: drawn anew, so that no prefix cache knows it")
    load.add_argument("--timeout", type=float, metavar="S", help="seconds a request may take")
    load.add_argument("--run-timeout", type=float, metavar="S", help="seconds the run may take, warm-up included")
    load.add_argument(
        "--calibration", choices=("on", "off"), help="known-answer calibration of the client; default: on"
    )
    load.add_argument(
        "--scrape-interval",
        metavar="S|off",
        help="seconds from one reading of the engine's own /metrics to the next beside the load; default: 0.2",
    )
    add_load_flags(parser.add_argument_group("how it is sent"))
    slo = parser.add_argument_group("SLO", "limits that a request must keep to count as good")
    slo.add_argument("--slo-ttft", type=float, metavar="S", help="seconds to the first token")
    slo.add_argument("--slo-tpot", type=float, metavar="S", help="seconds a further token")
    slo.add_argument("--slo-e2e", type=float, metavar="S", help="seconds to the last token")
    out = parser.add_argument_group("output")
    out.add_argument("--json", metavar="FILE", help="the RunResult; - for standard output")
    out.add_argument("--records", metavar="FILE.jsonl", help="one line a request")
    parser.set_defaults(func=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Carry out the run; 0 VALID, 1 failed or not VALID, 2 wrong use."""
    from bench_runner.errors import SpecError

    try:
        spec = _spec(arguments)
        _check_files(arguments)
        outcome = _run(spec, arguments)
    except (WrongUse, SpecError) as error:
        print(f"enginebench run: {_in_flags(str(error))}", file=sys.stderr)
        return 2
    if isinstance(outcome.error, SpecError):
        where = f" ({outcome.error.field})" if outcome.error.field else ""
        print(f"enginebench run: {outcome.error}{where}", file=sys.stderr)
        return 2
    written = _write(outcome, arguments)
    return 0 if written and outcome.result.validity.state == "VALID" else 1


def _spec(arguments: argparse.Namespace) -> RunSpec:
    from pydantic import ValidationError

    from bench_runner.plan.spec import Limits, RunSpec, without_seed
    from engines.spec import Attached, TargetSpec

    if arguments.api_key_env and not os.environ.get(arguments.api_key_env):
        raise WrongUse(f"--api-key-env: the environment variable {arguments.api_key_env} is not set")
    try:
        target = TargetSpec(
            engine=arguments.engine,
            model=arguments.model,
            reach=Attached(
                url=arguments.url, api_key_env=arguments.api_key_env, api_key_header=arguments.api_key_header
            ),
            endpoint=arguments.endpoint,
            hardware=arguments.hardware,
            precision=arguments.precision,
            tokenizer=arguments.tokenizer,
            headers=_headers(arguments.header),
        )
        given = {"request_timeout_s": arguments.timeout, "run_timeout_s": arguments.run_timeout}
        limits = Limits.model_validate({name: value for name, value in given.items() if value is not None})
        # The flag goes before the workload's own seed, and that before one drawn anew.
        workload = _workload(arguments)
        seed = next(s for s in (arguments.seed, workload.seed, secrets.randbits(48)) if s is not None)
        interval = arguments.scrape_interval
        scraping = {} if interval is None else {"scrape_interval_s": None if interval == "off" else _number(interval)}
        return RunSpec(
            target=target,
            workload=without_seed(workload),
            limits=limits,
            slo=_slo(arguments),
            seed=seed,
            calibration=arguments.calibration != "off",
            **scraping,
        )
    except ValidationError as error:
        # What was given is not repeated: a URL may carry a password.
        problems = (f"{_flag_of(e['loc'])}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors())
        raise WrongUse("; ".join(dict.fromkeys(problems))) from None


def _number(text: str) -> float | str:
    """The text as it is where it is none: the spec says what is wrong with that."""
    try:
        return float(text)
    except ValueError:
        return text


def _flag_of(location: tuple[int | str, ...]) -> str:
    """The flag that fills a field of a spec; a workload file's own fields keep their names."""
    name = str(location[0]) if location else ""
    return _FLAGS.get(name, ".".join(map(str, location)))


def _in_flags(message: str) -> str:
    """The same, with the flags that were laid over the workload by their names."""
    for field, flag in _WORKLOAD_FLAGS.items():
        message = message.replace(f"workload: {field}: ", f"{flag}: ")
    return message.replace("; warmup_batches: Input should be 'auto'", "")


def _check_files(arguments: argparse.Namespace) -> None:
    """What can be known before the load is known before it; an older run's result must not pass for this one's."""
    for flag, name in (("--json", arguments.json), ("--records", arguments.records)):
        if not name or name == "-":
            continue
        path = Path(name)
        if path.is_dir() or not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise WrongUse(f"{flag}: cannot write {name}; give a file in an existing folder that may be written")
        if path.is_file():
            path.unlink()
    if arguments.tokenizer and not Path(arguments.tokenizer).exists():
        raise WrongUse(f"--tokenizer: there is no {arguments.tokenizer}; give tokenizer.json or the model's folder")


def _headers(pairs: list[str]) -> dict[str, str]:
    from engines.address import check_headers
    from engines.errors import TargetRefused

    headers: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name.strip():
            raise WrongUse(f"--header: {pair!r} is not of the form K=V")
        headers[name.strip()] = value
    try:
        check_headers(headers)
    except TargetRefused as error:
        raise WrongUse(f"--header: {error}") from None
    return headers


def _workload(arguments: argparse.Namespace) -> WorkloadSpec:
    from bench_runner.plan.presets import apply_overrides, load_workload

    workload = load_workload(arguments.workload)
    sending = sending_of(arguments, workload)
    requests = arguments.requests
    if requests is None and arguments.trace is not None:
        requests = trace_rows(sending)
    return apply_overrides(
        workload,
        requests=requests,
        input_tokens=arguments.input_tokens,
        output_tokens=arguments.output_tokens,
        warmup_batches=arguments.warmup,
        sending=sending,
    )


def _slo(arguments: argparse.Namespace) -> Slo | None:
    from bench_runner.plan.spec import Slo

    limits = {"ttft_s": arguments.slo_ttft, "tpot_s": arguments.slo_tpot, "e2e_s": arguments.slo_e2e}
    return None if set(limits.values()) == {None} else Slo.model_validate(limits)


def _run(spec: RunSpec, arguments: argparse.Namespace) -> RunOutcome:
    from bench_runner.load.contract import RunControl
    from bench_runner.runner import run
    from engines.address import PRIVATE_NETWORKS, AddressPolicy
    from engines.target import Secret, Site

    tokens = {}
    if arguments.api_key_env:
        # Whoever types the command owns both the secret and the URL, so it is bound to this one.
        tokens[arguments.api_key_env] = Secret(os.environ[arguments.api_key_env])
    policy = AddressPolicy(allow_private=tuple(str(network) for network in PRIVATE_NETWORKS))
    control = RunControl()
    # A run that is told to end keeps what it measured, whoever tells it.
    previous = {
        number: signal.signal(number, lambda *_: control.cancel()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    done = threading.Event()
    watcher = threading.Thread(target=_show_progress, args=(control, done, _at_most(spec.workload)), daemon=True)
    try:
        with tempfile.TemporaryDirectory(prefix="enginebench-run-") as state_dir:
            watcher.start()
            return run(spec, control=control, site=Site(Path(state_dir), tokens, policy))
    finally:
        done.set()
        watcher.join()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _at_most(workload: WorkloadSpec) -> str:
    """How many requests there will be, as far as it is known beforehand."""
    return f"{workload.requests}" if workload.duration_s is None else f"at most {workload.requests}"


def _show_progress(control: RunControl, done: threading.Event, requests: str) -> None:
    """A line on standard error whenever something changed, once a second; rewritten in place on a terminal."""
    last = ""
    end = "\r" if sys.stderr.isatty() else "\n"
    while not done.wait(1.0):
        line = control.stage
        if (progress := control.progress) is not None:
            line += f": {progress.sent} sent, {progress.finished} of {requests} finished, {progress.failed} failed"
        if line != last:
            print(f"{line:<78}", file=sys.stderr, end=end, flush=True)
            last = line


def _write(outcome: RunOutcome, arguments: argparse.Namespace) -> bool:
    """The files first, for nobody may be left to read the report; then the report, whatever became of the files.

    Whether every file could be written.
    """
    result: dict[str, Any] = outcome.result.to_json()
    written = True
    if arguments.json and arguments.json != "-":
        written &= _write_lines(arguments.json, [json.dumps(result, indent=1)])
    if arguments.records:
        written &= _write_lines(
            arguments.records, (json.dumps(r, separators=(",", ":")) for r in outcome.record_rows())
        )
    if arguments.json == "-":
        json.dump(result, sys.stdout, indent=1)
        print()
    else:
        from bench_runner.report import print_report

        print_report(result)
    return written


def _write_lines(name: str, lines: Iterable[str]) -> bool:
    try:
        with Path(name).open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        mend = "free some space, or give a file elsewhere"
        print(f"enginebench run: cannot write {name}: {error.strerror}; {mend}", file=sys.stderr)
        return False
    return True
