"""What a process keeps for all: settings that a test may change and a later one would find."""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

OF_LIBRARIES = {  # set by polars, material, gradio, W&B, torch and pytest
    *("_RJEM_MALLOC_CONF", "NO_MKDOCS_2_WARNING", "HF_HUB_DISABLE_TELEMETRY", "WANDB_SERVICE"),
    *("TORCHELASTIC_SIGNALS_TO_HANDLE", "PYTEST_CURRENT_TEST"),
}


def state() -> dict[str, Any]:
    """Settings of this process by name."""
    import cv2
    import torch
    from hydra.core.global_hydra import GlobalHydra
    from lightning.pytorch.utilities.rank_zero import rank_zero_only
    from PIL import Image

    umask = os.umask(0o022)
    os.umask(umask)
    loggers = [logging.getLogger(name) for name in (None, "refine", "lightning", "lightning.pytorch", "py.warnings")]
    variables = {f"variable {name}": value for name, value in os.environ.items() if name not in OF_LIBRARIES}
    return variables | {
        "working folder": os.getcwd(),
        "umask": umask,
        "sys.path": list(sys.path),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)],
        "loggers": [(log.name, log.level, list(log.handlers), log.propagate, log.disabled) for log in loggers],
        "threads": (torch.get_num_threads(), cv2.getNumThreads()),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        "precision": (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32),
        "Pillow": Image.MAX_IMAGE_PIXELS,
        "Hydra": GlobalHydra.instance().is_initialized(),
        "rank": getattr(rank_zero_only, "rank", 0) or 0,
    }


def forget_modules(folder: Path) -> None:
    """Forget modules that lie in a folder, as tests write them for users: a later test may write one of that name."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(f"{folder.resolve()}{os.sep}"):
            del sys.modules[name]
