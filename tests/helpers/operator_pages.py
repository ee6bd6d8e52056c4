"""Pages of Prefect and MLflow as an operator reads them: in a real browser, by the texts that are seen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_MS = 120_000
"""For what hangs: two cores may be busy with other work."""
SIZE = {"width": 1500, "height": 1000}
RUN_LIST = "NLL, calibration error, AUROC"


@contextmanager
def browser_page() -> Iterator[Any]:
    """Yield a page of a real browser, or None where there is none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        yield None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(PATIENCE_MS)
        # MLflow praises a feature once, in front of everything.
        praise = page.locator("button", has_text="Got it")
        page.add_locator_handler(praise, lambda button: button.click())
        yield page
        browser.close()


def keep(page: Any, name: str) -> None:
    """Store a screenshot where ``TAUCAL_SCREENSHOTS`` names a folder."""
    if shown := os.environ.get("TAUCAL_SCREENSHOTS"):
        page.wait_for_timeout(2000)
        page.screenshot(path=str(Path(shown) / f"{name.replace(' ', '_')}.png"))


def sees(page: Any, *texts: str) -> None:
    """Wait until a page shows every text."""
    for text in texts:
        page.get_by_text(text).locator("visible=true").first.wait_for()


def open_page(page: Any, address: str) -> None:
    """Open an address, also where only what is behind ``#`` differs."""
    page.goto("about:blank")
    page.goto(address, timeout=PATIENCE_MS)


def open_until_seen(page: Any, address: str, *texts: str, attempts: int = 4) -> None:
    """Open an address, again where a text stays away: MLflow asks for an attachment once, and may miss it."""
    from playwright.sync_api import TimeoutError as StaysAway

    for left in reversed(range(attempts)):
        open_page(page, address)
        page.reload()  # what the browser holds of a request that failed is asked for again
        try:
            sees(page, *texts)
            return
        except StaysAway:
            if not left:
                raise


def open_link(page: Any, name: str) -> Any:
    """Follow a link of a description, which MLflow opens in another tab; return that."""
    with page.expect_popup() as opened:
        page.get_by_role("link", name=name, exact=True).click()
    return opened.value


def sees_inside(page: Any, text: str) -> None:
    """Wait until a page, or a file that it shows in a frame, has a text."""
    for _ in range(PATIENCE_MS // 500):
        if any(text in frame.locator("body").inner_text() for frame in page.frames):
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"{text!r} is not seen at {page.url}")
