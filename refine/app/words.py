"""What the page says of a refinement, in plain words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from refine.core.notices import THIN_TOO
from refine.core.types import LevelResult, Refinement


@dataclass(frozen=True)
class Facts:
    """What a verdict needs besides the result.

    Attributes:
        choice: Names of backbone and preset.
        planned: Updates planned at each level above the coarsest.
        seconds: Time that the refinement took.
        coarse_alone: Whether only what is coarse is taken of the updates, ``refiner.keep_detail``.
    """

    choice: tuple[str, str]
    planned: Sequence[int]
    seconds: float
    coarse_alone: bool


def verdict(refinement: Refinement, facts: Facts) -> str:
    """What was done, level by level, and what it means, as HTML.

    Args:
        refinement: Refinement of one photo.
        facts: What else is known.
    """
    backbone, preset = map(escape, facts.choice)
    head = f"<b>{backbone}</b>, preset <b>{preset}</b>, {facts.seconds:.1f} s."
    return f"<p>{head} {_summary(refinement, facts)}</p>{_table(refinement, facts)}"


def _summary(refinement: Refinement, facts: Facts) -> str:
    levels = refinement.levels
    if len(levels) == 1 and not facts.planned:
        return (
            "One level: nothing was refined, this is the network's own prediction. The preset has one level only, or "
            "the photo is not larger than what the network was trained on."
        )
    if not any(facts.planned):
        return "This preset makes no updates: it is a control to compare with."
    if refinement.nothing_refined:
        return (
            "Nothing was refined: the hole is too thin, no pixel of it is compared with the coarser level. This is the "
            f"network's own prediction. Paint a wider hole, or start with {THIN_TOO}."
        )
    updates = sum(int(level.updates.item()) for level in levels[1:])
    refined = sum(level.updates.item() > 0 for level in levels[1:])
    words = [f"Refined at {refined} of {len(levels) - 1} finer level{'s' * (len(levels) > 2)}, {updates} updates."]
    if facts.coarse_alone:
        words.append("Fine detail is the network's own; structure follows the coarser level.")
    words.append(
        "The loss says how far a level is from the coarser one, not whether the fill is right: compare with plain."
    )
    return " ".join(words)


def _table(refinement: Refinement, facts: Facts) -> str:
    if len(refinement.levels) == 1:
        return ""
    rows = []
    for index, level in enumerate(refinement.levels):
        height, width = level.prediction.shape[-2:]
        cells = [f"{index + 1}", f"{width}x{height}", *_course(level, index, facts)]
        rows.append("".join(f"<td>{cell}</td>" for cell in cells))
    head = "".join(f"<th>{name}</th>" for name in ("level", "px", "updates", "loss", "what happened"))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _course(level: LevelResult, index: int, facts: Facts) -> tuple[str, str, str]:
    """Updates, loss and what happened at one level."""
    if index == 0:
        return "", "", "the network's own prediction"
    updates, kept, planned = int(level.updates.item()), int(level.kept.item()), facts.planned[index - 1]
    if bool(level.skipped):
        return f"0 of {planned}", "", "skipped: the hole is too thin here, no pixel is left to compare"
    if not planned:
        return "0", "", "no updates planned"
    losses = level.losses[:, 0].tolist()
    first, last = losses[0], losses[kept] if kept >= 0 else math.nan
    loss = f"{first:.4g} &rarr; {last:.4g}" + (f" ({last / first - 1:+.0%})" if first > 0 else "")
    if kept < 0:
        return f"{updates} of {planned}", "", "no iterate was finite: the coarser level was enlarged"
    if kept < updates:
        return f"{updates} of {planned}", loss, f"the loss rose again: update {kept} was kept"
    end = "ended early: the loss no longer fell" if updates < planned else "refined"
    share = level.guided_fraction.item()
    return f"{updates} of {planned}", loss, f"{end}; {share:.0%} of the hole compared"


def list_of(texts: Sequence[str], kind: str = "notice") -> str:
    """Sentences for the user, as HTML; empty for none.

    Args:
        texts: Plain texts.
        kind: Class of the paragraphs, ``notice`` or ``fault``.
    """
    return "".join(f'<p class="{kind}" role="status">{escape(_sentence(text))}</p>' for text in texts)


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def curves(losses: Mapping[int, Sequence[float]], width: int = 360, height: int = 90) -> str:
    """The losses of all levels so far, beside each other, as an SVG; each in its own scale.

    Args:
        losses: Losses by index of the level.
        width: Width of the drawing, px.
        height: Height of the drawing, px.
    """
    shown = {level: [value for value in values if math.isfinite(value)] for level, values in losses.items()}
    shown = {level: values for level, values in shown.items() if values}
    if not shown:
        return ""
    part = width / len(shown)
    pieces = []
    for number, (level, values) in enumerate(sorted(shown.items())):
        low, high = min(values), max(values)
        across, left = part - 16, number * part + 8
        points = " ".join(
            f"{left + across * at / max(1, len(values) - 1):.1f},"
            f"{22 + (height - 30) * (high - value) / ((high - low) or 1):.1f}"
            for at, value in enumerate(values)
        )
        pieces.append(f'<text x="{left:.0f}" y="13">level {level + 1}: {values[-1]:.3g}</text>')
        pieces.append(f'<polyline points="{points}"/>')
    return f'<svg class="losses" viewBox="0 0 {width} {height}" role="img" aria-label="loss">{"".join(pieces)}</svg>'
