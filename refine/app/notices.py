"""What is warned of while a photo is read or refined, kept for the user whose photo it is."""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from refine.core.notices import NothingRefined

_lock = threading.Lock()
_of_thread = threading.local()
_elsewhere = warnings.showwarning  # for what is no user's


@contextlib.contextmanager
def noticed() -> Iterator[list[str]]:
    """Inside, warnings of this thread go into the list, each once; the verdict says what :class:`NothingRefined` does.

    Python has one list of filters for all threads, so that ``warnings.catch_warnings`` would hear those of other users.
    """
    with _lock:
        warnings.simplefilter("always", UserWarning)  # the second user is to be told, too
        warnings.showwarning = _show
    before, _of_thread.texts = getattr(_of_thread, "texts", None), []
    try:
        yield _of_thread.texts
    finally:
        _of_thread.texts = before


def _show(message: Warning | str, category: type[Warning], *where: Any, **further: Any) -> None:
    texts = getattr(_of_thread, "texts", None)
    if texts is None or not issubclass(category, UserWarning):
        _elsewhere(message, category, *where, **further)
    elif not issubclass(category, NothingRefined) and str(message) not in texts:
        texts.append(str(message))
