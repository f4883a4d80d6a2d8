"""What routes ask for: the database, the settings, and parameters that are checked before any of them runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from services.domain.errors import BadInput, Problem
from services.domain.key import Holder
from services.domain.target import TargetName
from services.domain.text import fault_in_text
from services.settings import Settings
from services.store.database import Database


# Nothing here waits: as plain functions they would each want a thread of the pool that the routes share.
async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _holder(request: Request) -> Holder | None:
    holder: Holder | None = request.state.holder
    return holder


async def known_parameters(request: Request) -> None:
    """Refuses query parameters that the route's own documentation does not name, and text that cannot be stored.

    Raises:
        BadInput: names the parameter.
    """
    operation: Mapping[str, Any] = (
        request.app.openapi()["paths"].get(request.scope["route"].path, {}).get(request.method.lower(), {})
    )
    known = sorted(p["name"] for p in operation.get("parameters", ()) if p["in"] == "query")
    problems: list[Problem] = []
    for name, value in request.query_params.multi_items():
        if name not in known:
            mend = f"use one of {', '.join(known)}" if known else "leave it out; this route takes none"
            problems.append(Problem(_shown(name), "there is no such query parameter", mend))
        elif fault := fault_in_text(value):
            problems.append(Problem(name, fault, "take it out"))
    for name, value in request.path_params.items():
        if fault := fault_in_text(str(value)):
            problems.append(Problem(name, fault, "take it out"))
    if problems:
        raise BadInput(*problems)


def _shown(name: str) -> str:
    return name.encode("ascii", "backslashreplace").decode().replace("\x00", "\\x00")[:100]


_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def _is_timestamp(value: object) -> object:
    if isinstance(value, str):
        if _DAY.fullmatch(value):
            return f"{value}T00:00:00Z"
        # Pydantic would read a bare number as seconds since 1970.
        if "T" not in value.upper():
            raise ValueError("must be a time such as 2026-01-31T12:00:00Z, or a day such as 2026-01-31")
    return value


def _in_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("must say its time zone, such as 2026-01-31T12:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is outside the years 1 to 9999") from None


Store = Annotated[Database, Depends(_database)]
Config = Annotated[Settings, Depends(_settings)]
#: Whose key the request came with; `None`: it needed none.
Caller = Annotated[Holder | None, Depends(_holder)]
#: A day alone is its first moment in UTC.
Moment = Annotated[
    datetime,
    BeforeValidator(_is_timestamp),
    AfterValidator(_in_utc),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]}),
]

JobId = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9_-]+$", examples=["0198c0de0000700080000000000000aa"])]
RunId = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9_-]+$", examples=["0198c0de0000700080000000000000bb"])]
TargetKey = Annotated[TargetName, Path(examples=["vllm-mistral-7b"])]

Limit = Annotated[int, Query(ge=1, le=500, description="most items on a page")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next` of the page before")]
Labels = Annotated[
    list[Annotated[str, Field(pattern="^[^=]+=", max_length=400)]],
    Query(max_length=20, description="name=value; given several times: all of them", examples=[["team=inference"]]),
]


def labels_of(pairs: list[str]) -> dict[str, str]:
    """ "name=value" each, as `Labels` lets through."""
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
