"""What a job is refused for before anything runs: whatever is known to fail is said at the door, with its field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench_runner.errors import DatasetError
from bench_runner.plan.dataset import read_dataset
from bench_runner.plan.spec import (
    DatasetPrompts,
    FixedLength,
    FixedPrompt,
    Length,
    ListedLength,
    NormalLength,
    SyntheticPrompts,
    Trace,
    UniformLength,
    WorkloadSpec,
)
from bench_runner.plan.trace import read_trace
from engines.address import AddressPolicy, check_headers, resolve
from engines.catalog import find_dialect, find_engine
from engines.errors import EngineError, TargetUnavailable
from engines.launch.disclosure import speaks_of_secret, tells_secret
from engines.models import find_model
from engines.spec import Attached, Container, Launched, TargetSpec
from services.domain.errors import BadInput, Problem


@dataclass(frozen=True, slots=True)
class HouseRules:
    """What this installation allows."""

    address_policy: AddressPolicy
    allow_launch: bool
    #: secret's name -> the one origin it may be sent to
    secret_origins: Mapping[str, str]
    #: datasets and tokenizers are read from below it only; `None`: none are read
    files_from: Path | None
    #: names of the containers that may be started
    containers: tuple[str, ...] = ()


#: Of an engine that the worker starts.
_LEAVE_OUT = "leave it out: it is reached from its own host alone, and fetches models with the worker's own login"


def target_problems(spec: TargetSpec, rules: HouseRules, field: str = "") -> list[Problem]:
    """Everything that is known to be wrong with a target without asking it. `field` is where it stands."""
    at = f"{field}." if field else ""
    checks: tuple[tuple[str, Callable[[], object]], ...] = (
        ("engine", lambda: find_engine(spec.engine)),
        ("endpoint", lambda: find_dialect(find_engine(spec.engine), spec.endpoint)),
        ("headers", lambda: check_headers(spec.headers)),
        ("flags", lambda: _check_flags(spec)),
        ("reach", lambda: _check_reach(spec, rules)),
        ("tokenizer", lambda: _check_file(spec.tokenizer, rules, "tokenizer")),
    )
    problems: list[Problem] = []
    for name, check in checks:
        try:
            check()
        except BadInput as error:
            problems += [Problem(f"{at}{p.field}", p.problem, p.mend) for p in error.problems]
        except EngineError as error:
            if name == "endpoint" and problems:
                continue
            problems.append(Problem(f"{at}{error.field or name}", str(error), "correct it as the message says"))
    return problems


def _check_flags(spec: TargetSpec) -> None:
    """A target is kept, shown and copied into every result as it is written."""
    problems: list[Problem] = []
    for field, words, mend in (
        ("flags", spec.flags, "name the variable that holds it in its place, such as $VLLM_API_KEY"),
        ("reach.args", getattr(spec.reach, "args", ()), _LEAVE_OUT),
    ):
        told = [
            Problem(f"{field}.{k}", "looks like a secret, and is kept as it stands", mend) for k in tells_secret(words)
        ]
        problems += told
    for name in getattr(spec.reach, "env", {}):
        if speaks_of_secret(name):
            problems.append(Problem(f"reach.env.{name}", "looks like a secret, and is kept as it stands", _LEAVE_OUT))
    if problems:
        raise BadInput(*problems)


def _check_reach(spec: TargetSpec, rules: HouseRules) -> None:
    match spec.reach:
        case Launched():
            if not rules.allow_launch:
                raise BadInput(
                    Problem(
                        "reach.kind",
                        "this service does not start engines",
                        "attach to a running server, or set ENGINEBENCH_ALLOW_LAUNCH=true",
                    )
                )
            if find_engine(spec.engine).command is None:
                raise BadInput(
                    Problem("reach.kind", f"no command line is known for {spec.engine}", "attach to a running server")
                )
        case Container(container=name, url=url):
            if name not in rules.containers:
                raise BadInput(
                    Problem(
                        "reach.container",
                        f"this service does not start the container {name!r}",
                        "list it in ENGINEBENCH_CONTAINERS, with ENGINEBENCH_DOCKER_URL, or attach to a running server",
                    )
                )
            _check_address(url, rules)
        case Attached(url=url, api_key_env=secret):
            if secret is not None:
                _check_secret(secret, url, rules)
            _check_address(url, rules)


def _check_address(url: str, rules: HouseRules) -> None:
    try:
        resolve(url, rules.address_policy)
    except TargetUnavailable:
        # The worker's resolver may know the name, or a container not run yet; if not, its run says so.
        return


def _check_secret(name: str, url: str, rules: HouseRules) -> None:
    origin = rules.secret_origins.get(name)
    if origin is None:
        raise BadInput(
            Problem(
                "reach.api_key_env", f"there is no secret {name!r}", "list it in ENGINEBENCH_SECRETS with its origin"
            )
        )
    if origin_of(origin) != origin_of(url):
        raise BadInput(
            Problem(
                "reach.api_key_env",
                f"the secret {name!r} belongs to another origin than the target's",
                "use the secret of this origin",
            )
        )


def origin_of(url: str) -> tuple[str, str, int]:
    """(scheme, host, port) of a URL, default ports filled in."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


