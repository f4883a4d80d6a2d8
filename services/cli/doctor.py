"""`enginebench doctor`: looks at a host before its first job, and says what to do."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.cli.checks.finding import Finding
    from services.settings import Settings


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`enginebench doctor`."""
    doctor = commands.add_parser(
        "doctor",
        help="look at this host before its first job: driver, Docker, models, clocks, ports, database",
        description="Changes nothing, starts nothing and shows no secret. Exit code 0 unless something FAILs. Settings "
        "are those of ENGINEBENCH_*, and of the .env file that docker compose reads.",
        allow_abbrev=False,
    )
    doctor.add_argument("--gpu", action="store_true", help="engines are to run on a card here: without one it FAILs")
    doctor.add_argument(
        "--card", type=int, action="append", default=[], metavar="N", help="only this card; repeatable (GPU in .env)"
    )
    doctor.add_argument(
        "--models", type=Path, metavar="FOLDER", help="where models are kept, if not in Docker's volume"
    )
    doctor.add_argument("--env-file", type=Path, default=Path(".env"), metavar="FILE", help="default: .env")
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.set_defaults(func=execute)


def execute(arguments: argparse.Namespace) -> int:
    """0: nothing FAILs; 1: something does."""
    from services.cli.checks.environment import read_env_file, secrets_of
    from services.cli.checks.finding import State, without_secrets, worst

    variables = read_env_file(arguments.env_file)
    settings, findings = _settings()
    findings += examine(arguments, settings, variables)
    secrets = secrets_of(variables or {}) | {os.environ.get("HF_TOKEN", "")}
    secrets |= settings.known_secrets() if settings is not None else set()
    findings = without_secrets(findings, secrets)
    state = worst(findings)
    if arguments.json:
        told = [{"check": one.check, "state": one.state.value, "seen": one.seen, "mend": one.mend} for one in findings]
        print(json.dumps({"state": state.value, "checks": told}, indent=1))
    else:
        print(rendered(findings))
    return 1 if state is State.FAIL else 0


def examine(
    arguments: argparse.Namespace, settings: Settings | None, variables: Mapping[str, str] | None
) -> list[Finding]:
    """Every check, those of the card first."""
    from services.cli.checks.cards import IMAGES, judge_cards, judge_driver
    from services.cli.checks.docker import image_needs, judge_docker, read_docker
    from services.cli.checks.environment import judge_environment
    from services.cli.checks.host import judge_host
    from services.cli.checks.kernel import read_host
    from services.cli.checks.models import judge_models, read_models
    from services.cli.checks.nvidia_smi import read_card_host
    from services.cli.checks.service import (
        judge_database,
        judge_folder,
        judge_ports,
        ports_of,
        read_database,
        read_folder,
        read_keys,
        read_ports,
    )

    env = variables or {}
    cards = read_card_host()
    has_cards = bool(cards.cards)
    chosen = arguments.card or [int(one) for one in env.get("GPU", "").split(",") if one.strip().isdigit()]
    docker = read_docker(settings.docker_url if settings else None, settings.containers if settings else ())
    models = read_models(arguments.models, token_found(os.environ, env, Path.home()))
    findings = [
        *judge_cards(cards, demanded=arguments.gpu, only=chosen),
        judge_driver(cards, image_needs(docker, IMAGES)),
        *judge_docker(docker, has_cards=has_cards, demanded=arguments.gpu, gid=env.get("DOCKER_GID") or None),
        *judge_models(models, wanted=has_cards or arguments.gpu, demanded=arguments.gpu),
        judge_environment(arguments.env_file, variables),
        *judge_ports(read_ports(ports_of(settings, None if variables is None else dict(variables)))),
    ]
    if settings is not None:
        database = read_database(settings.database_url.get_secret_value())
        findings += [judge_database(database), read_keys(settings, database)]
        findings.append(judge_folder(read_folder(settings.state_dir)))
    return [*findings, *judge_host(read_host())]


def token_found(environment: Mapping[str, str], env_file: Mapping[str, str], home: Path) -> str | None:
    """Where there is a token of the hub; never the token itself."""
    if environment.get("HF_TOKEN"):
        return "HF_TOKEN"
    if env_file.get("HF_TOKEN"):
        return ".env"
    kept = Path(environment.get("HF_HOME") or home / ".cache/huggingface") / "token"
    try:
        return str(kept) if kept.is_file() else None
    except OSError:
        return None


def rendered(findings: Sequence[Finding]) -> str:
    """A line a check, and under it what to do; then how many want something."""
    from services.cli.checks.finding import State

    words = {State.OK: "ok", State.WARN: "WARN", State.FAIL: "FAIL", State.NOT_APPLICABLE: "–"}
    width = max(len(one.check) for one in findings)
    lines = []
    for one in findings:
        lines.append(f"{words[one.state]:<4}  {one.check:<{width}}  {one.seen}")
        if one.mend:
            lines.append(f"{'':<4}  {'':<{width}}  → {one.mend}")
    counts = {state: sum(one.state is state for one in findings) for state in State}
    told = f"{counts[State.OK]} ok, {counts[State.WARN]} WARN, {counts[State.FAIL]} FAIL"
    return "\n".join([*lines, "", f"{told}, {counts[State.NOT_APPLICABLE]} not applicable"])


def _settings() -> tuple[Settings | None, list[Finding]]:
    from services.cli.checks.finding import fail, ok
    from services.domain.errors import BadInput
    from services.settings import read_settings

    try:
        return read_settings(), [ok("settings", "every ENGINEBENCH_ variable can be read")]
    except BadInput as error:
        return None, [fail("settings", f"{p.field}: {p.problem}", p.mend) for p in error.problems]
