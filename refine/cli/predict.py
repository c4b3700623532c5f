"""Fill the holes of one image or of a folder.

    refine predict input=photo.jpg mask=hole.png output=results
    refine predict input=photos masks=holes output=results preset=paper refiner.steps=30
    refine predict data=photos masks=thick output=results        # holes drawn into whole photos, and scores

    refine predict input=photos output=results shards=16 launcher=submitit_slurm    # also joblib, submitit_local

Masks: white is the hole. Without mask= and masks= they lie beside the images as x_mask.png, x_mask001.png ...
Finished results are kept when the command runs again; logs and tables lie in <output>/.refine/.
"""

from collections.abc import Sequence

from refine.config import PredictConfig
from refine.inference.startup import lean_start

LAUNCHER = ("launcher=", "hydra.")  # settings of the launcher, not of the run


def run(overrides: Sequence[str]) -> int:
    """Run the command.

    Args:
        overrides: Hydra's ``key=value``.

    Returns:
        Exit status: 0 if every result is there, 1 if something failed or is missing, 130 after Ctrl-C, 143 after
        SIGTERM.

    Raises:
        ValueError: If the request makes no sense as a whole; nothing was done then.
    """
    command, launcher = split(overrides)
    config = PredictConfig.compose(command)
    with lean_start():  # torch and Lightning take seconds, a misspelled setting should not
        from refine.inference import pipeline, shards

    if launcher:
        return shards.run_shards(config, command, sorted(launcher, reverse=True))  # launcher=, then hydra.<key>=
    return pipeline.run(config, command)


def split(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is for the run, and what for a launcher of its shards.

    Args:
        overrides: Hydra's ``key=value``.
    """
    launched = any(override.startswith("launcher=") for override in overrides)
    launcher = [override for override in overrides if launched and override.startswith(LAUNCHER)]
    return [override for override in overrides if override not in launcher], launcher
