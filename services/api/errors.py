"""Every refusal as problem+json (RFC 9457), with the field and the mend. The only place that knows status codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from logging import getLogger
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from bench_runner.errors import RunError, TargetFailed
from engines.errors import EngineError, LaunchFailed, TargetUnavailable
from services.domain.errors import BadInput, Conflict, NotFound, Problem, Unavailable

PROBLEM_JSON = "application/problem+json"

log = getLogger(__name__)

#: status -> last part of the problem's type
KINDS = {
    400: "bad-request",
    401: "unauthorised",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    409: "conflict",
    413: "too-large",
    415: "unsupported-media-type",
    421: "misdirected",
    422: "bad-input",
    500: "internal",
    502: "target-unavailable",
    503: "unavailable",
}

#: Pydantic's error type -> what to do about it; {name} is taken from the error's context
MENDS = {
    "missing": "add it",
    "extra_forbidden": "leave it out, or check its spelling",
    "greater_than": "give more than {gt}",
    "greater_than_equal": "give {ge} or more",
    "less_than": "give less than {lt}",
    "less_than_equal": "give {le} or less",
    "string_too_short": "give at least {min_length} characters",
    "string_too_long": "give at most {max_length} characters",
    "too_short": "give at least {min_length}",
    "too_long": "give at most {max_length}",
    "string_pattern_mismatch": "keep to the pattern {pattern}",
    "enum": "give one of {expected}",
    "literal_error": "give one of {expected}",
    "union_tag_invalid": "give one of {expected_tags}",
    "union_tag_not_found": "say which form it has in the field {discriminator}",
    "unstorable": "give a value that can be stored",
    "json_invalid": "send valid JSON",
    "value_error": "correct it as the message says",
    "number_type": "write a number, without quotes",
    "int_parsing": "give a whole number",
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "float_type": "give a number",
    "float_parsing": "give a number",
    "finite_number": "give a finite number",
    "string_type": "give a text",
    "bool_parsing": "give true or false",
    "datetime_from_date_parsing": "give a time such as 2026-01-31T12:00:00Z",
    "datetime_parsing": "give a time such as 2026-01-31T12:00:00Z",
    "model_attributes_type": "give an object, with braces; see the schema in /openapi.json",
    "dict_type": "give an object, with braces; see the schema in /openapi.json",
}


class FieldError(BaseModel):
    """One thing to mend."""

    field: str = Field(description="where, as a path; empty for the whole request", examples=["targets.0.reach.url"])
    problem: str = Field(examples=["must not carry credentials"])
    mend: str = Field(examples=["name the variable that holds the token in api_key_env"])


class ProblemBody(BaseModel):
    """RFC 9457, with every field to mend."""

    type: str = Field(examples=["urn:enginebench:problem:bad-input"])
    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(ge=400, le=599, examples=[422])
    detail: str = Field(examples=["targets.0: there is no stored target 'vllm'"])
    errors: list[FieldError]


def problem_response(
    status: int, detail: str, problems: Sequence[Problem] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A refusal."""
    body = ProblemBody(
        type=f"urn:enginebench:problem:{KINDS.get(status, 'other')}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        errors=[FieldError(field=p.field, problem=p.problem, mend=p.mend) for p in problems],
    )
    return JSONResponse(body.model_dump(), status, dict(headers or {}), media_type=PROBLEM_JSON)


def field_of(location: Sequence[str | int], error_type: str, body: object) -> str:
    """A Pydantic location as the path a person would write: union tags and "body" left out."""
    source, *rest = location or ("",)
    if source not in ("body", "query", "path", "header", "cookie"):
        rest = list(location)
    if source == "header":
        return "-".join(word.capitalize() for word in str(rest[0]).split("-"))
    if source != "body":
        return ".".join(str(part) for part in rest)
    kept: list[str] = []
    here: object = body
    for position, part in enumerate(rest):
        last = position == len(rest) - 1
        match here:
            case list() if isinstance(part, int) and part < len(here):
                here = here[part]
            case dict() if part in here:
                here = here[part]
            case dict() if last and error_type == "missing":
                pass
            case dict() if part == "[key]":
                continue
            case _:
                continue
        kept.append(str(part))
    return ".".join(kept)


