"""What the YAML of a backbone says of it, beside how it is built."""

from collections.abc import Mapping
from typing import Any

from refine.backbones.conformance.contract import Finding

ENTRIES = ("paper", "license", "parameters")
"""Entries of ``card`` that ``refine backbones`` shows; a backbone that ships has all of them."""
WORDS = "the card says what it is"


def check_card(section: Mapping[str, Any]) -> Finding:
    """Hold the section ``card`` of a backbone's YAML against what the commands need of it.

    Args:
        section: Section ``backbone`` of a configuration.
    """
    card = section.get("card") or {}
    if card.get("url") and not card.get("sha256"):
        problem = "card.url without card.sha256: a download could not be verified. Set it to what `refine fetch` prints"
        return Finding(WORDS, problem)
    missing = [f"card.{name}" for name in ENTRIES if not card.get(name)]
    if "weights" in section and section["weights"] is None and not (card.get("url") or card.get("manual")):
        missing.append("card.url with card.sha256, or card.manual (where its weights are)")
    return Finding(WORDS, skipped=f"not there: {', '.join(missing)}; needed where a backbone ships" if missing else "")
