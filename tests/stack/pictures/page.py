"""A dashboard drawn from its JSON and its queries' answers: its grid, titles, units and legends, by matplotlib.

It is no Grafana, and the picture says so.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from tests.stack.answers import Answer
from tests.stack.pictures.plots import EDGE, FAINT, INK, PAPER, Place, draw_panel

#: Inches: of the page, of one unit of the grid's height, of the head.
WIDTH_IN, UNIT_IN, HEAD_IN, GAP_IN = 13.0, 0.27, 0.84, 0.05
DPI = 100
#: As many as leave a picture small: with the most of them the edges of text are smoothest.
COLOURS = (64, 48, 32, 24)
MOST_BYTES = 80_000
PAGE, WARNING = "#f3f4f6", "#9a3412"
NOTE = "Simulated engines. Drawn by a script of enginebench's own from what this dashboard's queries gave: not Grafana."


@dataclass(frozen=True, slots=True)
class Shown:
    """What one dashboard shows at one moment."""

    board: Mapping[str, Any]
    #: panel's title -> ref -> answer
    answers: Mapping[str, Mapping[str, Answer]]
    #: variable's label -> what is chosen
    chosen: Mapping[str, str]
    since: datetime
    until: datetime
    #: rows (time, text) of the annotations
    marks: Sequence[Mapping[str, Any]] = ()


def draw(now: Shown, path: Path) -> Path:
    """The whole dashboard as one PNG of few colours; the path."""
    panels = now.board["panels"]
    units = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    high = HEAD_IN + units * UNIT_IN + GAP_IN
    figure = plt.figure(figsize=(WIDTH_IN, high), facecolor=PAGE)
    _head(Place(figure, 0.0, high - HEAD_IN, WIDTH_IN, HEAD_IN, now.since, now.until), now)
    for panel in panels:
        grid = panel["gridPos"]
        w, h = grid["w"] / 24 * WIDTH_IN, grid["h"] * UNIT_IN
        x, y = grid["x"] / 24 * WIDTH_IN, high - HEAD_IN - grid["y"] * UNIT_IN - h
        place = Place(figure, x + GAP_IN, y + GAP_IN / 2, w - 2 * GAP_IN, h - GAP_IN, now.since, now.until, now.marks)
        if panel["type"] == "row":
            place.text(0.05, place.h / 2, f"▾ {panel['title']}", fontsize=9, weight="bold")
        else:
            _panel(place, panel, now.answers[panel["title"]])
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI, facecolor=PAGE)
    plt.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = Image.open(drawn).convert("RGB")
    for colours in COLOURS:
        few = whole.quantize(colours, Image.Quantize.MAXCOVERAGE, 2, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
        if path.stat().st_size < MOST_BYTES:
            break
    return path


def _head(place: Place, now: Shown) -> None:
    place.text(0.1, 0.62, f"enginebench · {now.board['title']}", fontsize=14, weight="bold")
    span = f"{now.since:%Y-%m-%d %H:%M:%S} to {now.until:%H:%M:%S} UTC"
    place.text(place.w - 0.1, 0.62, span, fontsize=8.5, color=FAINT, ha="right")
    chosen = "    ".join(f"{label}: {value}" for label, value in now.chosen.items())
    if now.marks:
        chosen += "    ┆ " + ", ".join(dict.fromkeys(str(mark["text"]) for mark in now.marks))
    place.text(0.1, 0.35, NOTE, fontsize=8.5, color=WARNING, style="italic")
    place.text(0.1, 0.12, chosen, fontsize=8)


def _panel(place: Place, panel: Mapping[str, Any], answers: Mapping[str, Answer]) -> None:
    _frame(place.figure, place)
    title = textwrap.shorten(panel["title"], int(place.w * 13), placeholder="…")
    place.text(0.09, place.h - 0.14, title, fontsize=8.6, weight="bold")
    if any(answers.values()):
        inner = Place(
            place.figure, place.x + 0.08, place.y + 0.05, place.w - 0.16, place.h - 0.31,
            place.since, place.until, place.marks,
        )  # fmt: skip
        draw_panel(inner, panel, answers)
        return
    words = "\n".join(textwrap.wrap(panel["fieldConfig"]["defaults"]["noValue"], 64))
    place.text(place.w / 2, place.h / 2, words, fontsize=9, color=FAINT, ha="center", linespacing=1.5)


def _frame(figure: Figure, place: Place) -> None:
    wide, high = figure.get_size_inches()
    corner, size = (place.x / wide, place.y / high), (place.w / wide, place.h / high)
    paper = Rectangle(corner, *size, transform=figure.transFigure, facecolor=PAPER, edgecolor=EDGE, lw=0.8, zorder=-1)
    figure.add_artist(paper)


__all__ = ["INK", "Shown", "draw"]
