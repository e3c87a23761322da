"""The demo page and its REST calls, in Gradio: three tabs over one `LiveRun`.

The page needs no network: its fonts are the system's, nothing is measured, and a Content-Security-Policy keeps the
browser from loading anything from elsewhere (`guard.py`). Questions are answered one after the other.
"""

import dataclasses
import html
from collections.abc import Callable
from typing import TypeVar

import gradio as gr
from starlette.middleware import Middleware

from realm_jax.inference import fragments
from realm_jax.inference.results import Changed, Refused, Source
from realm_jax.serve import curves_and_reports
from realm_jax.serve.guard import Guard, Token
from realm_jax.serve.live import LiveRun

FONT = ("system-ui", "sans-serif")
MONO = ("ui-monospace", "monospace")
STATUS_EVERY_S = 3.0
PRIVATE = {"api_visibility": "private"}  # for the page's own events, which are no REST calls
ONE_BY_ONE = {"concurrency_limit": 1, "concurrency_id": "models"}
MOST_WAITING = 32  # requests that wait for the models; more are refused
T = TypeVar("T")


def build(run: LiveRun, token: Token) -> gr.Blocks:
    """The page of a run, to which whoever has the token may add documents."""
    name = run.workdir.config.name
    with gr.Blocks(title=f"REALM: {name}", analytics_enabled=False) as page:
        gr.Markdown(f"# REALM: {name.replace('_', ' ')}")
        now = gr.HTML()
        with gr.Tab("Ask"):
            _fill_blanks(run)
            question = _ask(run)
            _add_document(run, token)
        with gr.Tab("Training") as training:
            curves = gr.HTML()
        with gr.Tab("Evaluation") as evaluation:
            names = gr.Dropdown(label="Report", choices=[], interactive=True)
            report = gr.HTML()
        training.select(lambda: curves_and_reports.training(run.workdir), outputs=curves, **PRIVATE)
        evaluation.select(lambda: _reports(run), outputs=[names, report], **PRIVATE)
        names.input(lambda chosen: curves_and_reports.report(run.workdir, chosen or ""), names, report, **PRIVATE)
        gr.on(
            [page.load, gr.Timer(STATUS_EVERY_S).tick],
            lambda: (_status(run), *_question_box(run)),
            outputs=[now, *question],
            show_progress="hidden",
            **PRIVATE,
        )
        _rest(run, token)
    return page


def launch(page: gr.Blocks, port: int, token: Token) -> str:
    """Serves the page on loopback from a thread, and returns its address without the token.

    Args:
        port: 0 takes the first free one from 7860.

    Raises:
        OSError: the port is in use.
    """
    theme = gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=FONT, font_mono=MONO)
    _, url, _ = page.queue(default_concurrency_limit=4, max_size=MOST_WAITING, api_open=False).launch(
        server_name="127.0.0.1",
        server_port=port or None,
        theme=theme,
        css=fragments.STYLE,
        app_kwargs={"middleware": [Middleware(Guard, token=token)]},
        footer_links=["api"],
        run_history=False,
        share=False,
        ssr_mode=False,
        quiet=True,
        show_error=True,
        prevent_thread_lock=True,
    )
    return url


def _fill_blanks(run: LiveRun) -> None:
    gr.Markdown("### Fill in a blank")
    box = gr.Textbox(
        label="A sentence with [MASK]", placeholder="The capital of France is [MASK].", max_lines=6, elem_id="sentence"
    )
    if run.examples:
        gr.Examples(list(run.examples), box, label="Held-out sentences of this corpus", cache_examples=False)
    _button("Fill", box, lambda text: run.fill(text).html(), "filled")


def _ask(run: LiveRun) -> tuple[gr.Textbox, gr.Button]:
    """The box and the button for questions."""
    gr.Markdown("### Ask a question")
    box = gr.Textbox(label="A question", max_lines=6, elem_id="question")
    source = run.state.answerer_source
    if run.examples and source is not None and source.params.startswith("finetune/cloze"):
        gr.Examples(
            list(run.examples), box, label="Held-out questions of the kind it was fine-tuned on", cache_examples=False
        )
    return box, _button("Ask", box, lambda text: run.ask(text).html(), "answered")


def _button(label: str, box: gr.Textbox, answer: Callable[[str], str], shown_in: str) -> gr.Button:
    """A button that shows, below it, the answer to the text in a box."""
    button = gr.Button(label, variant="primary", elem_id=label.lower())
    found = gr.HTML(elem_id=shown_in)
    gr.on([box.submit, button.click], _or_refused(answer), box, found, **PRIVATE, **ONE_BY_ONE)
    return button


