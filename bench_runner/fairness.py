"""Every way in which the targets of one job are not treated alike, in words. Pure.

A comparison is not refused for these: some cannot be helped, and a reader has to know them. What is said rests on the
specs, and on the Environment of a run where there is one; a flag that is left out counts as the engine's own default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench_runner.plan.spec import SyntheticPrompts, WorkloadSpec
from engines.catalog import encode_body, find_dialect, find_engine
from engines.contract import Endpoint, GenerationRequest
from engines.errors import RequestNotPossible
from engines.models import find_model
from engines.spec import Attached, TargetSpec

#: subject -> engine -> (the flag or variable that says it, what holds where nobody says it)
FLAGS: dict[str, dict[str, tuple[str, str]]] = {
    "prefill budget": {
        "vllm": ("--max-num-batched-tokens", "its default for the card (2,048 tokens on an A100, 8,192 on larger)"),
        "tgi": ("--max-batch-prefill-tokens", "derived from free memory (about 20,800 tokens for 7B on an A100)"),
        "sglang": ("--chunked-prefill-size", "its default for the card"),
    },
    "running sequences": {
        "vllm": ("--max-num-seqs", "its default for the card (256 or 1,024)"),
        "tgi": ("--max-batch-size", "no limit"),
        "sglang": ("--max-running-requests", "its default for the card"),
    },
    "CUDA graphs": {
        "vllm": ("--max-cudagraph-capture-size", "up to twice the running sequences, 512 at most"),
        "tgi": ("--cuda-graphs", "up to a batch of 32"),
        "sglang": ("--cuda-graph-max-bs", "its default for the card"),
    },
    "dtype": {
        "vllm": ("--dtype", "as the weights say"),
        "tgi": ("--dtype", "as the weights say"),
        "sglang": ("--dtype", "as the weights say"),
    },
    "longest sequence": {
        "vllm": ("--max-model-len", "as the model's configuration says"),
        "tgi": ("--max-total-tokens", "derived from free memory and the model's configuration"),
        "sglang": ("--context-length", "as the model's configuration says"),
    },
    "share of the card's memory": {
        "vllm": ("--gpu-memory-utilization", "0.92"),
        "tgi": ("--cuda-memory-fraction", "1.0"),
        "sglang": ("--mem-fraction-static", "its default for the card"),
    },
}

#: engine -> (what switches its prefix cache off, whether it is on otherwise)
PREFIX_CACHE: dict[str, tuple[tuple[str, ...], bool]] = {
    "vllm": (("--no-enable-prefix-caching",), True),
    "tgi": (("PREFIX_CACHING=0", "PREFIX_CACHING=false"), True),
    "sglang": (("--disable-radix-cache",), True),
}

#: engine -> requests it takes at once before it refuses one, by which flag; others queue
REFUSES_ABOVE = {"tgi": ("--max-concurrent-requests", "128")}

#: Never set TCP_NODELAY: on a reused connection without quick ACKs the first token comes some 30 ms late.
WAITS_FOR_ACK = ("tgi",)

NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Asymmetry:
    """One thing in which targets differ."""

    subject: str
    #: target -> how it is there, in words
    values: dict[str, str]
    #: all of it in one sentence
    words: str


def told_apart(treatments: Mapping[str, Mapping[str, str]]) -> tuple[Asymmetry, ...]:
    """What differs between treatments: target -> subject -> words. () where nothing does."""
    subjects = dict.fromkeys(subject for one in treatments.values() for subject in one)
    found = []
    for subject in subjects:
        values = {name: one.get(subject, NOT_KNOWN) for name, one in treatments.items()}
        sides: dict[str, list[str]] = {}
        for name, value in values.items():
            sides.setdefault(value, []).append(name)
        if len(sides) > 1:
            told = "; ".join(f"{', '.join(names)}: {value}" for value, names in sides.items())
            found.append(Asymmetry(subject, values, f"{subject}: {told}"))
    return tuple(found)


def asymmetries(
    targets: Mapping[str, TargetSpec],
    workload: WorkloadSpec,
    servers: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Asymmetry, ...]:
    """What differs between the targets of a job that run the same workload; () where nothing does.

    Args:
        targets: by name.
        workload: what all of them are given.
        servers: target -> `environment["server"]` of one of its runs, where there is one; its flags go before those
            that the spec states.
    """
    return told_apart({n: treatment(spec, workload, (servers or {}).get(n)) for n, spec in targets.items()})


def treatment(spec: TargetSpec, workload: WorkloadSpec, server: Mapping[str, Any] | None = None) -> dict[str, str]:
    """How one target is treated: subject -> words."""
    engine = find_engine(spec.engine)
    endpoint, _ = find_dialect(engine, spec.endpoint)
    flags = flags_of(spec, server)
    sent = _sent(spec, workload, endpoint)
    return {
        "flag class": spec.flag_class,
        "model": spec.model,
        "hardware": f"{spec.gpus} × {spec.hardware or NOT_KNOWN}",
        "precision": spec.precision or NOT_KNOWN,
        "route": endpoint.value,
        "start": "somebody else's server, of unknown age"
        if isinstance(spec.reach, Attached)
        else "started for the run",
        "end of sequence": _end_of_sequence(spec, workload, flags),
        "sampling": _sampling(sent),
        "penalties": _penalties(sent, spec.engine, flags),
        "BOS": _bos(spec, workload, endpoint),
        "socket policy": _socket(spec, workload),
        "prefix cache": _prefix_cache(spec.engine, flags),
        "too many at once": _admission(spec.engine, flags),
        **{subject: _flag(spec.engine, subject, flags) for subject in FLAGS},
    }


def flags_of(spec: TargetSpec, server: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Single words of the flags a target runs with: "--dtype bfloat16" and "--dtype=bfloat16" are two words each."""
    given = list((server or {}).get("flags") or (*spec.flags, *getattr(spec.reach, "args", ())))
    # A container's variables are among its server's flags; a launched engine's are not.
    given += [f"{name}={value}" for name, value in getattr(spec.reach, "env", {}).items()]
    words: list[str] = []
    for flag in given:
        for word in str(flag).split():
            words += word.split("=", 1) if word.startswith("--") else [word]
    return tuple(words)


