"""TGI's native routes: `POST /generate_stream`, one frame a token and no `[DONE]`, and `POST /generate`.

An answer that did not stream counts its prompt in a header only: `details.prefill` is empty on flash models.
"""

from __future__ import annotations

from typing import Any

from engines.contract import Capture, Completion, Dialect, GenerationRequest
from engines.dialects.reading import understand
from engines.dialects.tally import Tally, count
from engines.errors import RequestNotPossible


def body(request: GenerationRequest) -> dict[str, Any]:
    """JSON body before the engine's own fields. The model is the server's only one, so it is not named.

    Raises:
        RequestNotPossible: the prompt is token ids, which TGI does not take.
    """
    if not isinstance(request.prompt, str):
        raise RequestNotPossible("TGI takes text, not token ids", field="prompts")
    # `decoder_input_details` is a validation error in a stream, and would only list the prompt.
    parameters = {"max_new_tokens": request.max_tokens, "details": True, "decoder_input_details": False}
    return {"inputs": request.prompt, "parameters": parameters}


def _take_event(tally: Tally, value: dict[str, Any], place: int) -> None:
    token = value.get("token")
    if not isinstance(token, dict):
        tally.malformed = tally.malformed or "a frame without a token"
        return
    # Special tokens (EOS) were generated too, and TGI counts them; they are only not part of the text.
    tally.add_event(place, 1)
    _take_token(tally, token)
    text = token.get("text")
    if isinstance(text, str) and token.get("special") is not True:
        tally.add_text(0, text)
    _take_details(tally, value)


def _take_answer(tally: Tally, value: dict[str, Any], place: int) -> None:
    _take_details(tally, value)
    details = value.get("details")
    tokens = details.get("tokens") if isinstance(details, dict) else None
    for token in tokens if isinstance(tokens, list) else ():
        if isinstance(token, dict):
            _take_token(tally, token)
    generated = -1 if tally.output_tokens is None else tally.output_tokens
    if generated > 0 or tally.texts:
        tally.add_event(place, generated)


def _take_token(tally: Tally, token: dict[str, Any]) -> None:
    token_id = count(token.get("id"))
    if token_id is not None:
        tally.token_ids = tally.token_ids or []
        tally.token_ids.append(token_id)


def _take_details(tally: Tally, value: dict[str, Any]) -> None:
    """What the last frame, or the answer, says of the whole: its text, counts and finish reason."""
    text = value.get("generated_text")
    if isinstance(text, str):
        tally.texts = {0: [text]} if text else {}
    details = value.get("details")
    if not isinstance(details, dict):
        return
    tally.add_finish(0, details.get("finish_reason"))
    tally.output_tokens = count(details.get("generated_tokens"))
    tally.input_tokens = count(details.get("input_length"))
    if tally.output_tokens is not None:
        tally.count_source = "details"


def decode(capture: Capture) -> Completion:
    """Understands a response of either route."""
    return understand(capture, _take_event, _take_answer)


TGI_GENERATE = Dialect(
    name="tgi-generate",
    path="/generate_stream",
    unstreamed_path="/generate",
    body=body,
    decode=decode,
    one_token_per_event=True,
)
