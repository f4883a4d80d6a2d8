"""Targets: running endpoints by name. A run keeps its own copy, so deleting one changes no history."""

from __future__ import annotations

from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Body, Query, Request, Response

from engines.spec import TargetSpec
from services.api.deps import Config, Cursor, Limit, Store, TargetKey
from services.api.openapi import problems
from services.api.probe import PROBE_TIMEOUT_S, probe_target
from services.api.rules import house_rules
from services.api.schemas import PageOut, ProbeOut, TargetOut
from services.api.shown import shown_target
from services.domain.admission import target_problems
from services.domain.errors import BadInput, Conflict, Problem
from services.domain.target import TARGET_EXAMPLE, NamedTarget
from services.store.rows import StoredTarget
from services.store.targets import create_target, delete_target, get_target, list_targets

router = APIRouter(prefix="/v1/targets", tags=["targets"])


def _shown(target: StoredTarget) -> TargetOut:
    spec = shown_target(target.spec)
    return TargetOut.model_validate({**spec, "name": target.name, "created_at": target.created_at})


@router.post("", status_code=201, responses={201: {"description": "Created; see Location."}, **problems(409)})
def post_target(
    target: Annotated[NamedTarget, Body(openapi_examples={"an attached vLLM": {"value": TARGET_EXAMPLE}})],
    store: Store,
    settings: Config,
    response: Response,
) -> TargetOut:
    """Keep a target under a name. Nothing is sent to it; probe it to see whether it answers."""
    found = target_problems(target.spec, house_rules(settings))
    if found:
        raise BadInput(*found)
    stored = create_target(store, name=target.name, spec=target.spec.model_dump(mode="json"))
    response.headers["Location"] = f"/v1/targets/{stored.name}"
    return _shown(stored)


@router.get("")
def get_targets(
    store: Store,
    engine: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> PageOut[TargetOut]:
    """Stored targets by name."""
    page = list_targets(store, engine=engine, limit=limit, cursor=cursor)
    return PageOut(items=[_shown(target) for target in page.items], next=page.next_cursor)


@router.get("/{name}", responses=problems(404))
def get_one_target(name: TargetKey, store: Store) -> TargetOut:
    """One stored target."""
    return _shown(get_target(store, name))


@router.delete("/{name}", status_code=204, responses=problems(404))
def delete_one_target(name: TargetKey, store: Store) -> Response:
    """Forget a target; its runs stay, with the target as it was."""
    delete_target(store, name)
    return Response(status_code=204)


@router.post("/{name}/probe", responses=problems(404, 409))
async def post_target_probe(
    name: TargetKey,
    store: Store,
    settings: Config,
    request: Request,
    timeout_s: Annotated[float, Query(ge=1, le=60, description="longest wait for the generation")] = PROBE_TIMEOUT_S,
) -> ProbeOut:
    """Ask an attached target for one short generation, as a run would. A failed probe is an answer, not an error."""
    # Threads of its own: a target that never answers must not keep every other route waiting.
    limiter: CapacityLimiter = request.app.state.probes
    if limiter.available_tokens < 1:
        many = f"{limiter.borrowed_tokens} probes are under way, and no more go at once"
        raise Conflict(many, (Problem("", many, "try again later"),))

    def probe() -> ProbeOut:
        return probe_target(store, name, TargetSpec.model_validate(get_target(store, name).spec), settings, timeout_s)

    return await to_thread.run_sync(probe, limiter=limiter)
