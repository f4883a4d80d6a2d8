"""The OpenAPI document: what FastAPI knows, and the refusals that every route may answer with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.api.errors import PROBLEM_JSON, ProblemBody
from services.api.guard import METRICS_PATH
from services.api.roles import OPERATIONS, is_open

DESCRIPTION = """enginebench measures the throughput and latency of LLM inference engines side by side.

Post a job (targets × workloads × repeats), watch its events, read its runs. Every refusal is
`application/problem+json` and names the field and the mend. Times are UTC, durations seconds, rates per second.
"""

#: status -> when; what a route adds of its own stands in its `responses`
WORDS = {
    400: "The body cannot be read as JSON at all.",
    401: "No valid API key; only where the service has keys.",
    403: "The key's role does not allow it, it may only read /metrics, or a page of another origin asks.",
    404: "There is no such thing.",
    409: "What is there already does not allow it.",
    413: "The body is too large.",
    421: "The Host header names another host than this one; only without keys.",
    422: "A field or parameter is wrong; the problem names it and the mend.",
    500: "The service failed; its log says where.",
    502: "The target did not answer.",
    503: "The database does not answer; try again later.",
}


#: query parameter -> a value of it
PARAMETERS: dict[str, Any] = {
    "engine": ["vllm", "tgi"],
    "model": ["mistralai/Mistral-7B-Instruct-v0.2"],
    "workload": ["burst-100x128x128"],
    "target": ["vllm-mistral-7b"],
    "hardware": ["A100-80GB"],
    "flag_class": ["matched"],
    "status": ["completed"],
    "validity": ["VALID"],
    "since": "2026-01-31T00:00:00Z",
    "until": "2026-02-28T00:00:00Z",
    "sort": "-output_tokens_per_s",
    "axis": "engine",
    "table": "mistral-7b-a100-engines",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's own refusals, for its `responses`."""
    return {status: {"description": WORDS[status]} for status in statuses}


def install_openapi(app: FastAPI, wants_keys: Callable[[], bool]) -> None:
    """Serve the completed document from now on: one for as long as the service is open, one once it wants keys."""
    made: dict[bool, dict[str, Any]] = {}

    def document() -> dict[str, Any]:
        with_keys = wants_keys()
        if with_keys not in made:
            made[with_keys] = complete(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    description=DESCRIPTION,
                    routes=app.routes,
                    tags=app.openapi_tags,
                ),
                with_keys=with_keys,
            )
        return made[with_keys]

    app.openapi = document  # type: ignore[method-assign]


def complete(document: dict[str, Any], *, with_keys: bool) -> dict[str, Any]:
    """Add what holds for every route: its refusals as problems, and the key it wants."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    body_schema = ProblemBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= body_schema.pop("$defs", {})
    schemas["ProblemBody"] = body_schema
    if with_keys:
        document["components"]["securitySchemes"] = {"apiKey": {"type": "http", "scheme": "bearer"}}
    answers = json.loads(resources.files(__package__).joinpath("examples.json").read_text("utf-8"))
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            _add_examples(f"{method} {path}", operation, answers)
            for status in _common_statuses(path, "requestBody" in operation):
                responses.setdefault(str(status), {"description": WORDS[status]})
            for status, response in responses.items():
                if (int(status) >= 400 and "content" not in response) or status == "422":
                    response["description"] = WORDS[int(status)]
                    response["content"] = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
            operation["responses"] = dict(sorted(responses.items()))
            role = OPERATIONS[f"{method.upper()} {path}"]
            if with_keys and role is not None:
                operation["security"] = [{"apiKey": []}]
                operation["x-role"] = role.value
    return document


def _add_examples(route: str, operation: dict[str, Any], answers: Mapping[str, Any]) -> None:
    """An answer for each status and media type, as a service on a simulated engine gave it, and a value a parameter."""
    for status, response in operation["responses"].items():
        for media, body in response.get("content", {}).items():
            if (key := f"{route} {status} {media}") in answers:
                body["example"] = answers[key]
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query" and parameter["name"] in PARAMETERS:
            parameter.setdefault("example", PARAMETERS[parameter["name"]])


def _common_statuses(path: str, has_body: bool) -> tuple[int, ...]:
    always = (403, 421, 422, 500)
    if is_open(path):
        return always
    keyed = (*always, 401) if path == METRICS_PATH else (*always, 401, 503)
    return (*keyed, 400, 413) if has_body else keyed
