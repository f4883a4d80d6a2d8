"""What a test may hold a run's validity to on a machine that others use too."""

from __future__ import annotations

from collections.abc import Iterable

# A busy test machine may earn these honestly, and the demo asks for such runs again.
from services.cli.demo import MACHINE_REASONS

__all__ = ["MACHINE_REASONS", "NOTES", "UNSTEADY", "assert_valid_here"]

#: Reasons that are notes for the simulated engines' fault-free runs.
NOTES = frozenset(
    {"tokens_off_plan", "shared_events", "tokens_per_event", "user_stamps", "resends", "prefix_cache_unknown"}
)
#: A machine that stands still holds up an engine on it too, which then honestly is not steady.
UNSTEADY = frozenset({"not_stationary", "littles_law"})


def assert_valid_here(state: str, codes: Iterable[str]) -> None:
    """VALID; or kept from it by nothing but a busy machine."""
    found = set(codes)
    assert found <= MACHINE_REASONS | UNSTEADY | NOTES, (state, found)
    assert state == "VALID" or found & (MACHINE_REASONS | UNSTEADY), (state, found)
