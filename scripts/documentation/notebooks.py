"""Notebooks of the documentation: run, with their outputs kept in the file, and as pages of the site.

PYTHONPATH=scripts python -m documentation.notebooks docs/notebooks/paper_figure.ipynb

A kernel and its client would run them too, in a process of their own and with ten more packages.
"""

import base64
import io
import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

JPEG = {"format": "jpeg", "dpi": 72, "pil_kwargs": {"quality": 85}}


def run(notebook: Mapping[str, Any], **parameters: Any) -> dict[str, Any]:
    """Run the code cells in one namespace, and put what they print and show into them.

    Args:
        notebook: Content of an ``.ipynb`` file; the outputs of its cells are replaced.
        **parameters: Values that are set after the cell with the tag ``parameters``.

    Returns:
        The names that the cells have defined.
    """
    import matplotlib

    matplotlib.use("agg")
    names: dict[str, Any] = {}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, start=1):
        cell.update(outputs=_outputs("".join(cell["source"]), number, names), execution_count=number)
        if "parameters" in cell["metadata"].get("tags", ()):
            names.update(parameters)
    return names


def _outputs(source: str, number: int, names: dict[str, Any]) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    with redirect_stdout(io.StringIO()) as said, patch("matplotlib.pyplot.show", lambda: shown.extend(_figures())):
        exec(compile(source, f"<cell {number}>", "exec"), names)
    text = said.getvalue().splitlines(keepends=True)
    return ([{"output_type": "stream", "name": "stdout", "text": text}] if text else []) + shown


def _figures() -> list[dict[str, Any]]:
    from matplotlib import pyplot

    outputs = []
    for number in pyplot.get_fignums():
        stream = io.BytesIO()
        pyplot.figure(number).savefig(stream, **JPEG)
        data = {"image/jpeg": base64.b64encode(stream.getvalue()).decode()}
        outputs.append({"output_type": "display_data", "metadata": {}, "data": data})
    pyplot.close("all")
    return outputs


def page(file: Path) -> tuple[str, dict[str, bytes]]:
    """The page of the site that shows a notebook, and its images by name.

    Args:
        file: Notebook, with outputs as :func:`run` puts them.
    """
    parts: list[str] = []
    images: dict[str, bytes] = {}
    for cell in json.loads(file.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
        for output in cell.get("outputs", ()):
            if output["output_type"] == "stream":
                parts.append(f"```text\n{''.join(output['text'])}```")
                continue
            name = f"{file.stem}_{len(images)}.jpg"
            images[name] = base64.b64decode(output["data"]["image/jpeg"])
            parts.append(f'<img alt="What the cell above shows" src="{name}">')  # made with the page, so no link
    return "\n\n".join(parts) + "\n", images


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        content = json.loads(path.read_text("utf-8"))
        run(content)
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
