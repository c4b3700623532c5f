"""Work beside the refinement: threads read the next images, score the last results and write them.

What is unfinished is bounded, in images and in pixels, so that memory is. An image that is larger than that alone is
read when its turn comes, and its result is written before the next begins: a large photo takes as much memory as
without threads. Decoders, zlib, OpenCV, NumPy and torch let other threads run while they work.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Literal

import torch
from torch.utils.data import Sampler

from refine.core.types import Sample
from refine.data.dataset import PairDataset
from refine.data.pairs import Failure

PIXELS = 8_000_000  # that may be read but not refined yet, and as many that may be refined but not written yet
BYTES = 120  # per pixel of both: image and mask as tensors, 20; result, controls and truth that are to be scored, 100
ON_A_GPU = 4  # threads of each kind where a GPU refines: the CPU has little else to do


def threads_beside(workers: int | Literal["auto"], device: torch.device) -> int:
    """Number of threads that read, and as many that write.

    Args:
        workers: Value of ``workers=``.
        device: Device of the refiner. On a CPU the refinement takes all there is, and its seconds are to be its own.
    """
    if workers == "auto":
        return 0 if device.type == "cpu" else ON_A_GPU
    return workers


class ReadAhead:
    """The images of a process in their order, the next ones read before they are asked for.

    Args:
        dataset: Image and mask pairs.
        order: Sampler of this process's own.
        threads: Number of threads that read; 0 for none, then each image is read when it is asked for.
    """

    def __init__(self, dataset: PairDataset, order: Sampler[int], threads: int = 0) -> None:
        self.dataset, self.order, self.threads = dataset, order, threads

    def __len__(self) -> int:
        """Number of images."""
        return len(self.order)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Sample | Failure]:
        """Read them."""
        if not self.threads:
            yield from map(self.dataset.__getitem__, self.order)
            return
        todo, reading = deque(self.order), deque[tuple[int, Future[Sample | Failure]]]()
        pool = ThreadPoolExecutor(self.threads, "refine-read")
        try:
            while todo or reading:
                while todo and len(reading) < 2 * self.threads:
                    pixels = self.dataset.pixels(todo[0])
                    if pixels + sum(others for others, _ in reading) > PIXELS:
                        break
                    reading.append((pixels, pool.submit(self.dataset.__getitem__, todo.popleft())))
                yield reading.popleft()[1].result() if reading else self.dataset[todo.popleft()]
        finally:
            pool.shutdown(cancel_futures=True)


class WriteBehind:
    """Does work in threads, while the next image is refined.

    Args:
        threads: Number of threads; 0 for none, then all work is done at once.
    """

    def __init__(self, threads: int = 0) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "refine-write") if threads else None
        self._unfinished: dict[Future[None], int] = {}  # -> pixels

    def __call__(self, work: Callable[[], None], pixels: int) -> None:
        """Do some work; returns once there is room for it beside what is unfinished.

        Args:
            work: Function that raises nothing.
            pixels: Size of the image that it holds.
        """
        if self._pool is None:
            work()
            return
        self._wait(2 * self._threads - 1, PIXELS - pixels)
        self._unfinished[self._pool.submit(_without_gradients, work)] = pixels
        self._wait(2 * self._threads, PIXELS)

    def wait(self) -> None:
        """Return when all is done."""
        self._wait(0, 0)

    def _wait(self, count: int, pixels: int) -> None:
        """Until no more than this is unfinished; nothing at all is always little enough."""
        while self._unfinished:
            for future in [future for future in self._unfinished if future.done()]:
                del self._unfinished[future]
                future.result()  # a fault of ours is to be heard
            if len(self._unfinished) <= count and sum(self._unfinished.values()) <= pixels:
                return
            wait(self._unfinished, return_when="FIRST_COMPLETED")


def _without_gradients(work: Callable[[], None]) -> None:
    """What torch keeps of results for gradients is decided per thread."""
    with torch.no_grad():
        work()
