"""One of several processes that the agent has started; a module of its own, so that finding it imports little."""

import os
import sys
from collections.abc import Sequence

from refine.config import PredictConfig
from refine.inference.signals import STOPPED
from refine.inference.startup import lean_start


def run_as_worker(command: Sequence[str]) -> int:
    """Do the work of one of the processes that :func:`refine.inference.pipeline.run` has started.

    Args:
        command: Overrides that its configuration is composed of.

    Returns:
        Exit status, as of :func:`refine.inference.pipeline.run`; 2 if the request makes no sense after all.
    """
    with lean_start():
        from refine.inference.discover import discover
        from refine.inference.pipeline import work
    try:
        config = PredictConfig.compose(command)
        status = work(config, discover(config))
    except (ValueError, OSError) as error:
        if os.environ.get("RANK", "0") == "0":  # the others have the same to say
            print(f"refine: error: {error}", file=sys.stderr)
        return 2
    if status in STOPPED:
        sys.exit(status)  # nobody listens to what it returns
    return status
