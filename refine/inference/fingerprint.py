"""Everything that changes pixels, by which the results of an earlier run are recognized or refused."""

from typing import Any

from refine import __version__
from refine.config import PredictConfig
from refine.core.backbone import FrontRear

MASKS = {"mask_threshold", "mask_channel", "mask_invert", "mask_dilate"}  # how files of masks are read
SECTIONS = {"pyramid", "objective", "refiner", *MASKS, "format"}
EXACT = ("frozen", "gradient_checkpointing")  # settings of the refiner that are ways to the same pixels


def pixel_settings(config: PredictConfig, backbone: FrontRear) -> dict[str, Any]:
    """The settings of a run that change its results; paths, trainer and device do not.

    Args:
        config: Settings of the run.
        backbone: Backbone that was built of it, which tells what changes its own output.

    Returns:
        Plain nested values, to be hashed and compared.

    Raises:
        ValueError: If the backbone has no hash of its weights.
    """
    settings = config.model_dump(include=SECTIONS)
    settings["refiner"] = {key: value for key, value in settings["refiner"].items() if key not in EXACT}
    settings |= {"backbone": backbone.fingerprint(), "refine": __version__}
    if config.data.side is not None:
        settings["side"] = config.data.side
    return settings
