"""Everything that changes results, by which those of an earlier run are recognized, done again or refused."""

import inspect
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.utils import get_object

from refine import __version__
from refine.backbones.user_modules import modules_of_users
from refine.config import PredictConfig
from refine.core.backbone import FrontRear
from refine.core.sources import file_found, sources
from refine.factory import make_backbone
from refine.inference.discover import Request, discover
from refine.io.files import hash_settings

MASKS = {"mask_threshold", "mask_channel", "mask_invert", "mask_dilate"}  # how files of masks are read
SECTIONS = {"pyramid", "objective", "refiner", *MASKS, "format"}
SCORES = {"evaluate", "metrics", "lpips_weights", "inception_weights", "fid_network"}
INPUTS = {"input", "mask", "masks", "mask_seed", "mask_area", "truth", "data"}
EXACT = ("frozen", "gradient_checkpointing", "graph")  # settings of the refiner that are ways to the same pixels


def pixel_settings(config: PredictConfig, backbone: Mapping[str, Any]) -> dict[str, Any]:
    """The settings and the code that change the results of a run; paths, trainer and device do not.

    Args:
        config: Settings of the run.
        backbone: :func:`backbone_settings` of the backbone that is built of it.

    Returns:
        Plain nested values, to be hashed and compared.
    """
    settings = config.model_dump(include=SECTIONS)
    settings["refiner"] = {key: value for key, value in settings["refiner"].items() if key not in EXACT}
    settings |= {"backbone": dict(backbone), "source": _sources(settings), "refine": __version__}
    if config.data.side is not None:
        settings["side"] = config.data.side
    return settings


def backbone_settings(backbone: FrontRear) -> dict[str, Any]:
    """:meth:`FrontRear.fingerprint`, with the modules of users where they are looked for when it is built.

    Args:
        backbone: Backbone of a run.
    """
    with modules_of_users():
        return backbone.fingerprint()


def _sources(settings: Mapping[str, Any]) -> dict[str, str]:
    """Hash of the code behind each ``_target_``, torch's excepted; its version has little to do with an optimizer."""
    with modules_of_users():
        named = [get_object(target) for target in _targets(settings)]
        code = [kind for part in named for kind in (inspect.getmro(part) if isinstance(part, type) else (part,))]
        return sources(kind for kind in code if kind.__module__.partition(".")[0] not in ("torch", "builtins"))


def _files(settings: Mapping[str, Any]) -> list[str | None]:
    """Files of the code behind each ``_target_``: two of one name are not the same backbone."""
    with modules_of_users():
        return [file_found(target.rpartition(".")[0]) for target in _targets(settings)]


def _targets(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(target := value.get("_target_"), str):
            yield target
        for child in value.values():
            yield from _targets(child)


class RunFingerprints:
    """What decides the results of whole runs, such as the arms of a study: :func:`pixel_settings`, scores, and inputs.

    Networks and inputs that several runs share are read once.
    """

    def __init__(self) -> None:
        self._backbones: dict[str, dict[str, Any]] = {}
        self._inputs: dict[str, dict[str, dict[str, str]]] = {}

    def __call__(self, config: PredictConfig) -> dict[str, Any]:
        """Settings, code, weights, and contents of the files of a run, as plain values to be hashed and compared.

        Args:
            config: Settings of the run.

        Returns:
            ``configuration``, the hash by which the run's folder knows its results; ``settings``; and ``inputs``,
            what each image is made from, by key.

        Raises:
            Exception: The run cannot be: its backbone or its inputs are missing or unusable.
        """
        backbone = hash_settings({"settings": config.backbone, "files": _files(config.backbone)})
        inputs = hash_settings(config.model_dump(include=INPUTS))
        if backbone not in self._backbones:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the run will give them
                self._backbones[backbone] = backbone_settings(make_backbone(config.backbone))
        if inputs not in self._inputs:
            self._inputs[inputs] = _inputs(discover(config))
        settings = pixel_settings(config, self._backbones[backbone])
        return {
            "configuration": hash_settings(settings),
            "settings": settings | config.model_dump(include=SCORES),
            "inputs": self._inputs[inputs],
        }


def _inputs(request: Request) -> dict[str, dict[str, str]]:
    found = {failure.key: {"failure": failure.reason} for failure in request.failures}
    for pair in request.pairs:
        try:
            found[pair.key] = pair.contents()
        except OSError as error:  # the pair will fail, and be told
            found[pair.key] = {"failure": str(error)}
    return found
