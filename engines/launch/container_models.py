"""Fetches models into a folder, once, and lays an overlay of each beside them. What the service `models` runs.

    python -m engines.launch.container_models /models Qwen/Qwen2.5-7B-Instruct@main …

FOLDER/NAME has the weights and, in `enginebench.json`, the commit they are of; FOLDER/overlay/NAME is the same but for
an end-of-sequence id that is never sampled. The token comes from HF_TOKEN.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from engines.errors import LaunchFailed
from engines.launch.overlay import overlay_model_folder

#: The same weights in other clothes, and what no engine here reads.
NOT_FETCHED = ["*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "consolidated*", "original/*"]

#: Written last: a folder that has it is whole.
STAMP = "enginebench.json"

#: (repository, revision, folder) -> the commit that was fetched
Fetch = Callable[[str, str, Path], str]


def fetch_from_hub(repository: str, revision: str, into: Path) -> str:
    """Files of one commit of a repository on the hub, into a folder. The commit."""
    from huggingface_hub import HfApi, snapshot_download

    commit = str(HfApi().model_info(repository, revision=revision).sha)
    snapshot_download(repository, revision=commit, local_dir=into, ignore_patterns=NOT_FETCHED)
    return commit


def provide(folder: Path, wanted: str, fetch: Fetch = fetch_from_hub) -> str:
    """One model and its overlay; what is there already is left as it is. What was done, in words.

    Args:
        folder: of all models.
        wanted: REPOSITORY@REVISION.
        fetch: brings the files.

    Raises:
        LaunchFailed: what came is no model folder.
    """
    repository, _, revision = wanted.partition("@")
    name = repository.rsplit("/", 1)[-1]
    into, overlay = folder / name, folder / "overlay" / name
    stamp = into / STAMP
    asked = {"repository": repository, "revision": revision or "main"}
    if stamp.exists():
        have = json.loads(stamp.read_text())
        if {key: have.get(key) for key in asked} == asked and overlay.exists():
            return f"{repository} is here, commit {have['commit']}"
        stamp.unlink()
    commit = fetch(repository, asked["revision"], into)
    shutil.rmtree(overlay, ignore_errors=True)
    overlay_model_folder(str(into), overlay)
    stamp.write_text(json.dumps({**asked, "commit": commit}))
    return f"{repository} fetched, commit {commit}"


def main(arguments: list[str]) -> int:
    """0 once all are there; 1 with the reason."""
    folder, *models = arguments
    for wanted in models:
        try:
            print(provide(Path(folder), wanted), flush=True)
        except (LaunchFailed, OSError) as error:
            mend = "set HF_TOKEN, and see that its owner has been let at the model"
            print(f"{wanted} cannot be had: {error}; {mend}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
