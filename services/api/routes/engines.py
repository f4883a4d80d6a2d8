"""Engines that enginebench speaks to, and what each can do."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from engines.catalog import ENGINES
from services.api.schemas import EngineOut, PageOut

router = APIRouter(prefix="/v1/engines", tags=["catalogue"])


@router.get("")
def get_engines() -> PageOut[EngineOut]:
    """Every engine with its endpoints and capabilities."""
    items = [
        EngineOut(
            name=engine.name,
            title=engine.title,
            endpoints=[endpoint.value for endpoint in engine.dialects],
            launchable=engine.command is not None,
            capabilities=asdict(engine.capabilities),
            docs_url=engine.docs_url,
        )
        for engine in ENGINES.values()
    ]
    return PageOut(items=items, next=None)