def _add_document(run: LiveRun, token: Token) -> None:
    folder = str(run.workdir.path)

    def add(title: str, text: str, request: gr.Request) -> str:
        try:
            _check(token, request)
            return added_html(run.add_document(title, text), folder)
        except Refused as error:
            return fragments.refused(str(error))

    with gr.Accordion("Add a document", open=False):
        gr.Markdown(
            f"This changes the workdir `{folder}`: the document becomes part of its corpus and of its index, for every "
            "user of it, until `realm update` takes it out."
        )
        title = gr.Textbox(label="Title", max_lines=2, elem_id="title")
        text = gr.Textbox(label="Text", lines=4, max_lines=12, elem_id="text")
        button = gr.Button("Add to the corpus", elem_id="add")
        found = gr.HTML(elem_id="added")
        button.click(add, [title, text], found, **PRIVATE, **ONE_BY_ONE)


def _check(token: Token, request: gr.Request) -> None:
    """Raises Refused without the token."""
    if not token.is_in(request.request):
        raise Refused("Documents are added by whoever has the token: open the address that realm serve printed.")


def _or_refused(answer: Callable[[str], str]) -> Callable[[str], str]:
    """The same function, but with the reason as a part of the page if it refuses to answer."""

    def call(text: str) -> str:
        try:
            return answer(text)
        except Refused as error:
            return fragments.refused(str(error))

    return call


def added_html(changed: Changed, workdir: str) -> str:
    """What was added, and how to take it out again."""
    blocks, (record_id,) = "1 block" if changed.blocks == 1 else f"{changed.blocks} blocks", changed.added
    undo = f"realm update --workdir={workdir} --delete={record_id}"
    return fragments.frame(
        [
            f"<p>Added as <code>{html.escape(record_id)}</code>: {blocks}, searchable after {changed.seconds} s in "
            f"index version <code>{html.escape(changed.version)}</code>. Now ask again.</p>",
            f'<p class="muted">To take it out: <code>{html.escape(undo)}</code></p>',
        ]
    )


def _status(run: LiveRun) -> str:
    return status_html(str(run.workdir.path), run.state.filler_source, run.state.answerer_source, run.problem)


def status_html(workdir: str, filler: Source | None, answerer: Source | None, problem: str) -> str:
    """The parameters and index versions that answers come from now."""
    parts = [f'<p class="muted">Workdir <code>{html.escape(workdir)}</code></p>']
    parts += [source.html(f"{what}: ") for what, source in (("Blanks", filler), ("Questions", answerer)) if source]
    if problem:
        parts.append(f'<p class="refused">What is newer cannot be loaded: {html.escape(problem)}</p>')
    return fragments.frame(parts)


def _question_box(run: LiveRun) -> tuple[dict, dict]:
    """Closes the box while the run is not fine-tuned, and shows the command that opens it."""
    how = run.how_to_ask
    info = f"This run is not fine-tuned yet. This opens the box, without a restart: {how}" if how else ""
    return gr.update(interactive=not how, info=info), gr.update(interactive=not how)


def _reports(run: LiveRun) -> tuple[dict, str]:
    found = curves_and_reports.reports(run.workdir)
    first = next(iter(found.values()), "")
    choices = gr.update(choices=list(found.items()), value=first or None, visible=bool(found))
    return choices, curves_and_reports.report(run.workdir, first)


def _rest(run: LiveRun, token: Token) -> None:
    """The calls for programs; see docs/demo.md."""

    def fill(sentence: str) -> dict:
        """Fills every [MASK] of a sentence."""
        return dataclasses.asdict(_or_error(lambda: run.fill(sentence)))

    def ask(question: str) -> dict:
        """Answers a question, once the run is fine-tuned."""
        return dataclasses.asdict(_or_error(lambda: run.ask(question)))

    def add_document(title: str, text: str, request: gr.Request) -> dict:
        """Adds a document to the workdir for good; needs the token."""

        def add() -> Changed:
            _check(token, request)
            return run.add_document(title, text)

        added = _or_error(add)
        values = {"blocks": added.blocks, "version": added.version, "seconds": added.seconds}
        return {"source_id": added.added[0], **values}

    def status() -> dict:
        """Which parameters and index versions answer now."""
        sources = {"fill": run.state.filler_source, "ask": run.state.answerer_source}
        named = {name: source and dataclasses.asdict(source) for name, source in sources.items()}
        return {"workdir": str(run.workdir.path), **named, "how_to_ask": run.how_to_ask, "problem": run.problem}

    for call in (fill, ask, add_document):
        gr.api(call, api_name=call.__name__, **ONE_BY_ONE)
    gr.api(status, api_name="status")


def _or_error(answer: Callable[[], T]) -> T:
    try:
        return answer()
    except Refused as error:
        raise gr.Error(str(error), print_exception=False) from error
