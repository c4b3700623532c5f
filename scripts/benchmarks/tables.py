"""Rows of a benchmark as a table."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def markdown(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Table in Markdown, four digits of each number; NaN leaves its place empty.

    Args:
        rows: Values by column.
        columns: Names of the columns, in their order.
    """
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(_cell(row[column]) for column in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: object) -> str:
    number = isinstance(value, float)
    return "" if number and math.isnan(value) else f"{value:.4g}" if number else str(value)
