"""The running service as the command line sees it: one HTTP client, its refusals in words, tables and JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

DEFAULT_SERVER = "http://127.0.0.1:8700"
DEFAULT_KEY_VARIABLE = "ENGINEBENCH_API_KEY"


class Refused(Exception):
    """The service cannot be reached, or refuses. `code` is the exit code: 2 what was asked is wrong, 1 else.

    `status` is the answer's; `None` where there was none.
    """

    def __init__(self, message: str, code: int = 2, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


def add_service_arguments(parser: argparse.ArgumentParser, *, inner: bool = False) -> None:
    """What every command that talks to a service takes.

    Args:
        parser: the command's.
        inner: it stands below a command that has them too, whose values hold where none are given again.
    """
    group = parser.add_argument_group("service")
    group.add_argument(
        "--server",
        default=argparse.SUPPRESS if inner else os.environ.get("ENGINEBENCH_SERVER", DEFAULT_SERVER),
        metavar="URL",
        help=f"default: ENGINEBENCH_SERVER, else {DEFAULT_SERVER}",
    )
    group.add_argument(
        "--api-key-env",
        metavar="VAR",
        default=argparse.SUPPRESS if inner else None,
        help=f"environment variable that holds the API key; default: {DEFAULT_KEY_VARIABLE} where it is set",
    )
    group.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS if inner else False,
        help="print JSON instead of tables",
    )


def speaking(command: Callable[[argparse.Namespace, Service], int]) -> Callable[[argparse.Namespace], int]:
    """A command with an open service and its refusals printed."""

    def run(arguments: argparse.Namespace) -> int:
        with Service.opened(arguments) as service:
            return command(arguments, service)

    return refusing(run)


def refusing(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A command with its refusals printed."""

    def run(arguments: argparse.Namespace) -> int:
        try:
            return command(arguments)
        except Refused as refusal:
            print(f"enginebench: {refusal}", file=sys.stderr)
            return refusal.code

    return run


class Service:
    """One service under one URL. A context manager."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    @classmethod
    def opened(cls, arguments: argparse.Namespace) -> Service:
        """From the arguments of `add_service_arguments`.

        Raises:
            Refused: the URL or the key's variable is wrong.
        """
        import httpx

        variable = arguments.api_key_env
        if variable is not None and not os.environ.get(variable):
            raise Refused(f"--api-key-env: the environment variable {variable} is not set")
        key = os.environ.get(variable or DEFAULT_KEY_VARIABLE)
        if not arguments.server.startswith(("http://", "https://")):
            raise Refused(f"--server: {arguments.server!r} is not an http:// or https:// URL")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            return cls(
                httpx.Client(base_url=arguments.server.rstrip("/"), headers=headers, timeout=90.0, trust_env=False)
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise Refused(f"--server: {error}") from None

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """The JSON of an answer. Raises Refused."""
        return self._json(self._ask("GET", path, params=_given(params)))

    def get_text(self, path: str, params: Mapping[str, Any] | None = None) -> str:
        """The text of an answer. Raises Refused."""
        return self._ask("GET", path, params=_given(params)).text

    def post(self, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:
        """Send JSON, and the JSON of the answer. Raises Refused."""
        return self._json(self._ask("POST", path, json=body, headers=dict(headers or {})))

    def patch(self, path: str, body: object) -> Any:
        """Send JSON, and the JSON of the answer. Raises Refused."""
        return self._json(self._ask("PATCH", path, json=body))

    def delete(self, path: str) -> None:
        """Raises Refused."""
        self._ask("DELETE", path)

    def pages(self, path: str, params: Mapping[str, Any], most: int) -> Iterator[dict[str, Any]]:
        """At most `most` items of a list, page by page. Raises Refused."""
        if most < 1:
            raise Refused("--limit: give 1 or more")
        cursor: str | None = None
        while most > 0:
            page = self.get(path, {**params, "limit": min(most, 500), "cursor": cursor})
            if not isinstance(page, dict) or not {"items", "next"} <= page.keys():
                raise self._stranger()
            yield from page["items"]
            most -= len(page["items"])
            cursor = page["next"]
            if cursor is None:
                return

    def events(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(event, data) of a stream of events, until it ends. Raises Refused; a broken stream just ends."""
        import httpx

        try:
            with self._client.stream("GET", path, timeout=httpx.Timeout(60.0, read=45.0)) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    raise _refusal(answer)
                name = ""
                for line in answer.iter_lines():
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        yield name, json.loads(line.removeprefix("data: "))
        except httpx.ConnectError as error:
            raise self._unreachable(error) from None
        except httpx.HTTPError:
            return

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        import httpx

        try:
            answer = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if answer.status_code >= 400:
            raise _refusal(answer)
        return answer

    def _json(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise self._stranger() from None

    def _stranger(self) -> Refused:
        return Refused(f"{self._client.base_url} does not answer as an enginebench service; mend --server")

    def _unreachable(self, error: Exception) -> Refused:
        return Refused(
            f"no service answers at {self._client.base_url} ({error}); "
            "start one with `enginebench serve`, or name it with --server"
        )


def _given(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (params or {}).items() if value is not None and value != []}


def _refusal(answer: httpx.Response) -> Refused:
    status = answer.status_code
    code = 1 if status >= 500 else 2
    if status == 401:
        return Refused(
            f"the service wants an API key that it knows: set {DEFAULT_KEY_VARIABLE}, or name the variable that holds "
            "it with --api-key-env",
            code,
            status,
        )
    try:
        problem = answer.json()
        lines = [f"{e['field']}: {e['problem']} ({e['mend']})" for e in problem["errors"]]
        # The detail of bad input is its first line over again; of all else it names what is meant.
        repeats = bool(lines) and problem["detail"].startswith(f"{problem['errors'][0]['field']}:")
        head = problem["title"] if repeats else problem["detail"]
        return Refused("\n  ".join([f"{head}:", *lines] if lines else [head]), code, status)
    except (ValueError, KeyError, TypeError):
        return Refused(f"answers {status}; is this an enginebench service?", code, status)


def print_json(value: object) -> None:
    """To standard output."""
    json.dump(value, sys.stdout, indent=1)
    print()


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns whose heading ends in a unit are right-aligned; to a file or a pipe nothing is cut."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # What people named things is text, never markup: "[/b]" is a fine name for a job.
    table = Table(title=Text(title) if title else None, title_justify="left", header_style="bold")
    for column in columns:
        numeric = column.endswith(("/s", " s", " ms", "ratio"))
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("–" if cell is None else str(cell)) for cell in row))
    console = Console()
    # A file or a pipe has no width of its own.
    (console if console.is_terminal else Console(width=200)).print(table)


def shown(value: float | None, digits: int = 1, scale: float = 1.0) -> str | None:
    """A number for people; `None` stays missing."""
    return None if value is None else f"{value * scale:,.{digits}f}"
