"""The browser that tests of pages share: Debian's Chromium or Playwright's own."""

import contextlib
import shutil
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def chromium() -> Iterator:
    """A Chromium that Playwright drives; without one the test is skipped."""
    from playwright import sync_api

    with sync_api.sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        except sync_api.Error:
            pytest.skip("no Chromium: apt-get install chromium, or playwright install chromium")
        yield opened
        opened.close()
