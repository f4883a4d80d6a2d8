"""This installation's rules, and a whole job held against them."""

from __future__ import annotations

from collections.abc import Mapping

from bench_runner.plan.presets import PRESETS
from engines.address import AddressPolicy
from engines.spec import TargetSpec
from services.domain.admission import HouseRules, pair_problems, target_problems, workload_problems
from services.domain.errors import BadInput, Problem
from services.domain.expansion import points_of
from services.domain.job import JobSpec, resolve_arms, resolve_workloads
from services.settings import Settings


def house_rules(settings: Settings) -> HouseRules:
    """What the settings allow."""
    return HouseRules(
        address_policy=AddressPolicy(settings.allow_loopback, settings.allow_private_networks),
        allow_launch=settings.allow_launch,
        containers=settings.containers if settings.docker_url else (),
        secret_origins=settings.secrets,
        files_from=settings.dataset_dir,
    )


def check_job(job: JobSpec, stored: Mapping[str, TargetSpec], rules: HouseRules) -> None:
    """Refuse what is known to fail.

    Raises:
        BadInput: every problem of every target and workload, at its place in the job.
    """
    arms = resolve_arms(job, stored)
    workloads = resolve_workloads(job, PRESETS)
    points = points_of(job, workloads)
    problems: list[Problem] = []
    sound: list[TargetSpec] = []
    for position, arm in enumerate(arms):
        found = target_problems(arm.spec, rules, f"targets.{position}")
        problems += found
        sound += [] if found else [arm.spec]
    for position, base in enumerate(workloads):
        field = f"workloads.{position}"
        # Of a sweep's points the one that sends most is the hardest to provide for.
        mine = [point.spec for point in points if point.series == base.name]
        workload = max(mine, key=lambda spec: spec.requests, default=base)
        problems += workload_problems(workload, rules, field)
        # One sentence for each kind of clash, however many targets have it.
        clashes = {p.problem: p for target in sound for p in pair_problems(target, workload, field)}
        problems += clashes.values()
    if problems:
        raise BadInput(*problems[:50])
