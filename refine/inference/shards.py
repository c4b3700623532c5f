"""A run as independent jobs, each with a share of the images."""

from collections.abc import Sequence
from pathlib import Path

from refine.config import ConfigError, PredictConfig
from refine.inference.discover import discover
from refine.inference.launch import Job, check_launcher, launch, say_interrupted
from refine.inference.pipeline import gather
from refine.io.files import RUN_FOLDER


def run_shards(config: PredictConfig, command: Sequence[str], launcher: Sequence[str]) -> int:
    """Launch the shards of a run, wait for them, and conclude.

    Args:
        config: Settings of the run.
        command: Overrides it was composed of.
        launcher: Override ``launcher=<name>``, then Hydra's own ``hydra.<key>=<value>``.

    Returns:
        Exit status: 0 if every result is there, 1 if something failed or is missing, 130 after Ctrl-C, 143 after
        SIGTERM.

    Raises:
        ValueError: If the request makes no sense as a whole; nothing was done then.
    """
    check_launcher(launcher[0].partition("=")[2])
    if config.shard is not None or config.gather is not None:
        raise ConfigError("launcher= starts all shards and gathers what they made; leave shard= and gather= out.")
    request, output = discover(config), Path(config.output).expanduser()
    jobs = [
        Job(f"shard-{shard}", [*command, f"shard={shard}", "gather=false"], output, f"job-{shard}.json")
        for shard in range(config.shards)
    ]
    folder = (output / RUN_FOLDER / "shards").absolute()
    if stopped := launch(jobs, folder, launcher):
        done = sum((output / request.name(pair)).is_file() for pair in request.pairs)
        say_interrupted("predict", done, len(request.pairs), "images done")
        return stopped
    return gather(config, request, "has no result; see what its shard said")
