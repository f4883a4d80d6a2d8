"""`python -m engines.simulated --profile vllm-mistral-7b --port 0`: serve, until SIGTERM or the parent's death.

Prints one line of JSON when it listens: `{"event": "ready", "url": …, "port": …, "pid": …}`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import sys
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from engines.simulated.faults import ONE_FAULT, FaultPlan
from engines.simulated.fit import fit_all, prediction_table
from engines.simulated.lifetime import end_with_parent, end_with_signals
from engines.simulated.plain import ServerOptions
from engines.simulated.profiles import PROFILES, Profile
from engines.simulated.server import Server
from engines.simulated.tokenizer import Tokenizer
from engines.simulated.tokenizer_file import write_tokenizer


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m engines.simulated", description="The engine with no GPU.")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="vllm-mistral-7b")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--model", help="the model's name on the wire")
    parser.add_argument("--context", type=int, help="longest input + output, tokens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", type=float, default=1.0, help="steps take 1/speed of their time")
    parser.add_argument("--prefill-budget-tokens", type=_positive, help="most prompt tokens of a step")
    parser.add_argument("--max-running", type=_positive, help="most sequences in a step")
    parser.add_argument("--max-concurrent-requests", type=_positive, help="refuse what is above it at once")
    parser.add_argument("--kv-tokens", type=_positive, dest="stated_kv_tokens", help="tokens that the KV cache holds")
    parser.add_argument("--truth-keep", type=_positive, default=20_000, help="requests that the truth log keeps")
    parser.add_argument("--never-stops", action="store_true", help="the model never ends by itself (an overlay)")
    parser.add_argument("--no-prefix-cache", dest="prefix_cache", action="store_false")
    parser.add_argument("--split-characters", type=int, default=0, help="one word in N is split over three tokens")
    parser.add_argument("--fault", action="append", default=[], help='JSON, such as {"kind":"cut","token":3,"every":2}')
    parser.add_argument("--die-with-parent", action="store_true", help="end when stdin or the parent process ends")
    parser.add_argument("--write-tokenizer", type=Path, metavar="FOLDER", help="write its tokenizer.json, and stop")
    parser.add_argument("--predict", action="store_true", help="print what the committed parameters predict, and stop")
    parser.add_argument("--fit", action="store_true", help="fit the parameters on the published rows anew, and stop")
    arguments = parser.parse_args(argv)
    if not arguments.speed > 0:
        parser.error("--speed must be above 0")
    if arguments.context is not None and arguments.context < 2:
        parser.error("--context must be at least 2")
    if not 0 <= arguments.port <= 65535:
        parser.error("--port must be from 0 to 65535")
    try:
        arguments.faults = FaultPlan(faults=tuple(ONE_FAULT.validate_json(text) for text in arguments.fault))
    except ValidationError as invalid:
        parser.error("; ".join(f"{'.'.join(('--fault', *map(str, e['loc'])))}: {e['msg']}" for e in invalid.errors()))
    return arguments


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _profile(arguments: argparse.Namespace) -> Profile:
    """The named profile, with what the command line states otherwise: its flags, as it were."""
    names = ("prefill_budget_tokens", "max_running", "max_concurrent_requests", "stated_kv_tokens")
    stated = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    return replace(PROFILES[arguments.profile], **stated)


def main(argv: list[str]) -> int:
    """Serve, or print the predictions."""
    arguments = _arguments(argv)
    if arguments.predict:
        sys.stdout.write(prediction_table())
        return 0
    if arguments.fit:
        sys.stdout.writelines(f"{engine}: {fitted}\n" for engine, fitted in fit_all().items())
        return 0
    if arguments.write_tokenizer is not None:
        tokenizer = Tokenizer(bos=PROFILES[arguments.profile].model.bos)
        sys.stdout.write(f"{write_tokenizer(tokenizer, arguments.write_tokenizer)}\n")
        return 0
    options = ServerOptions(
        profile=_profile(arguments),
        host=arguments.host,
        port=arguments.port,
        model=arguments.model,
        context=arguments.context,
        seed=arguments.seed,
        speed=arguments.speed,
        truth_keep=arguments.truth_keep,
        never_stops=arguments.never_stops,
        prefix_cache=arguments.prefix_cache,
        split_characters=arguments.split_characters,
        faults=arguments.faults,
    )
    # a connection is a file; what the host allows is what we take
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        server = Server(options)
    except OSError as failed:
        sys.stderr.write(f"cannot listen on {arguments.host}:{arguments.port}: {failed}\n")
        return 1
    end_with_signals(server)
    if arguments.die_with_parent:
        end_with_parent(server)
    # nothing made so far is ever garbage, and a full collection would be a pause inside somebody's measurement
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 1000)
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    ready = {"event": "ready", "url": f"http://{host}:{server.port}", "port": server.port, "pid": os.getpid()}
    sys.stdout.write(json.dumps(ready | {"profile": options.profile.name}) + "\n")
    sys.stdout.flush()
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
