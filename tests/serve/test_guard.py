"""What is refused before Gradio sees it, and the token's cookie, with raw requests to an application that says yes."""

import urllib.parse

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from realm_jax.serve.guard import MOST_BYTES, POLICY, Guard, Token

TOKEN = Token()


async def say_yes(request: Request) -> PlainTextResponse:
    said = "may add" if TOKEN.is_in(request) else "yes"
    return PlainTextResponse(f"{said} {len(await request.body())}")


@pytest.fixture
def client():
    routes = [Route("/{path:path}", say_yes, methods=["GET", "POST"])]
    app = Starlette(routes=routes, middleware=[Middleware(Guard, token=TOKEN)])
    return TestClient(app, base_url="http://127.0.0.1:7860")


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost", "localhost:8000", "[::1]:7860", "LOCALHOST:1"])
def test_this_machine_is_answered(client, host):
    answer = client.get("/", headers={"Host": host})
    assert (answer.status_code, answer.text) == (200, "yes 0")
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert client.post("/call", content=b"abc", headers={"Host": host, "Origin": f"http://{host}"}).text == "yes 3"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:7860", "10.0.0.2", "[::1", ""]
)
def test_other_names_are_refused(client, host):
    for call in (client.get, client.post):
        answer = call("/gradio_api/call/add_document", headers={"Host": host})
        assert answer.status_code == 403 and "127.0.0.1 and localhost alone" in answer.text


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:9999", "null", "http://localhost:7860", "", "http://["]
)
def test_pages_of_others_are_refused(client, origin):
    answer = client.post("/gradio_api/call/fill", headers={"Origin": origin})
    assert answer.status_code == 403 and "other sites" in answer.text


def test_what_pages_of_others_show_is_not_fetched_here(client):
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert client.get("/gradio_api/file=https://evil.example/x", headers=foreign).status_code == 403
    assert client.get("/", headers=foreign).text == "yes 0"  # a link


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/process_recording",
        "/component_server",
        "/gradio_api/upload",
        "/upload",
        "/gradio_api/upload/",
        "/gradio_api/upload?id=1",
    ],
)
def test_nothing_is_uploaded(client, path):
    assert client.post(path, files={"files": b"x"}).status_code == 403


def test_requests_are_small_and_say_how_large_they_are(client):
    assert client.post("/call", content=b"x" * MOST_BYTES).text == f"yes {MOST_BYTES}"
    assert client.post("/call", content=b"x" * (MOST_BYTES + 1)).status_code == 413
    assert client.post("/call", content=iter([b"x"] * 3)).status_code == 411  # in chunks
    assert client.post("/call", content=b"x", headers={"Content-Length": "-1"}).status_code == 411
    both = {"Content-Length": "10", "Transfer-Encoding": "chunked"}
    assert client.post("/call", content=b"x", headers=both).status_code == 411


def test_the_address_with_the_token_lets_a_browser_add(client):
    assert "Set-Cookie" not in client.get("/", params={"token": "another"}).headers
    assert client.get("/").text == "yes 0"
    cookie = client.get(f"/?token={urllib.parse.quote(TOKEN.value)}").headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert client.post("/call").text == "may add 0"  # the client keeps cookies
    (name,) = client.cookies
    client.cookies.clear()
    client.cookies.set(name, Token().value)  # of another run
    assert client.post("/call").text == "yes 0"


@pytest.mark.parametrize("given", ["Bearer TOKEN", "TOKEN", "Bearer x", "", "Bearer é"])
def test_programs_send_it_in_a_header(client, given):
    answer = client.post("/call", headers={"Authorization": given.replace("TOKEN", TOKEN.value).encode()})
    assert answer.text == ("may add 0" if "TOKEN" in given else "yes 0")
