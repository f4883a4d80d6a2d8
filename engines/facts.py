"""What a server says of itself: version, models, limits, settings, and whether it is simulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engines.contract import Engine
from engines.control import Answer, ControlClient
from engines.errors import TargetUnavailable
from engines.probe import is_same_model
from engines.scrape import fetch_metrics, info_labels

#: Scalars of a self-description that are kept, and characters of each.
_MOST_ENTRIES = 60
_MOST_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A target as it was when it was opened. `None`: the server does not say."""

    version: str | None
    #: longest input + output in tokens
    model_max_tokens: int | None
    served_models: tuple[str, ...]
    simulated: bool
    #: the simulated engine's own description, from GET /simulated
    simulation: dict[str, Any] | None
    #: the engine's description of itself: scalars by name
    info: dict[str, Any]
    #: start of the process to its first real generation; `None`: attached
    startup_s: float | None
    #: command-line flags: of the launched process, or as stated for an attached server
    flags: tuple[str, ...]
    #: figures of the probe's one generation
    probe: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SelfDescription:
    """The part of the facts that is asked of the server."""

    version: str | None
    model_max_tokens: int | None
    served_models: tuple[str, ...]
    simulation: dict[str, Any] | None
    info: dict[str, Any]


def describe(client: ControlClient, engine: Engine, model: str, *, simulated: bool) -> SelfDescription:
    """Asks a server that already generated for what it says of itself. What it does not answer stays absent."""
    models = _entries(_ask(client, "/v1/models"))
    info = _scalars(_own_entry(models, model))
    version: str | None = None
    if engine.capabilities.version_path is not None:
        described = _ask(client, engine.capabilities.version_path)
        if isinstance(described, dict):
            info |= _scalars(described)
            version = described["version"] if isinstance(described.get("version"), str) else None
    settings = info_labels(fetch_metrics(client, engine) or "", "_config_info")
    info |= {name: value[:_MOST_CHARACTERS] for name, value in settings.items() if name not in info}
    simulation: dict[str, Any] | None = None
    if simulated or client.saw_simulated:
        told = _ask(client, "/simulated")
        simulation = told if isinstance(told, dict) else {}
    if client.silent:
        info = {"did_not_answer": ", ".join(sorted(client.silent))} | info
    return SelfDescription(
        version=version,
        model_max_tokens=_limit(info),
        served_models=tuple(str(entry["id"]) for entry in models),
        simulation=simulation,
        info=dict(list(info.items())[:_MOST_ENTRIES]),
    )


def served_models(client: ControlClient) -> tuple[str, ...]:
    """Names of the models the server lists; () where it lists none."""
    return tuple(str(entry["id"]) for entry in _entries(_ask(client, "/v1/models")))


def _ask(client: ControlClient, path: str) -> Any:
    """The JSON at a path; `None` where there is none."""
    try:
        answer: Answer = client.get(path)
    except TargetUnavailable:
        return None
    return answer.json() if answer.ok else None


def _entries(listed: Any) -> list[dict[str, Any]]:
    data = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(data, list):
        return []
    return [entry for entry in data if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


def _own_entry(models: list[dict[str, Any]], model: str) -> dict[str, Any]:
    """The listed entry of the model that is driven."""
    return next((entry for entry in models if is_same_model(model, str(entry["id"]))), {})


def _scalars(described: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in described.items():
        if isinstance(value, str):
            kept[name] = value[:_MOST_CHARACTERS]
        elif isinstance(value, (bool, int, float)):
            kept[name] = value
    return kept


def _limit(info: Mapping[str, Any]) -> int | None:
    """Longest input + output, under the names engines give it."""
    for name in ("max_model_len", "max_total_tokens", "context_length", "max_context_length"):
        value = info.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