def _value(flags: Sequence[str], name: str) -> str | None:
    """What stands behind a flag; "" where it stands alone; `None` where it is not given."""
    if name not in flags:
        return None
    behind = flags[flags.index(name) + 1 :]
    return behind[0] if behind and not behind[0].startswith("--") else ""


def _flag(engine: str, subject: str, flags: Sequence[str]) -> str:
    named = FLAGS[subject].get(engine)
    if named is None:
        return NOT_KNOWN
    flag, default = named
    if subject == "CUDA graphs" and "--enforce-eager" in flags:
        return "none"
    value = _value(flags, flag)
    if value is None:
        return f"not said: {default}"
    # A list of sizes matters by its largest.
    return f"up to a batch of {value.rpartition(',')[2]}" if subject == "CUDA graphs" else value


def _sent(spec: TargetSpec, workload: WorkloadSpec, endpoint: Endpoint) -> dict[str, Any]:
    """The body of one of its requests; TGI's and Transformers' nested objects laid flat."""
    request = GenerationRequest(
        model=spec.model,
        prompt="",
        max_tokens=1,
        fixed_length=workload.lengths != "natural",
        temperature=workload.temperature,
        extra=workload.extra_body,
    )
    try:
        body = encode_body(find_engine(spec.engine), endpoint, request)
    except RequestNotPossible:
        # Its runs will fail and say so.
        return {}
    nested = [value for value in body.values() if isinstance(value, Mapping)]
    return {name: value for part in (*nested, body) for name, value in part.items()}


def _end_of_sequence(spec: TargetSpec, workload: WorkloadSpec, flags: Sequence[str]) -> str:
    if workload.lengths == "natural":
        return "the output ends where the model likes"
    if workload.lengths == "overlay" or any("/overlay/" in word for word in flags):
        return "never sampled: the model folder is an overlay"
    if workload.lengths == "length-matched":
        return "lengths given for each request"
    return "ignored on request" if find_engine(spec.engine).capabilities.fixed_length else "may end an output early"


def _sampling(sent: Mapping[str, Any]) -> str:
    if "generation_config" in sent:
        return "said in a generation_config of the request"
    if sent.get("do_sample") is False or sent.get("temperature") == 0:
        return "greedy, said in the request"
    return f"temperature {sent['temperature']}" if "temperature" in sent else "left to the engine"


def _penalties(sent: Mapping[str, Any], engine: str, flags: Sequence[str]) -> str:
    if "repetition_penalty" in sent or "repetition_penalty" in str(sent.get("generation_config", "")):
        return "none, said in the request"
    # TGI reads only the end of a sequence from the model's generation_config.
    if engine == "tgi" or _value(flags, "--generation-config") == "vllm":
        return "none, by the engine's own default"
    return "left to the engine, which may take them from the model's generation_config"


def _bos(spec: TargetSpec, workload: WorkloadSpec, endpoint: Endpoint) -> str:
    if isinstance(workload.prompts, SyntheticPrompts) and workload.prompts.form == "token_ids":
        return "as the token ids have it"
    if endpoint is Endpoint.CHAT:
        return "as the chat template has it"
    model = find_model(spec.model)
    if not find_engine(spec.engine).capabilities.adds_bos:
        return "not added"
    return NOT_KNOWN if model is None else ("added and counted" if model.bos else "the model has none")


def _socket(spec: TargetSpec, workload: WorkloadSpec) -> str:
    late = workload.socket.connections == "reused" and not workload.socket.quick_ack and spec.engine in WAITS_FOR_ACK
    return "the first token waits some 30 ms for our ACK" if late else "nothing waits for an ACK of ours"


def _prefix_cache(engine: str, flags: Sequence[str]) -> str:
    known = PREFIX_CACHE.get(engine)
    if known is None:
        return NOT_KNOWN
    off, on_otherwise = known
    return "off" if any(word in flags for word in off) or not on_otherwise else "on"


def _admission(engine: str, flags: Sequence[str]) -> str:
    if engine not in REFUSES_ABOVE:
        return "queued"
    flag, default = REFUSES_ABOVE[engine]
    return f"refused above {_value(flags, flag) or default}"
