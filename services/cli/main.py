"""The `enginebench` command. Exit codes: 0 good, 1 the run failed or is not VALID, 2 wrong use.

Each command's module is imported when its parser is built, and must import nothing heavy by itself: one run without a
service has to start in well under a second.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import version
from typing import NoReturn

from services.cli import admin, compare, demo, doctor, jobs, migrate, run, runs, serve, targets, workloads


class _Parser(argparse.ArgumentParser):
    """One line says what is wrong; the flags are told where they are asked for."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="enginebench",
        description="Measure LLM inference engines with numbers that can be trusted.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"enginebench {version('enginebench')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (run, demo, serve, migrate, jobs, runs, compare, targets, workloads, doctor, admin):
        command.add_parser(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        return int(arguments.func(arguments))
    except KeyboardInterrupt:
        print("enginebench: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Nobody reads on: what is still in the buffer has nowhere to go when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
