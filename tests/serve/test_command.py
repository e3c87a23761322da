"""`realm serve` as a process of its own, asked with raw requests: its token, wrong types, large texts."""

import contextlib
import http.client
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request

import pytest


@pytest.fixture(scope="module")
def address(pretrained_run, tmp_path_factory, copy_run):
    """The address with its token, as it is printed."""
    workdir = copy_run(pretrained_run, tmp_path_factory.mktemp("runs") / "served")
    command = [sys.executable, "-m", "realm_jax", "serve", f"--workdir={workdir.path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = next((line for line in process.stdout if "token=" in line), "")
        assert (found := re.search(r"demo: (http://127\.0\.0\.1:\d+)/\?token=(\S+) ", line)), line
        yield found.groups()
        process.terminate()


JSON_TYPE = {"Content-Type": "application/json"}


def call(url: str, name: str, *values, token: str = "") -> str:
    """What a call ends with: the event and its data."""
    headers = {**JSON_TYPE, **({"Authorization": f"Bearer {token}"} if token else {})}
    place = f"{url}/gradio_api/call/{name}"
    request = urllib.request.Request(place, json.dumps({"data": values}).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{place}/{event}", timeout=60) as answer:
        return answer.read().decode()


def test_a_call_of_the_wrong_type_is_told_what_is_wanted(address):
    assert "event: complete" in call(address[0], "fill", "The river [MASK].")
    for wrong in (7, ["[MASK]"], {"a": "[MASK]"}, None):
        said = call(address[0], "fill", wrong)
        assert "event: error" in said and f"A text is wanted, and {type(wrong).__name__} came" in said


def test_large_texts_cost_nothing(address):
    assert "has 500,006 characters and at most 20,000" in call(address[0], "fill", "x" * 500_000 + "[MASK]")
    with contextlib.closing(http.client.HTTPConnection(address[0].removeprefix("http://"), timeout=60)) as connection:
        connection.putrequest("POST", "/gradio_api/call/fill")
        connection.putheader("Content-Length", str(200 << 20))
        connection.endheaders()
        assert connection.getresponse().status == 413  # before any of it is sent


@pytest.mark.parametrize("path", ["run/fill", "api/fill"])
def test_no_call_goes_past_the_queue(address, path):
    request = urllib.request.Request(
        f"{address[0]}/gradio_api/{path}", json.dumps({"data": ["A [MASK]."]}).encode(), JSON_TYPE
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    assert 400 <= refused.value.code < 500


def test_who_has_the_token_adds(address):
    url, token = address
    document = ("Quorvath Bridge", "The Quorvath Bridge was opened in 2031.")
    assert "whoever has the token" in call(url, "add_document", *document)
    assert "event: complete" in call(url, "add_document", *document, token=token)
    request = urllib.request.Request(f"{url}/gradio_api/upload", b"x" * 100, {"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=60)
