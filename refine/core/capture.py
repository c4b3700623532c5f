"""Capture of a function that works on the same tensors each time, and its replay, by CUDA or by what tests have."""

import warnings
from collections.abc import Callable
from typing import Protocol

import torch
from torch.optim import Optimizer

Run = Callable[[Callable[[], bool]], None]  # of what is to be called when the iterate is there


class Backend(Protocol):
    """What runs, captures and replays; tests have one without CUDA.

    Attributes:
        broken: Why a capture failed; nothing is captured from then on. Empty if none did.
    """

    broken: str

    def prepare(self, optimizer: Optimizer) -> None:
        """Make an optimizer fit for capture.

        Args:
            optimizer: Optimizer before its first step.
        """
        ...

    def aside(self, function: Callable[[], None]) -> None:
        """Run a function where it would be captured.

        Args:
            function: Function of nothing.
        """
        ...

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Capture a function without running it.

        Args:
            function: Function of nothing.

        Returns:
            The function that runs what was captured.
        """
        ...


class CudaBackend:
    """CUDA's own graphs, in one pool of memory.

    Args:
        device: CUDA device of the network.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.broken = device, ""
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def prepare(self, optimizer: Optimizer) -> None:
        """See :class:`Backend`: the number of steps is kept on the device."""
        for group in optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = True

    def aside(self, function: Callable[[], None]) -> None:
        """See :class:`Backend`: on the stream of the captures."""
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            function()
        current.wait_stream(self._stream)

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """See :class:`Backend`; other threads may use the device meanwhile."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device):
            before = torch.cuda.current_stream()
            try:
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                    function()
            finally:
                torch.cuda.set_stream(before)  # where a capture fails torch may leave its own stream in place
        return graph.replay


class Replay:
    """A function that is run as it is at first, then captured, and replayed from then on; as it is, if that fails.

    Args:
        function: Function of what is to be called when its iterate is there; it works on the same tensors each time.
        backend: Backend that runs and captures it.
        warm_up: Number of calls before the capture.
    """

    def __init__(self, function: Run, backend: Backend, warm_up: int) -> None:
        self.function, self.backend = function, backend
        self._wait = warm_up  # calls until the capture
        self._replay: Callable[[], None] | None = None

    def __call__(self, after: Callable[[], bool]) -> None:
        """Run, capture or replay the function, then call ``after``."""
        if self._replay is None and not self._wait and not self.backend.broken:
            self._capture()
        if self._replay is not None:
            self._replay()
        elif self._wait and not self.backend.broken:
            self._wait -= 1
            self.backend.aside(self._work)
        else:  # what failed has been given back by now
            self.function(after)
            return
        after()

    def _capture(self) -> None:
        try:
            self._replay = self.backend.capture(self._work)
        except torch.OutOfMemoryError:
            raise  # there may be room without graphs
        except Exception as error:  # any: the function itself has run before
            self.backend.broken = (str(error).splitlines() or [type(error).__name__])[0]
            warn_of_no_graph(self.backend.broken)

    def _work(self) -> None:
        self.function(lambda: True)


def warn_of_no_graph(reason: str) -> None:
    """Say that updates are no graph.

    Args:
        reason: Reason, without a full stop.
    """
    warnings.warn(f"no CUDA graph, updates are started one by one: {reason}.", stacklevel=2)
