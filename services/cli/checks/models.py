"""Can the models be had here: room on the disk, a token for those that are gated?"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from engines.launch.container_flags import MODELS
from services.cli.checks.finding import Finding, fail, not_applicable, ok, warn

#: Both models in BF16 (their overlays are links), and the engines' images unpacked.
MODELS_BYTES, IMAGES_BYTES = 30_000_000_000, 30_000_000_000
#: Models whose licence has to be agreed to on the hub first.
GATED = tuple(model for model in MODELS if model.startswith("mistralai/"))


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Where models go, and whether they may be fetched."""

    #: the folder that was looked at: the models', else Docker's, else the root
    folder: str
    #: `None`: it cannot be looked at
    free_bytes: int | None
    #: where a token was found: "HF_TOKEN", ".env" or a file; `None`: nowhere. Never the token
    token_from: str | None
    #: models that are there already, whole
    present: tuple[str, ...] = ()


def read_models(folder: Path | None, token_from: str | None, root: Path = Path("/")) -> ModelFacts:
    """`folder`: where models are kept; `None`: in Docker's volumes."""
    docker = root / "var/lib/docker"
    shown = folder or docker
    present: tuple[str, ...] = ()
    try:
        volume = folder or docker / "volumes/enginebench_models/_data"
        present = tuple(model for model, (_, name) in MODELS.items() if (volume / name / "enginebench.json").is_file())
    except OSError:
        pass  # Docker's folder is root's
    while not _is_there(shown) and shown != shown.parent:
        shown = shown.parent
    try:
        free = shutil.disk_usage(shown).free
    except OSError:
        free = None
    return ModelFacts(str(shown), free, token_from, present)


def judge_models(facts: ModelFacts, *, wanted: bool, demanded: bool) -> list[Finding]:
    """The disk and the token.

    Args:
        facts: what was read.
        wanted: models are to be run here: there is a card, or one is demanded.
        demanded: this host is to run engines on a card.
    """
    return [_disk(facts, wanted=wanted), _token(facts, wanted=wanted, demanded=demanded)]


def _disk(facts: ModelFacts, *, wanted: bool) -> Finding:
    check = "disk for models"
    if facts.free_bytes is None:
        return not_applicable(check, f"{facts.folder} cannot be looked at")
    missing = 1 - len(facts.present) / len(MODELS)
    needed = MODELS_BYTES * missing + IMAGES_BYTES
    seen = f"{facts.free_bytes / 1e9:.0f} GB free at {facts.folder}"
    if not wanted:
        return not_applicable(check, f"{seen}; no GPU here to run them on")
    seen += f"; models and images may want {needed / 1e9:.0f} GB more"
    mend = "docker system df, then docker system prune; or move Docker's data-root to a larger disk"
    if facts.free_bytes >= needed:
        return ok(check, seen)
    if facts.free_bytes < MODELS_BYTES * missing:
        return fail(check, seen, mend)
    return warn(check, f"{seen}, unless the images are here already", mend)


def _token(facts: ModelFacts, *, wanted: bool, demanded: bool) -> Finding:
    check = "token for gated models"
    gated = [model for model in GATED if model not in facts.present]
    if not gated:
        return ok(check, "not wanted any more: the gated models are here")
    if facts.token_from is not None:
        return ok(check, f"set ({facts.token_from})")
    seen = f"HF_TOKEN is not set, and {', '.join(gated)} is gated"
    if not wanted:
        return not_applicable(check, f"{seen}; no GPU here to run it on")
    mend = f"agree to its licence at https://huggingface.co/{gated[0]}, then HF_TOKEN=hf_… in .env"
    return fail(check, seen, mend) if demanded else warn(check, seen, mend)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