def problems_of(errors: Sequence[Mapping[str, Any]], body: object) -> tuple[Problem, ...]:
    """Pydantic's errors in the words of a refusal; nothing that was sent is repeated."""
    problems: list[Problem] = []
    for error in errors:
        kind, context = str(error["type"]), dict(error.get("ctx") or {})
        field = "" if kind == "json_invalid" else field_of(error["loc"], kind, body)
        if kind == "unstorable" and context.get("path"):
            field = f"{field}.{context['path']}" if field else str(context["path"])
        mend = MENDS.get(kind, "see the schema in /openapi.json")
        if not field and kind in ("missing", "model_attributes_type", "dict_type"):
            mend = "send a JSON object with the content type application/json"
        # A validator of our own says in its message what it wants.
        text = str(error["msg"]).removeprefix("Value error, ")
        if kind == "json_invalid":
            text = f"is not JSON at character {error['loc'][-1]}: {context.get('error', '')}"
        problems.append(Problem(field, text, mend.format_map(_Forgiving(context))))
    # A list whose items are wrong is also reported as too short: say it once.
    deeper = tuple(f"{p.field}." for p in problems)
    return tuple(
        p
        for p, error in zip(problems, errors, strict=True)
        if error["type"] != "too_short" or not any(d.startswith(f"{p.field}.") and d != f"{p.field}." for d in deeper)
    )


class _Forgiving(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "what the schema says"


def _detail(problems: Sequence[Problem]) -> str:
    return "; ".join(f"{p.field}: {p.problem}" if p.field else p.problem for p in problems[:5])


#: status -> what is wrong with a request that no route has looked at, and the mend
_HTTP_FAULTS = {
    400: ("the body cannot be read", "send JSON, not nested deeply, its whole numbers within 64 bits"),
    404: ("there is nothing here", "see the routes in /openapi.json"),
    405: ("this method is not served here", "use one of those in the Allow header"),
    413: ("the body is too large", "send less, or split the job"),
}


def install(app: FastAPI) -> None:
    """Make every refusal of the application a problem."""

    @app.exception_handler(RequestValidationError)
    def _validation(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = problems_of(error.errors(), error.body)
        return problem_response(422, _detail(problems), problems)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        problem, mend = _HTTP_FAULTS.get(error.status_code, (str(error.detail), "see the routes in /openapi.json"))
        headers = dict(error.headers or {})
        if error.status_code == 405:
            # Starlette names the methods of the first route of this path only.
            operations = app.openapi()["paths"].get(getattr(request.scope.get("route"), "path", ""), {})
            headers["Allow"] = ", ".join(sorted(method.upper() for method in operations)) or headers.get("Allow", "")
        return problem_response(error.status_code, str(error.detail), [Problem("", problem, mend)], headers)

    @app.exception_handler(BadInput)
    def _bad_input(request: Request, error: BadInput) -> JSONResponse:
        return problem_response(422, str(error), error.problems)

    @app.exception_handler(NotFound)
    def _not_found(request: Request, error: NotFound) -> JSONResponse:
        return problem_response(404, str(error), error.problems)

    @app.exception_handler(Conflict)
    def _conflict(request: Request, error: Conflict) -> JSONResponse:
        return problem_response(409, str(error), error.problems)

    @app.exception_handler(Unavailable)
    def _unavailable(request: Request, error: Unavailable) -> JSONResponse:
        log.warning("store unavailable", extra={"path": request.url.path})
        return problem_response(503, str(error), error.problems, {"Retry-After": "5"})

    @app.exception_handler(EngineError)
    @app.exception_handler(RunError)
    def _floor_below(request: Request, error: EngineError | RunError) -> JSONResponse:
        reachable = not isinstance(error, (TargetUnavailable, LaunchFailed, TargetFailed))
        problem = Problem(error.field or "", str(error), "correct it as the message says")
        return problem_response(422 if reachable else 502, str(error), [problem])

    @app.exception_handler(Exception)
    def _internal(request: Request, error: Exception) -> JSONResponse:
        log.error("request failed", extra={"path": request.url.path, "error": type(error).__name__})
        return problem_response(500, "the service failed on this request; its log says where")
