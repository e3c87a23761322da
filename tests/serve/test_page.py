"""The page and its REST calls, served: by programs as docs/demo.md says, and in headless Chromium without a network."""

import pathlib
import re
import subprocess
import sys
import threading

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from realm_jax.serve import live, page
from realm_jax.serve.guard import Token
from tests.serve import browser as browser_lib
from tests.tuned import finetune_by_hand

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTED = (REPOSITORY / "docs" / "demo.md").read_text()
PLACE = "http://127.0.0.1:7860"
SENTENCE = "The river [MASK] flows into the sea."
HOSTILE = """<img src=x onerror="document.title='hacked'"> ${document.title='hacked'} {{value}} </textarea><script>"""


class Served:
    """A run with its page."""

    def __init__(self, workdir):
        self.run, self.token = live.LiveRun(workdir), Token()
        self._page = page.build(self.run, self.token)
        self.url = page.launch(self._page, 0, self.token).rstrip("/")

    def close(self) -> None:
        self._page.close()
        self.run.close()


@pytest.fixture(scope="module")
def served(tuned_run, tmp_path_factory, copy_run):
    """The page of a fine-tuned run, which tests may add to."""
    found = Served(copy_run(tuned_run, tmp_path_factory.mktemp("runs") / "served"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def client(served):
    return client_with(served.url, served.token.value)


def client_with(url: str, token: str) -> Client:
    return Client(url, verbose=False, analytics_enabled=False, headers={"Authorization": f"Bearer {token}"})


def test_programs_fill_and_ask(served, client):
    filled = client.predict(SENTENCE, api_name="/fill")
    direct = served.run.fill(SENTENCE)
    assert filled["null_share"] == pytest.approx(direct.null_share)
    assert [block["source_id"] for block in filled["blocks"]] == [block.source_id for block in direct.blocks]
    assert filled["source"]["version"] == direct.source.version
    answers = client.predict("Who?", api_name="/ask")["answers"]
    assert [answer["answer"] for answer in answers] == [a.answer for a in served.run.ask("Who?").answers]
    status = client.predict(api_name="/status")
    assert status["ask"]["params"] == "finetune/cloze, step 1" and status["how_to_ask"] == ""


def test_programs_are_told_what_is_wrong(client):
    for text, said in (("", "Write a sentence"), ("none here", r"no \[MASK\]")):
        with pytest.raises(AppError, match=said):
            client.predict(text, api_name="/fill")
    with pytest.raises(AppError, match="Write the text"):
        client.predict("title", " ", api_name="/add_document")
    for call in ("/fill", "/ask"):
        with pytest.raises(AppError, match="has 20,006 characters and at most 20,000 are taken"):
            client.predict("x" * 20_000 + "[MASK]", api_name=call)


def test_without_the_token_nothing_is_added(served):
    before = served.run.state.version.name
    with pytest.raises(AppError, match="added by whoever has the token"):
        client_with(served.url, "another").predict("Title", "Text of it.", api_name="/add_document")
    assert served.run.state.version.name == before


def test_only_documented_calls_are_public(client):
    named = set(client.view_api(return_format="dict", print_info=False)["named_endpoints"])
    assert named == {"/fill", "/ask", "/add_document", "/status"}
    assert all(f"`{name}`" in DOCUMENTED for name in named)


def documented(language: str) -> str:
    (block,) = re.findall(rf"```{language}\n(.*?)```", DOCUMENTED, flags=re.DOTALL)
    assert PLACE in block
    return block


def test_the_documented_shell_commands_work(served):
    script = documented("bash").replace(PLACE, served.url)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "event: complete" in done.stdout and '"null_share"' in done.stdout, done.stderr


def test_the_documented_program_works(served):
    script = documented("python").replace(PLACE, served.url)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and served.run.state.filler_source.version in done.stdout, done.stderr[-2000:]


def test_a_port_in_use_is_an_error(served):
    with pytest.raises(OSError, match="port"):
        page.launch(page.build(served.run, Token()), int(served.url.rsplit(":", 1)[1]), Token())


@pytest.fixture(scope="module")
def browser():
    with browser_lib.chromium() as found:
        yield found


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(served, browser):
    asked, complaints = [], []
    user = browser.new_context().new_page()
    user.on("request", lambda request: asked.append(request.url))
    user.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    user.goto(served.url)
    user.wait_for_selector("#fill")
    browser_lib.ask(user, "sentence", SENTENCE)
    for name, content in (("Training", ".realm table"), ("Evaluation", ".realm code")):
        browser_lib.show_tab(user, name, content)
    assert asked and not [url for url in asked if not url.startswith((served.url, "data:", "blob:"))]
    assert not complaints


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_answers_are_shown_at_any_width(served, browser, width):
    user = browser_lib.open_page(browser, served.url, width)
    said = browser_lib.ask(user, "sentence", SENTENCE)
    assert "p(z|x)" in said and "null block" in said and "index version" in said
    assert browser_lib.ask(user, "question", "Who crossed the river?")
    assert user.locator("#answered mark").count() >= 2  # the answer, and in its block
    for name, content in (("Training", ".realm table"), ("Evaluation", ".realm code"), ("Ask", "#filled .row")):
        browser_lib.show_tab(user, name, content)
        assert user.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_what_people_type_is_survived(served, browser):
    user = browser_lib.open_page(browser, f"{served.url}/?token={served.token.value}")
    title = user.title()
    assert "Write a sentence" in browser_lib.ask(user, "sentence", "")
    assert "no [MASK]" in browser_lib.ask(user, "sentence", "no blank")
    assert "Blank 2" in browser_lib.ask(user, "sentence", "[MASK] and [MASK]")
    assert "wordpieces were read" in browser_lib.ask(user, "sentence", "river " * 1700 + "[MASK]")
    for text in ("[MASK] 日本の首都", "عاصمة [MASK]", "🙂 [MASK]"):
        assert "vocabulary lacks" in browser_lib.ask(user, "sentence", text)
    assert "Write a question" in browser_lib.ask(user, "question", " ")
    assert "wordpieces were read" in browser_lib.ask(user, "question", "why " * 2500)
    assert HOSTILE[:12] in browser_lib.ask(user, "sentence", f"[MASK] {HOSTILE}")
    browser_lib.ask(user, "question", HOSTILE)
    user.get_by_text("Add a document").click()
    user.locator("#title textarea").fill(HOSTILE[:18])
    user.locator("#text textarea").fill(f"{HOSTILE} The Quorvath Bridge was opened by Queen Maud.")
    user.locator("#add").click()
    user.wait_for_selector("#added .realm", timeout=60_000)
    assert "Added as" in user.locator("#added").inner_text()
    browser_lib.ask(user, "question", "Who opened the Quorvath Bridge?")
    assert user.title() == title and not user.locator("#answered img, #filled img").count()
    other = browser_lib.open_page(browser, served.url)  # in a context of its own, without the token
    other.get_by_text("Add a document").click()
    other.locator("#text textarea").fill("A text.")
    other.locator("#add").click()
    other.wait_for_selector("#added .refused", timeout=60_000)
    assert "whoever has the token" in other.locator("#added").inner_text()


@pytest.mark.slow
def test_two_users_and_a_swap_at_once(served, browser):
    users = [browser_lib.open_page(browser, served.url) for _ in range(2)]
    before = served.run.state.filler_source.version
    swap = threading.Thread(target=served.run.add_document, args=("Zorn", "The river Zorn is long."))
    swap.start()
    for user in users:
        user.locator("#sentence textarea").fill(SENTENCE)
        user.locator("#fill").click()
    for user in users:
        user.wait_for_selector("#filled .row", timeout=60_000)
    swap.join()
    version = served.run.state.filler_source.version
    assert version != before and version in browser_lib.ask(users[0], "sentence", SENTENCE)


@pytest.mark.slow
def test_questions_open_once_the_run_is_fine_tuned(pretrained_run, tmp_path, copy_run, browser):
    workdir = copy_run(pretrained_run, tmp_path / "run")
    served = Served(workdir)
    try:
        user = browser_lib.open_page(browser, served.url)
        user.wait_for_selector("#question textarea:disabled")
        command = f"realm finetune --workdir={workdir.path} --dataset=cloze"
        assert command in user.locator("#question").inner_text() and user.locator("#ask").is_disabled()
        finetune_by_hand(workdir)
        user.wait_for_selector("#question textarea:enabled", timeout=120_000)
        assert "finetune/cloze" in browser_lib.ask(user, "question", "Who?")
        assert "not fine-tuned" not in user.locator("#question").inner_text()
    finally:
        served.close()
