"""Screenshots of the demo's tabs, wide and narrow: `make screenshots`.

python -m tests.serve.screenshots --workdir=W --out=screenshots
"""

import dataclasses
import pathlib

import tyro

from realm_jax.commands import cli
from tests.serve import browser as browser_lib

WIDTHS = (1280, 390)
QUESTION = "Who was the first president of the United States?"


@dataclasses.dataclass(frozen=True)
class _Flags:
    workdir: str = ""
    """Folder of the run (default: the newest under runs/)."""
    out: str = "screenshots"
    """Folder for the pictures."""


def main() -> None:
    """Entry point."""
    flags = tyro.cli(_Flags, description="Take pictures of the demo page.")
    workdir, out = cli.existing(flags.workdir), pathlib.Path(flags.out)
    import jax

    from realm_jax.serve import page as page_lib
    from realm_jax.serve.guard import Token
    from realm_jax.serve.live import LiveRun

    jax.config.update("jax_platforms", "cpu")
    out.mkdir(parents=True, exist_ok=True)
    run, token = LiveRun(workdir), Token()
    served = page_lib.build(run, token)
    url = page_lib.launch(served, 0, token)
    sentence = run.examples[0] if run.examples else "The capital of France is [MASK]."
    with browser_lib.chromium() as browser:
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                _take(
                    browser_lib.open_page(browser, url, width, color_scheme=scheme), out, f"{width}-{scheme}", sentence
                )
    served.close()
    run.close()


def _take(page: browser_lib.Page, out: pathlib.Path, name: str, sentence: str) -> None:
    browser_lib.ask(page, "sentence", sentence)
    if page.locator("#question textarea").is_enabled():
        browser_lib.ask(page, "question", QUESTION)
    for tab, content in {"Ask": "#filled .row", "Training": ".realm svg", "Evaluation": "iframe, .realm code"}.items():
        browser_lib.show_tab(page, tab, content)
        page.wait_for_timeout(1000)  # for fonts, frames and fading colours
        file = out / f"{tab.lower()}-{name}.png"
        page.screenshot(path=file, full_page=tab != "Evaluation")  # a frame is not painted beyond the window
        print(f"written: {file}", flush=True)


if __name__ == "__main__":
    cli.run(main)
