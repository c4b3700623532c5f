"""Scores of sets of images: Frechet distance, and the learned ones behind the extra ``[metrics]``."""

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torchmetrics
from torch import Tensor, nn
from torchmetrics import Metric

from refine.weights.checkpoint import hash_state

AREA_BINS = tuple(f"{low}-{low + 10}%" for low in range(0, 100, 10))
PAIRWISE = ("lpips",)  # scores of an image
SETWISE = ("fid", "kid")  # scores of a set of images
KID_SUBSET = 50  # images per subset; the usual 1000 need as many images
EXTRA = "pip install refine-inpainting[metrics]"


def area_bin(area: float) -> int:
    """Which of ``AREA_BINS`` a hole of this share of the image falls in, as LaMa groups its evaluation.

    A bin holds its lower end; the last one also holds 1.

    Raises:
        ValueError: Not a share.
    """
    if not 0 <= area <= 1:
        raise ValueError(f"the area of a hole is a share of the image in [0, 1]; got {area}.")
    bins = len(AREA_BINS)
    return min(int(np.searchsorted(np.linspace(0, 1, bins + 1), area, side="right")) - 1, bins - 1)


def frechet_distance(features: Tensor, others: Tensor) -> float:
    """Squared Frechet distance of the normal distributions fitted to two sets of features (FID, given Inception's).

    ``tr (S1 S2)^(1/2)`` is the sum of the singular values of ``A B^T`` where ``S1 = A^T A`` and ``S2 = B^T B``: no
    matrix root and no regularization, also with fewer samples than features.

    Args:
        features: ``(N, D)``.
        others: ``(M, D)``.

    Raises:
        ValueError: Fewer than two samples, different numbers of features, or values that are not finite.
    """
    if (
        not features.ndim == others.ndim == 2
        or features.shape[1] != others.shape[1]
        or min(len(features), len(others)) < 2
    ):
        got = f"{tuple(features.shape)} and {tuple(others.shape)}"
        raise ValueError(f"features must be (N,D) and (M,D) with at least two samples each; got {got}.")
    mean, root = _normal(features)
    other_mean, other_root = _normal(others)
    shared = np.linalg.svd(root @ other_root.T, compute_uv=False).sum()
    return float(((mean - other_mean) ** 2).sum() + (root**2).sum() + (other_root**2).sum() - 2 * shared)


def fid(features: int | nn.Module = 2048, weights: str | Path | None = None) -> Metric:
    """Torchmetrics' Frechet inception distance: ``update(images, real=...)`` with images in [0, 1], then ``compute()``.

    Its 299x299 resizing is torch-fidelity's, with antialiasing, so the numbers are near LaMa's but not the same.

    Args:
        features: Layer of Inception v3, or a network of your own: images ``(B, 3, H, W)`` -> ``(B, D)``.
        weights: File of Inception's weights; None downloads torch-fidelity's.

    Raises:
        ModuleNotFoundError: The extra is not installed; naming it.
    """
    if isinstance(features, int):
        _require("torch_fidelity", "FID")
    from torchmetrics.image.fid import FrechetInceptionDistance

    path = None if weights is None else str(weights)
    return FrechetInceptionDistance(features, normalize=True, feature_extractor_weights_path=path)


def kid(features: int | nn.Module = 2048, subset_size: int = 1000, subsets: int = 100) -> Metric:
    """Torchmetrics' kernel inception distance, used as :func:`fid`; ``compute()`` gives mean and standard deviation.

    Args:
        features: As of :func:`fid`; the weights are downloaded.
        subset_size: Samples per subset, at most as many as there are images.
        subsets: Number of subsets, drawn from PyTorch's global random stream.

    Raises:
        ModuleNotFoundError: The extra is not installed; naming it.
    """
    if isinstance(features, int):
        _require("torch_fidelity", "KID")
    from torchmetrics.image.kid import KernelInceptionDistance

    return KernelInceptionDistance(features, subset_size=subset_size, subsets=subsets, normalize=True)


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


def learned_scores(names: Iterable[str]) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Scores of single images by learned networks: image and truth ``(1, 3, H, W)`` -> ``(1,)``.

    Args:
        names: Out of :data:`PAIRWISE`.

    Raises:
        ModuleNotFoundError: As :func:`lpips`.
    """
    scores: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}
    if "lpips" in names:
        metric = lpips()
        scores["lpips_vgg_image_torchmetrics"] = lambda image, truth: metric(image, truth).flatten()
    return scores


def set_scores(
    names: Sequence[str], pairs: Callable[[], Iterable[tuple[Tensor, Tensor]]], weights: str | Path | None = None
) -> dict[str, dict[str, Any]]:
    """Distances between the set of results and the set of truths.

    Args:
        names: Out of :data:`SETWISE`.
        pairs: Gives result and truth of each image, ``(1, 3, H, W)`` in [0, 1].
        weights: File of Inception's weights for ``fid``; None downloads them.

    Returns:
        By name: ``value`` (of ``kid`` also ``spread``), ``n``, and what it was computed with.

    Raises:
        ModuleNotFoundError: As :func:`fid`.
    """
    metrics = {name: fid(weights=weights) if name == "fid" else kid(subset_size=KID_SUBSET) for name in names}
    count = 0
    for image, truth in pairs():
        count += 1
        for metric in metrics.values():
            metric.update(image, real=False)
            metric.update(truth, real=True)
    return {name: _computed(metric) | {"n": count} for name, metric in metrics.items()}


def _computed(metric: Metric) -> dict[str, Any]:
    computed = metric.compute()
    value, *spread = computed if isinstance(computed, tuple) else (computed,)
    return {
        "value": value.item(),
        **({"spread": spread[0].item()} if spread else {}),
        "implementation": f"torchmetrics {torchmetrics.__version__}",
        "network": "Inception v3 of torch-fidelity",
        "resize": "299x299, torch-fidelity's",
        "weights_sha256": hash_state(metric.inception.state_dict()),  # type: ignore[union-attr]
    }


def _require(module: str, what: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ModuleNotFoundError(f"{what} needs {module}, which is not installed: {EXTRA}")


def _normal(features: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and a triangular root ``R`` of the covariance, ``S = R^T R``."""
    samples = features.detach().cpu().double().numpy()
    if not np.isfinite(samples).all():
        raise ValueError("features must be finite; got NaN or infinity.")
    mean = samples.mean(0)
    root = np.linalg.qr((samples - mean) / np.sqrt(len(samples) - 1), mode="r")
    return mean, np.asarray(root)
