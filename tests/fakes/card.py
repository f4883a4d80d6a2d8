"""One card for which engines take turns, and two witnesses of who was on it.

Each engine takes a lock that ends with its last process, and notes where it could not; and all processes are looked at
dozens of times a second.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.service import await_true

LOOK_EVERY_S = 0.02


@dataclass(slots=True)
class Card:
    """The one card, and what was seen on it."""

    folder: Path
    #: (engine, session) in the order in which they were first seen
    seen: list[tuple[str, int]] = field(default_factory=list)
    #: looks that found more than one engine
    together: list[set[tuple[str, int]]] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)

    def alive(self) -> set[tuple[str, int]]:
        """Engines as they are now: name and session, however many processes it has; its keeper is not counted."""
        found = set()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
                if (
                    f"CARD={self.folder}".encode() not in environment
                    or b"keeper.py" in (entry / "cmdline").read_bytes()
                ):
                    continue
                session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
            except OSError:
                continue
            name = next(word for word in environment if word.startswith(b"PROFILE=")).partition(b"=")[2].decode()
            found.add((name, session))
        return found

    @property
    def refused(self) -> list[str]:
        """Engines that found the card taken."""
        notes = self.folder / "taken"
        return notes.read_text().splitlines() if notes.exists() else []

    def place(self, program: str, command: str) -> None:
        """A program for engines that takes the card and becomes the command, a line for the shell."""
        path = self.folder / program
        lines = ['exec 9>"$CARD/lock"', 'flock -n 9 || echo "$PROFILE" >>"$CARD/taken"', f"exec {command}"]
        path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        path.chmod(0o755)

    def environment(self, name: str) -> dict[str, str]:
        """Of an engine that is started on it."""
        return {"PATH": f"{self.folder}:/usr/bin:/bin", "CARD": str(self.folder), "PROFILE": name}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Looks at it from a thread for as long as the block lasts."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _watch(self) -> None:
        while not self._done.wait(LOOK_EVERY_S):
            now = self.alive()
            self.seen += sorted(now - {*self.seen})
            if len(now) > 1:
                self.together.append(now)


@contextmanager
def one_card(folder: Path) -> Iterator[Card]:
    """A card below `folder`; at the end nothing is on it, and there never were two."""
    (folder / "card").mkdir()
    card = Card(folder / "card")
    with card.watched():
        yield card
        await_true(lambda: not card.alive(), 30.0, lambda: f"left on the card: {card.alive()}")
    assert card.together == []
    assert card.refused == []
