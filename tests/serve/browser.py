"""Debian's Chromium, driven by Playwright: for the tests of the page and for its screenshots."""

import contextlib
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, Page, sync_playwright


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser."""
    path = shutil.which("chromium")
    assert path, "no chromium: run make chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(browser: Browser, url: str, width: int = 1280, **settings) -> Page:
    """A user's page, loaded."""
    page = browser.new_context(viewport={"width": width, "height": 900}, **settings).new_page()
    page.goto(url)
    page.wait_for_selector("#fill")
    page.wait_for_selector(".realm")  # the first line on where answers come from
    return page


def ask(page: Page, kind: str, text: str) -> str:
    """Puts a text into the box for a `sentence` or `question` and returns what the page says, as its reader sees it."""
    button, answer = {"sentence": ("#fill", "#filled"), "question": ("#ask", "#answered")}[kind]
    page.evaluate(f"document.querySelector('{answer} .realm')?.remove()")
    page.locator(f"#{kind} textarea").fill(text)
    page.locator(button).click()
    page.wait_for_selector(f"{answer} .realm", timeout=60_000)
    return page.locator(answer).inner_text()


def show_tab(page: Page, name: str, content: str) -> None:
    """Opens a tab and waits for what it shows."""
    page.get_by_role("tab", name=name).click()
    page.wait_for_selector(content, timeout=60_000)
