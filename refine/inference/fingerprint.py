"""Everything that changes results, by which those of an earlier run are recognized, done again or refused."""

import inspect
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.utils import get_object

from refine import __version__
from refine.backbones.user_modules import modules_of_users
from refine.config import PredictConfig
from refine.core.fingerprint import sources
from refine.data.pairs import ImageMaskPair
from refine.factory import make_backbone
from refine.inference.discover import discover
from refine.io.files import hash_settings

MASKS = {"mask_threshold", "mask_channel", "mask_invert", "mask_dilate"}  # how files of masks are read
SECTIONS = {"pyramid", "objective", "refiner", *MASKS, "format"}
SCORES = {"evaluate", "metrics", "lpips_weights", "inception_weights", "fid_network"}
INPUTS = {"input", "mask", "masks", "mask_seed", "mask_area", "truth", "data"}
EXACT = ("frozen", "gradient_checkpointing")  # settings of the refiner that are ways to the same pixels


def pixel_settings(config: PredictConfig, backbone: Mapping[str, Any]) -> dict[str, Any]:
    """The settings and the code that change the results of a run; paths, trainer and device do not.

    Args:
        config: Settings of the run.
        backbone: :meth:`FrontRear.fingerprint` of the backbone that is built of it.

    Returns:
        Plain nested values, to be hashed and compared.
    """
    settings = config.model_dump(include=SECTIONS)
    settings["refiner"] = {key: value for key, value in settings["refiner"].items() if key not in EXACT}
    settings |= {"backbone": dict(backbone), "source": _sources(settings), "refine": __version__}
    if config.data.side is not None:
        settings["side"] = config.data.side
    return settings


def _sources(settings: Mapping[str, Any]) -> dict[str, str]:
    """Hash of the code behind each ``_target_``, torch's excepted; its version has little to do with an optimizer."""
    with modules_of_users():
        named = [get_object(target) for target in _targets(settings)]
    code = [kind for target in named for kind in (inspect.getmro(target) if isinstance(target, type) else (target,))]
    return sources(kind for kind in code if kind.__module__.partition(".")[0] not in ("torch", "builtins"))


def _targets(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(target := value.get("_target_"), str):
            yield target
        for child in value.values():
            yield from _targets(child)


def _hash(pair: ImageMaskPair) -> str:
    try:
        return pair.hash()
    except OSError as error:  # the pair will fail, and be told
        return str(error)


class RunFingerprints:
    """Fingerprints of whole runs, such as the arms of a study: what :func:`pixel_settings` says, scores, and inputs.

    Networks and inputs that several runs share are read once.
    """

    def __init__(self) -> None:
        self._backbones: dict[str, dict[str, Any]] = {}
        self._inputs: dict[str, dict[str, str]] = {}

    def __call__(self, config: PredictConfig) -> str:
        """SHA-256 (hex) of what decides the results of a run: settings, code, weights, contents of its files.

        Args:
            config: Settings of the run.

        Raises:
            Exception: The run cannot be: its backbone or its inputs are missing or unusable.
        """
        backbone, inputs = hash_settings(config.backbone), hash_settings(config.model_dump(include=INPUTS))
        if backbone not in self._backbones:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the run will give them
                self._backbones[backbone] = make_backbone(config.backbone).fingerprint()
        if inputs not in self._inputs:
            request = discover(config)
            self._inputs[inputs] = {"failures": repr(request.failures)}
            for pair in request.pairs:
                self._inputs[inputs][pair.key] = _hash(pair)
        settings = pixel_settings(config, self._backbones[backbone]) | config.model_dump(include=SCORES)
        return hash_settings({"settings": settings, "inputs": self._inputs[inputs]})
