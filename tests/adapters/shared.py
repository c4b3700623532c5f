"""Reference vectors of the original code, which lie beside the repository where they are at all."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"
needs_shared = pytest.mark.skipif(not (SHARED / "fixtures").is_dir(), reason="no reference vectors in ../shared")
