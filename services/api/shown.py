"""Documents as they may be shown. An older version took targets whose flags held a secret; newer ones refuse them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engines.address import check_headers
from engines.errors import TargetRefused
from engines.launch.disclosure import REDACTED, as_shown, speaks_of_secret


def shown_target(target: Mapping[str, Any]) -> dict[str, Any]:
    """A TargetSpec as JSON, or an arm of a job, with no secret in its words, variables and headers."""
    shown = dict(target)
    for field in ("flags", "args"):
        if shown.get(field):
            shown[field] = list(as_shown(shown[field]))
    if shown.get("headers"):
        shown["headers"] = {name: _header(name, value) for name, value in shown["headers"].items()}
    reach = shown.get("reach")
    if isinstance(reach, Mapping) and reach.get("kind") == "process":
        env = {name: REDACTED if speaks_of_secret(name) else value for name, value in reach.get("env", {}).items()}
        shown["reach"] = {**reach, "args": list(as_shown(reach.get("args", ()))), "env": env}
    return shown


def shown_job(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A JobSpec as JSON; a target that is a name stays one."""
    if "targets" not in spec:
        return dict(spec)
    targets = [shown_target(one) if isinstance(one, Mapping) else one for one in spec["targets"]]
    return {**spec, "targets": targets}


def shown_run(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A RunSpec as JSON."""
    return {**spec, "target": shown_target(spec["target"])} if "target" in spec else dict(spec)


def shown_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """A RunResult as JSON: its spec, and what its server ran with. Of a container that was never told with a secret."""
    environment = dict(result["environment"])
    server = environment.get("server")
    reach = result["spec"].get("target", {}).get("reach") or {}
    if server and server.get("flags") and reach.get("kind") != "container":
        environment["server"] = {**server, "flags": list(as_shown(server["flags"]))}
    return {**result, "spec": shown_run(result["spec"]), "environment": environment}


def _header(name: str, value: str) -> str:
    try:
        check_headers({name: value})
    except TargetRefused:
        return REDACTED
    return value
