"""Capture of a function that works on the same tensors each time, and its replay, by CUDA or by what tests have."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch.optim import Optimizer

Run = Callable[[Callable[[], bool]], None]  # of what is to be called when the iterate is there


class Backend(Protocol):
    """What runs, captures and replays; tests have one without CUDA."""

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
        self.device = device
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
        with (
            torch.cuda.device(self.device),
            torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
        ):
            function()
        return graph.replay


class Replay:
    """A function that is run as it is at first, then captured, and replayed from then on.

    Args:
        function: Function of what is to be called when its iterate is there; it works on the same tensors each time.
        backend: Backend that runs and captures it.
        warm_up: Number of calls before the capture.
        failed: Function that is told why a capture failed; the function is run as it is then.
    """

    def __init__(self, function: Run, backend: Backend, warm_up: int, failed: Callable[[str], None]) -> None:
        self.function, self.backend, self.failed = function, backend, failed
        self._wait: int | None = warm_up  # calls until the capture; None once it failed
        self._replay: Callable[[], None] | None = None

    def __call__(self, after: Callable[[], bool]) -> None:
        """Run, capture or replay the function, then call ``after``."""
        if self._wait is None:
            self.function(after)
            return
        if self._replay is None and self._wait == 0:
            try:
                self._replay = self.backend.capture(self._work)
            except Exception as error:  # any: the function itself has run before
                self._wait = None
                self.failed((str(error).splitlines() or [type(error).__name__])[0])
                self.function(after)
                return
        if self._replay is None:
            self._wait -= 1
            self.backend.aside(self._work)
        else:
            self._replay()
        after()

    def _work(self) -> None:
        self.function(lambda: True)