def _check_file(path: str | None, rules: HouseRules, field: str) -> None:
    """Refuses a file that the service may not read for a stranger, before saying whether it is there."""
    if path is None:
        return
    if rules.files_from is None:
        raise BadInput(
            Problem(field, "this service reads no files for jobs", "set ENGINEBENCH_DATASET_DIR to a folder of them")
        )
    folder = rules.files_from.resolve()
    if not Path(path).resolve().is_relative_to(folder):
        raise BadInput(Problem(field, "is outside the service's folder of files", f"give a path below {folder}"))


def workload_problems(workload: WorkloadSpec, rules: HouseRules, field: str) -> list[Problem]:
    """Everything that is known to be wrong with a workload, whatever its target."""
    return [Problem(f"{field}.{p.field}", p.problem, p.mend) for p in _workload_faults(workload, rules)]


def _workload_faults(workload: WorkloadSpec, rules: HouseRules) -> Iterator[Problem]:
    yield from _matched_faults(workload)
    for name, file in (("prompts.path", workload.prompts), ("arrival.path", workload.arrival)):
        try:
            match file:
                case DatasetPrompts():
                    _check_file(file.path, rules, name)
                    entries = len(read_dataset(file.path, file.format))
                    if entries < workload.requests and workload.duration_s is None:
                        problem = f"the dataset has {entries} usable entries, and none is sent twice in one run"
                        yield Problem("requests", problem, f"ask for at most {entries}, or give a longer file")
                case Trace():
                    _check_file(file.path, rules, name)
                    read_trace(file, most=workload.requests, duration_s=workload.duration_s)
        except DatasetError as error:
            yield Problem(name, str(error), "mend the file, or give another")
        except BadInput as error:
            yield from error.problems


def _matched_faults(workload: WorkloadSpec) -> Iterator[Problem]:
    if workload.matched_output_tokens is None:
        return
    if workload.lengths != "length-matched":
        problem = f'they belong to lengths "length-matched", not "{workload.lengths}"'
        yield Problem("matched_output_tokens", problem, "leave them out")
        return
    given, requests = len(workload.matched_output_tokens), workload.requests
    prompts = workload.prompts
    listed = isinstance(prompts, SyntheticPrompts) and isinstance(prompts.input_tokens, ListedLength)
    # What the target's context does not take of these is left out, and the lengths are of what was sent.
    may_be_fewer = listed or isinstance(workload.arrival, Trace) or workload.duration_s is not None
    if given > requests or (given < requests and not may_be_fewer):
        problem = f"they are {given} lengths for {requests} requests"
        yield Problem("matched_output_tokens", problem, "give one for each request")


def pair_problems(target: TargetSpec, workload: WorkloadSpec, field: str) -> Iterator[Problem]:
    """Everything that is known not to go together; the target itself is sound."""
    capabilities = find_engine(target.engine).capabilities
    if workload.lengths == "overlay" and isinstance(target.reach, Attached):
        yield Problem(
            f"{field}.lengths",
            "an overlay is made for launched servers, and this target is attached",
            "use ignore-eos, length-matched or natural",
        )
    as_ids = isinstance(workload.prompts, SyntheticPrompts) and workload.prompts.form == "token_ids"
    if as_ids and not capabilities.token_id_prompts:
        yield Problem(f"{field}.prompts.form", f"{target.engine} takes no token ids", 'use the form "text"')
    model = find_model(target.model)
    least = least_tokens(workload)
    if model is not None and least is not None and least > model.context:
        yield Problem(
            f"{field}.{'prompts.input_tokens' if isinstance(workload.prompts, SyntheticPrompts) else 'output_tokens'}",
            f"input + output are {least} tokens at least, and {model.name} takes {model.context}",
            "ask for shorter prompts or outputs",
        )


def least_tokens(workload: WorkloadSpec) -> int | None:
    """Input + output tokens that at least one request surely needs; `None` where a file may give other lengths.

    Listed lengths are left out one by one where they do not fit, so the smallest counts; of all others the largest
    that may be drawn. A given text has one token at least.
    """
    match workload.prompts:
        case SyntheticPrompts(input_tokens=tokens) if not isinstance(workload.arrival, Trace):
            return _bound(tokens) + _bound(workload.output_tokens)
        case FixedPrompt():
            return 1 + _bound(workload.output_tokens)
    return None


def _bound(length: Length) -> int:
    match length:
        case FixedLength(tokens=tokens):
            return tokens
        case UniformLength(high=high):
            return high
        case NormalLength(mean=mean):
            # Its tail is clipped or redrawn by the plan; only a mean beyond the context is hopeless.
            return round(mean)
        case ListedLength(tokens=listed):
            return min(listed)
