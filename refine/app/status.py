"""How far a work is, as a part of the page."""

import base64

from refine.app.words import curves, list_of
from refine.app.work import Work

IDLE = "<p>Load a photo, paint over what is to be filled, then press <b>Refine</b>.</p>"


def status(work: Work | None, before: int = 0) -> str:
    """What the page shows beside the buttons, HTML.

    Args:
        work: Work of the user; None for none.
        before: Number of works that are done before it.
    """
    if work is None:
        return IDLE
    if work.ended.is_set():
        word = {"done": "Done.", "stopped": "Stopped.", "failed": "It could not be refined:"}[work.state]
        failed = work.message if work.state == "failed" else ""
        return f'<div class="state {work.state}"><b>{word}</b></div>{failed}{curves(dict(work.progress.losses))}'
    progress = work.progress
    if work.state == "waiting":
        text = f"Waiting: {before} photo{'s' * (before != 1)} before yours"
    else:
        text = "Stopping ..." if work.stopping else progress.text
    done = round(100 * progress.share)
    bar = f'<div class="bar" role="progressbar" aria-valuenow="{done}"><div style="width:{done}%"></div></div>'
    picture = ""
    if progress.picture:
        data = base64.b64encode(progress.picture).decode()
        picture = f'<img class="live" alt="the photo as it is now" src="data:image/jpeg;base64,{data}">'
    return f'<div class="state running"><b>{text}</b></div>{bar}{curves(dict(progress.losses))}{picture}'


def report(work: Work) -> str:
    """What is said of a work that has ended, below its pictures, HTML.

    Args:
        work: Work that has ended.
    """
    return work.message + list_of(work.notices)
