"""The environment a launched engine gets: what it needs to run, and nobody's credentials."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: Kept by name: where programs, homes, caches and libraries are.
_KEPT = frozenset((
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR",
    "LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONUNBUFFERED",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CC", "CXX",
))  # fmt: skip

#: Kept by beginning: accelerators, maths libraries, and the engines' own settings.
_KEPT_PREFIXES = (
    "LC_", "XDG_", "CUDA_", "NVIDIA_", "NCCL_", "HIP_", "ROCR_", "ROCM_", "HSA_", "GPU_",
    "OMP_", "MKL_", "KMP_", "OPENBLAS_", "TORCH", "PYTORCH_", "TRITON_", "INDUCTOR_",
    "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TOKENIZERS_", "VLLM_", "SGLANG_", "TGI_", "MLX_",
)  # fmt: skip

#: Never kept, whatever the beginning: HF_TOKEN, VLLM_API_KEY, …
_SECRET_NAME = re.compile(r"TOKEN(?!IZERS_)|KEY|SECRET|PASSW|CREDENTIAL|AUTH|COOKIE", re.IGNORECASE)


def scrubbed_environment(environment: Mapping[str, str], secrets: Iterable[str] = ()) -> dict[str, str]:
    """The variables a launched engine may see.

    Args:
        environment: the worker's own.
        secrets: values that must not get through under any name.
    """
    values = {secret for secret in secrets if secret}
    return {
        name: value
        for name, value in environment.items()
        if (name in _KEPT or name.startswith(_KEPT_PREFIXES))
        and not _SECRET_NAME.search(name)
        and not any(secret in value for secret in values)
    }
