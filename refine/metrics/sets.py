"""Scores by learned networks, behind the extra ``[metrics]``: FID and KID of sets of images, LPIPS of one image."""

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torchmetrics
from torch import Tensor, nn
from torchmetrics import Metric

from refine.metrics.feature_file import FeatureFile
from refine.metrics.lpips import LPIPS
from refine.weights.checkpoint import hash_state

PAIRWISE = ("lpips", "lpips_squeeze")  # scores of an image
SETWISE = ("fid", "kid")  # scores of a set of images
KID_SUBSET = 50  # images per subset; the usual 1000 need as many images
EXTRA = "pip install 'refine-inpainting[metrics]'"


def check_available(names: Iterable[str], network: str | Path | None = None) -> None:
    """Say before any work what a score lacks.

    Args:
        names: Names of scores, out of :data:`PAIRWISE` and :data:`SETWISE`.
        network: File of a network in place of Inception, which needs no extra.

    Raises:
        ModuleNotFoundError: The extra is not installed; naming it.
        ValueError: As :class:`FeatureFile`.
    """
    if "lpips" in names:
        _require("torchvision", "LPIPS")
    if set(SETWISE).isdisjoint(names):
        return
    if network is None:
        _require("torch_fidelity", "FID or KID")
    elif not Path(network).is_file():
        FeatureFile(network)  # says what is wrong; to read a whole one now would take long


def fid(features: int | nn.Module = 2048, weights: str | Path | None = None) -> Metric:
    """Torchmetrics' Frechet inception distance: ``update(images, real=...)`` with images in [0, 1], then ``compute()``.

    Its 299x299 resizing is torch-fidelity's, with antialiasing, so the numbers are near LaMa's but not the same.

    Args:
        features: Layer of Inception v3, or another network: images ``(B, 3, H, W)`` -> ``(B, D)``.
        weights: File of Inception's weights; None downloads those of torch-fidelity.

    Raises:
        ModuleNotFoundError: The extra is not installed; naming it.
    """
    if isinstance(features, int):
        _require("torch_fidelity", "FID")
    from torchmetrics.image.fid import FrechetInceptionDistance

    path = None if weights is None else str(weights)
    return FrechetInceptionDistance(features, normalize=True, feature_extractor_weights_path=path)


def kid(
    features: int | nn.Module = 2048,
    subset_size: int = 1000,
    subsets: int = 100,
    weights: str | Path | None = None,
) -> Metric:
    """Torchmetrics' kernel inception distance, used as :func:`fid`; ``compute()`` gives mean and standard deviation.

    Args:
        features: Layer of Inception v3, or a network as for :func:`fid`.
        subset_size: Number of samples per subset, at most as many as there are images.
        subsets: Number of subsets, drawn from PyTorch's global random stream.
        weights: File of Inception's weights; None downloads those of torch-fidelity.

    Raises:
        ModuleNotFoundError: The extra is not installed; naming it.
    """
    is_inception = isinstance(features, int)
    if is_inception:
        _require("torch_fidelity", "KID")
    if is_inception and weights is not None:  # torchmetrics' class takes no path, but a network
        from torchmetrics.image.fid import NoTrainInceptionV3

        features = NoTrainInceptionV3("inception-v3-compat", [str(features)], str(weights))
    from torchmetrics.image.kid import KernelInceptionDistance

    metric = KernelInceptionDistance(features, subset_size=subset_size, subsets=subsets, normalize=True)
    metric.used_custom_model = not is_inception  # Inception wants bytes, and torchmetrics makes them
    return metric


def lpips(net: str = "vgg") -> Metric:
    """Torchmetrics' LPIPS, lower is better: ``update(images, truth)`` in [0, 1], then ``compute()`` -> ``(N,)``.

    Args:
        net: ``vgg`` (as LaMa's evaluation), ``alex`` or ``squeeze``; its weights come from
            ``$TORCH_HOME/hub/checkpoints`` or are downloaded to it.

    Raises:
        ModuleNotFoundError: The extra is not installed; naming it.
    """
    _require("torchvision", "LPIPS")
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(net, reduction="none", normalize=True)  # type: ignore[arg-type]


def learned_scores(
    names: Iterable[str], weights: str | Path | None = None
) -> dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    """Scores of single images by learned networks: image, truth ``(1, 3, H, W)``, mask ``(1, 1, H, W)`` -> ``(1,)``.

    Args:
        names: Names of scores, out of :data:`PAIRWISE`.
        weights: File of SqueezeNet's weights for ``lpips_squeeze``, see :class:`LPIPS`.

    Raises:
        ModuleNotFoundError: As :func:`lpips`.
        UnusableWeights: As :class:`LPIPS`.
    """
    scores: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {}
    if "lpips" in names:
        metric = lpips()
        scores["lpips_vgg_image_torchmetrics"] = lambda image, truth, mask: metric(image, truth).flatten()
    if "lpips_squeeze" in names:
        squeeze = LPIPS(weights)
        scores["lpips_squeeze_image_refine"] = lambda image, truth, mask: squeeze(image, truth)
        scores["lpips_squeeze_box_refine"] = squeeze.in_box
    return scores


def set_scores(
    names: Sequence[str],
    pairs: Callable[[], Iterable[tuple[Tensor, Tensor]]],
    weights: str | Path | None = None,
    network: str | Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Distances between the set of results and the set of truths.

    Args:
        names: Names of scores, out of :data:`SETWISE`.
        pairs: Function that returns the pairs of result and truth, ``(1, 3, H, W)`` in [0, 1].
        weights: File of Inception's weights; None downloads them.
        network: File of another network in place of Inception, see :class:`FeatureFile`.

    Returns:
        By name: ``value`` (of ``kid`` also ``spread``), ``n``, and what it was computed with.

    Raises:
        ModuleNotFoundError: As :func:`fid`.
        ValueError: As :class:`FeatureFile`.
    """
    features = 2048 if network is None else FeatureFile(network)
    metrics = {
        name: fid(features, weights) if name == "fid" else kid(features, KID_SUBSET, weights=weights) for name in names
    }
    count = 0
    for image, truth in pairs():
        count += 1
        for metric in metrics.values():
            metric.update(image, real=False)
            metric.update(truth, real=True)
    return {name: _computed(metric) | {"n": count} for name, metric in metrics.items()}


def _computed(metric: Metric) -> dict[str, Any]:
    result = metric.compute()
    value, *spread = result if isinstance(result, tuple) else (result,)
    return {
        "value": value.item(),
        **({"spread": spread[0].item()} if spread else {}),
        "implementation": f"torchmetrics {torchmetrics.__version__}",
        **_facts(metric.inception),
    }


def _facts(network: Any) -> dict[str, str]:
    if isinstance(network, FeatureFile):
        return network.facts()
    return {
        "network": "Inception v3 of torch-fidelity",
        "resize": "299x299, torch-fidelity's",
        "weights_sha256": hash_state(network.state_dict()),
    }


def _require(module: str, what: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ModuleNotFoundError(f"{what} needs {module}, which is not installed: {EXTRA}")
