"""What a run is asked for: its images and masks, where the results go, and which of them are there already."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refine.config import ConfigError, PredictConfig
from refine.data.discovery import find_pairs
from refine.data.pairs import Failure, ImageMaskPair, Unused, inputs_hash
from refine.data.subset import subset
from refine.factory import mask_generator
from refine.inference.run_folder import RunFolder
from refine.io.files import same_path
from refine.io.formats import READ


@dataclass(frozen=True)
class Request:
    """The work of a run.

    Attributes:
        output: Folder of the results.
        format: Suffix of the results, such as ``png``.
        pairs: Images with their masks, sorted by key.
        failures: Inputs that cannot be refined.
        unused: Files of the input that are nothing to refine.
    """

    output: Path
    format: str
    pairs: Sequence[ImageMaskPair]
    failures: Sequence[Failure]
    unused: Sequence[Unused] = ()

    def name(self, pair: ImageMaskPair) -> str:
        """Path of a pair's result, relative to the output folder."""
        return f"{pair.key}.{self.format}"


def discover(config: PredictConfig) -> Request:
    """Find the images and masks of a configuration.

    Args:
        config: Settings of the run.

    Raises:
        ValueError: If the request makes no sense as a whole, or a result would overwrite an input.
    """
    output = _output_folder(config)
    generator = mask_generator(config)
    truth = config.truth or ("input" if generator else None)
    listing = find_pairs(config.input, config.mask, generator or config.masks, config.output, truth)
    listing = subset(listing, config.data.table, config.data.limit, config.data.seed)
    request = Request(output, config.format, listing.pairs, listing.failures, listing.unused)
    _spare_inputs(request)
    return request


def select_unfinished(request: Request, run_folder: RunFolder, overwrite: bool) -> list[ImageMaskPair]:
    """The pairs whose results are still to be made.

    Args:
        request: Work of the run.
        run_folder: Run folder, which knows the results that are there.
        overwrite: Make all results again.

    Raises:
        ConfigError: If results are there that this run would not make so, and they are not to be replaced.
    """
    if overwrite:
        return list(request.pairs)
    states = {pair: _state(request, pair, run_folder) for pair in request.pairs}
    foreign = [pair for pair, state in states.items() if state not in ("missing", "finished")]
    if foreign:
        name = request.name(foreign[0])
        differences = "".join(f"\n  {line}" for line in run_folder.differences(name, _contents(foreign[0])))
        raise ConfigError(
            f"output={request.output} holds {len(foreign)} of these results already, such as {name}: "
            f"{states[foreign[0]]}.{differences}\nUse another output, or overwrite=true to replace them."
        )
    return [pair for pair, state in states.items() if state == "missing"]


def _state(request: Request, pair: ImageMaskPair, run_folder: RunFolder) -> str:
    if not os.path.lexists(request.output / request.name(pair)):
        return "missing"
    return run_folder.state(request.name(pair), inputs_hash(_contents(pair)))


def _contents(pair: ImageMaskPair) -> Mapping[str, str]:
    """Contents of its files; none of an unreadable one, which will fail with a message of its own."""
    try:
        return pair.contents()
    except (OSError, ValueError):
        return {}


def _output_folder(config: PredictConfig) -> Path:
    """The folder of the results, if results may go there."""
    output, source = Path(config.output).expanduser(), Path(config.input).expanduser()
    if output.exists() and not output.is_dir():
        raise ConfigError(f"output={output} is a file; give a folder.")
    if not output.exists() and output.suffix.lower() in READ:
        raise ConfigError(f"output={output} looks like an image; give a folder, the result is named as the image.")
    folders = [source] if source.is_dir() else []  # beside a single image its result may lie, unless it replaces one
    if config.masks is not None:
        folders.append(Path(config.masks))
    if any(same_path(output, folder) for folder in folders):
        raise ConfigError(f"output={output} is the folder of the inputs, which would be overwritten; give another.")
    return output


def _spare_inputs(request: Request) -> None:
    inputs = {os.path.realpath(file) for pair in request.pairs for file in pair.files}
    for pair in request.pairs:
        result = request.output / request.name(pair)
        if os.path.realpath(result) in inputs:
            raise ConfigError(
                f"output={request.output}: the result {result} would overwrite an input; give another folder."
            )
