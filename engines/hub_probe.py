"""The second opinion on TGI: Hugging Face's own client must reach the target and count tokens as our dialect does.

It is right for that and wrong for timing: it parses as it reads. Left to itself it sends the token of whoever is
logged in (`HF_TOKEN`, a token file, .netrc) to any URL it is given, follows redirects and obeys proxy variables; here
it gets a client of our own that does none of it, and no token but the one bound to the target.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from typing import Any

from engines.contract import Failure, FailureKind, Origin
from engines.errors import TargetUnavailable

_SETTING_UP = threading.Lock()
_is_set_up = False


def count_with_hub_client(origin: Origin, prompt: str, max_tokens: int, *, timeout_s: float = 60.0) -> int:
    """Generated tokens of one greedy native stream, as huggingface_hub's client understands it.

    Raises:
        TargetUnavailable: the client got no whole generation.
    """
    from huggingface_hub import InferenceClient
    from huggingface_hub.errors import HfHubHTTPError

    _set_up()
    counted: int | None = None
    try:
        with InferenceClient(
            model=f"{_pinned_url(origin)}/generate_stream",
            token="none",  # noqa: S106 - so that it does not go looking for one; the header below takes it out again
            timeout=timeout_s,
            headers=_headers(origin),
        ) as client:
            stream = client.text_generation(prompt, details=True, stream=True, max_new_tokens=max_tokens)
            for event in stream:
                if event.details is not None:
                    counted = event.details.generated_tokens
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        raise _unavailable(FailureKind.REJECTED, f"got status {status}", status) from None
    except TimeoutError:
        raise _unavailable(FailureKind.TIMEOUT, f"got no answer within {timeout_s:g} s") from None
    except Exception as error:  # the client lets its transport's, its parser's and its own errors through
        raise _unavailable(FailureKind.BROKEN_STREAM, f"got no whole generation ({type(error).__name__})") from None
    if counted is None:
        raise _unavailable(FailureKind.INCOMPLETE, "got a stream without token counts")
    return counted


def _set_up() -> None:
    """Gives huggingface_hub a client with no proxy, no .netrc, no redirects, and TLS under the target's own name."""
    global _is_set_up
    import httpx2
    from huggingface_hub import set_client_factory

    def name_the_host(request: httpx2.Request) -> None:
        request.extensions["sni_hostname"] = request.headers["host"].rsplit(":", 1)[0].strip("[]")

    def make_client() -> httpx2.Client:
        # The system's authorities or those of SSL_CERT_FILE, as for the load.
        verify = ssl.create_default_context()
        hooks = {"request": [name_the_host]}
        return httpx2.Client(verify=verify, trust_env=False, follow_redirects=False, event_hooks=hooks)

    with _SETTING_UP:
        if not _is_set_up:
            set_client_factory(make_client)
            _is_set_up = True


def _pinned_url(origin: Origin) -> str:
    address = f"[{origin.address}]" if ":" in origin.address else origin.address
    return f"{origin.scheme}://{address}:{origin.port}{origin.base_path.removesuffix('/v1')}"


def _headers(origin: Origin) -> Any:
    """Our headers; an authorization of None takes out the client's own."""
    own: Mapping[str, str] = {name.lower(): value for name, value in origin.headers.items()}
    return {"authorization": None, "host": origin.host_header, **own}


def _unavailable(kind: FailureKind, what: str, status: int | None = None) -> TargetUnavailable:
    message = f"huggingface_hub's client {what} from the target's /generate_stream; is this a TGI server?"
    return TargetUnavailable(message, field="engine", failure=Failure(kind, message, status))
