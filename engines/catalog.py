"""The front door: which engines there are, and a request for one of them as bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from engines.bud import BUD
from engines.contract import Dialect, Endpoint, Engine, GenerationRequest, Origin, WireRequest
from engines.dialects.http1 import encode_http
from engines.errors import RequestNotPossible, UnknownEngine
from engines.mlx import MLX
from engines.openai_compatible import OPENAI
from engines.sglang import SGLANG
from engines.tgi import TGI
from engines.transformers import TRANSFORMERS
from engines.vllm import VLLM

ENGINES: dict[str, Engine] = {
    "vllm": VLLM,
    "tgi": TGI,
    "transformers": TRANSFORMERS,
    "bud": BUD,
    "sglang": SGLANG,
    "mlx": MLX,
    "openai": OPENAI,
}


def find_engine(name: str) -> Engine:
    """The engine of that name.

    Raises:
        UnknownEngine: there is none; the message names those there are.
    """
    engine = ENGINES.get(name)
    if engine is None:
        near = get_close_matches(name.lower(), ENGINES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownEngine(f"no engine {name!r}: {hint}there are {', '.join(ENGINES)}", field="engine")
    return engine


def find_dialect(engine: Engine, endpoint: Endpoint | None) -> tuple[Endpoint, Dialect]:
    """The dialect of an engine's endpoint; its default endpoint where none is asked for.

    Raises:
        UnknownEngine: the engine has no such endpoint; the message names those it has.
    """
    if endpoint is None:
        return next(iter(engine.dialects.items()))
    dialect = engine.dialects.get(endpoint)
    if dialect is None:
        names = ", ".join(engine.dialects)
        raise UnknownEngine(f"{engine.title} has no endpoint {endpoint!s}: it has {names}", field="endpoint")
    return endpoint, dialect


def request_path(base_path: str, route: str) -> str:
    """What to ask for below a base URL's path. A base URL that ends in `/v1` already has the routes' `/v1`."""
    return route.removeprefix("/v1") if base_path.endswith("/v1") else route


def encode_body(engine: Engine, endpoint: Endpoint, request: GenerationRequest) -> dict[str, Any]:
    """The JSON body: the dialect's, the engine's fields over it, the workload's own over everything.

    Raises:
        RequestNotPossible: the prompt is token ids, and the engine does not take them; or the workload's own fields
            contradict what the request is.
    """
    _, dialect = find_dialect(engine, endpoint)
    if "stream" in request.extra and request.extra["stream"] is not request.stream:
        wanted = "true" if request.stream else "false"
        message = f"extra_body.stream contradicts the request, which has it {wanted}: leave it out of extra_body"
        raise RequestNotPossible(message, field="extra_body.stream")
    if not isinstance(request.prompt, str) and not engine.capabilities.token_id_prompts:
        raise RequestNotPossible(f"{engine.title} takes text, not token ids", field="prompts")
    return _laid_over(_laid_over(dialect.body(request), engine.fields(endpoint, request)), request.extra)


def encode_request(
    engine: Engine, endpoint: Endpoint, request: GenerationRequest, origin: Origin, *, index: int, keep_alive: bool
) -> WireRequest:
    """One request as complete HTTP/1.1 bytes.

    Raises:
        RequestNotPossible: the engine cannot do what is asked, or a header or field cannot be put on the wire.
    """
    _, dialect = find_dialect(engine, endpoint)
    body = encode_body(engine, endpoint, request)
    try:
        payload = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise RequestNotPossible(f"the request cannot be written as JSON: {error}", field="extra_body") from error
    route = dialect.path if request.stream else dialect.unstreamed_path or dialect.path
    path = request_path(origin.base_path, route)
    return WireRequest(index, encode_http(origin, path, payload, keep_alive=keep_alive))


def _laid_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on `under`; objects that both have are merged the same way."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = _laid_over(below, value) if both else value  # type: ignore[arg-type]
    return merged
