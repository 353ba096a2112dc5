"""The page's guard: other sites, other names, other visitors, guesses, and requests of the wrong form."""

import json
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from gradio_client import Client
from PIL import Image

from celeb_basis.web import Studio, serve
from celeb_basis.web.visitors import GRACE

API = "gradio_api/"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    return Studio(tmp_path_factory.mktemp("pictures"), models=["offered"], keep=False, max_bytes=2**28)


@pytest.fixture(scope="module")
def address(studio):
    with serve(studio, domains=["faces.example"]) as address:
        yield address


@pytest.fixture(scope="module")
def locked(studio):
    with serve(studio, password="sesam", port=7990) as address:
        yield address


def number_of(address, name):
    """The number of a function of the page."""
    found = httpx.get(f"{address}config").json()["dependencies"]
    return next(each["id"] for each in found if each["api_name"] == name)


def join(address, name, data, session="s1", **more):
    body = {"fn_index": number_of(address, name), "data": data, "session_hash": session}
    return httpx.post(f"{address}{API}queue/join", content=json.dumps(body), headers=JSON, **more)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", ""])
def test_a_name_of_somebody_else_is_refused(address, host):
    assert httpx.get(address, headers={"host": host}).status_code == 421


def test_the_pages_own_names_are_known(address):
    port = address.rsplit(":", 1)[1].strip("/")
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", "[::1]", "192.168.0.7:80", "faces.example"):
        assert httpx.get(address, headers={"host": host}).status_code == 200, host


def test_another_site_may_neither_act_nor_read(address):
    evil = {"origin": "https://evil.example"}
    for method, place in (("GET", ""), ("GET", "config"), ("POST", f"{API}upload"), ("OPTIONS", f"{API}queue/join")):
        answer = httpx.request(method, address + place, headers=evil)
        assert answer.status_code == 403, place
        assert not [name for name in answer.headers if name.startswith("access-control")], place
    hidden = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert httpx.get(f"{address}logout", headers=hidden).status_code == 403
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert httpx.get(address, headers=link).status_code == 200
    own = {"origin": address.rstrip("/")}
    answer = httpx.get(f"{address}config", headers=own)
    assert answer.status_code == 200 and "access-control-allow-origin" not in answer.headers


def test_cookies_are_for_this_site_alone(address, locked):
    answers = [httpx.get(address), httpx.post(f"{locked}login", data={"username": "ada", "password": "sesam"})]
    for answer in answers:
        cookies = answer.headers.get_list("set-cookie")
        assert cookies
        for cookie in cookies:
            assert "SameSite=Strict" in cookie and "HttpOnly" in cookie and "none" not in cookie.lower()


def test_without_the_password_nothing_answers(locked):
    for place in ("cancel", "reset", "queue/join", "run/predict", "upload"):
        assert httpx.post(f"{locked}{API}{place}", json={"session_hash": "s"}).status_code == 401, place
    for place in ("info", "queue/data?session_hash=s", "heartbeat/s", "file=/etc/passwd"):
        assert httpx.get(f"{locked}{API}{place}").status_code == 401, place
    for place in ("openapi.json", f"{API}openapi.json", "docs", "monitoring", f"{API}runs", f"{API}vibe-code"):
        assert httpx.get(f"{locked}{place}").status_code == 404, place
    assert httpx.get(locked).status_code == 200


def test_guesses_become_slow_and_the_right_word_still_opens(locked):
    guess = {"username": "ada", "password": "simsala"}
    begun = time.monotonic()
    for _ in range(4):
        assert httpx.post(f"{locked}login", data=guess, timeout=30).status_code == 400
    took = time.monotonic() - begun
    assert 4 / took < 5  # guesses a second
    client = Client(locked, verbose=False, auth=("ada", "sesam"))
    assert client.predict(api_name="/people") == ([], [])
    client.close()


def test_a_session_is_its_visitors_own(address):
    with httpx.Client() as ada, httpx.Client() as eve:
        for visitor in (ada, eve):
            visitor.get(address)
        body = json.dumps({"fn_index": number_of(address, "people"), "data": [None], "session_hash": "adas"})
        assert ada.post(f"{address}{API}queue/join", content=body, headers=JSON).status_code == 200
        for stranger in (eve, httpx):
            assert stranger.post(f"{address}{API}queue/join", content=body, headers=JSON).status_code == 403
            assert stranger.get(f"{address}{API}queue/data?session_hash=adas").status_code == 403
            assert stranger.get(f"{address}{API}heartbeat/adas").status_code == 403
            cancel = {"session_hash": "adas", "fn_index": 0, "event_id": "x"}
            assert stranger.post(f"{address}{API}cancel", json=cancel).status_code == 403


DRAW = ["a photo", 1, 1, 0, 0, False, None]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, 7),
        (0, ["x"]),
        (0, "x" * 20_001),
        (1, "1"),
        (1, True),
        (3, float("nan")),
        (3, 1e300),
        (4, {}),
        (5, "x"),
        (6, {}),
    ],
)
def test_values_of_the_wrong_kind_are_refused_before_the_job(address, at, value):
    data = [*DRAW[:at], value, *DRAW[at + 1 :]]
    assert join(address, "draw", data).status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"x"', b"[" * 100_000, b"\xff",
        b'{"session_hash": 1}', b'{"session_hash": "../x"}', b'{"session_hash": "s"}',
        b'{"session_hash": "s", "fn_index": 100000, "data": []}', b'{"session_hash": "s", "fn_index": "0", "data": []}',
        b'{"session_hash": "s", "fn_index": -1, "data": []}', b'{"session_hash": "s", "fn_index": 1, "data": {}}',
    ],
)  # fmt: skip
def test_requests_of_the_wrong_form_are_refused(address, body):
    for place in ("queue/join", "run/predict", "cancel"):
        assert httpx.post(f"{address}{API}{place}", content=body).status_code == 422, place


def test_requests_have_a_size(address):
    assert httpx.post(f"{address}{API}queue/join", content=b" " * (2**20 + 1)).status_code == 413


def stored(studio):
    """The files that visitors have uploaded."""
    return {file for folder in studio.counted for file in Path(folder).rglob("*") if file.is_file()}


def form(*files, name="files", end=b"--x--\r\n"):
    """The body of an upload, and its headers."""
    head = 'content-disposition: form-data; name="{}"; filename="{}"\r\n\r\n'
    parts = [b"--x\r\n" + head.format(name, file).encode() + b"data\r\n" for file in files]
    return {"content": b"".join(parts) + end, "headers": {"content-type": "multipart/form-data; boundary=x"}}


def test_a_few_files_are_taken(address, studio):
    before = stored(studio)
    answer = httpx.post(f"{address}{API}upload", **form("a.jpg", "b ö.png"))
    assert answer.status_code == 200 and {Path(path) for path in answer.json()} == stored(studio) - before


@pytest.mark.parametrize(
    ("upload", "status"),
    [
        (form(*(f"{i}.jpg" for i in range(1000))), 413),
        (form("a.jpg", name="data"), 422),
        (form(".."), 422),
        (form(""), 422),
        (form("a.jpg", end=b"--x\r\ncontent-disposition: form-data; name=files\r\n\r\ntext\r\n--x--\r\n"), 422),
        (form("a.jpg", end=b""), 422),
        (form("a.jpg", end=b"--y--\r\n"), 422),
        ({"content": b"x" * 1000, "headers": {"content-type": "multipart/form-data; boundary=x"}}, 422),
        ({"content": b"--\r\n", "headers": {"content-type": "multipart/form-data; boundary="}}, 422),
        ({"content": b"", "headers": {"content-type": "text/plain"}}, 422),
        ({"content": b""}, 422),
    ],
)
def test_other_uploads_are_refused_before_anything_is_stored(address, studio, upload, status):
    before = stored(studio)
    answer = httpx.post(f"{address}{API}upload", **upload)
    assert answer.status_code == status and "\n" not in answer.json()["detail"]
    assert stored(studio) == before


def test_an_upload_that_breaks_off_leaves_nothing(address, studio):
    before = stored(studio)
    whole = form("a.jpg")
    host, port = urlsplit(address).hostname, urlsplit(address).port
    with socket.create_connection((host, port)) as connection:
        head = f"POST /{API}upload HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-length: 1000000\r\n"
        connection.sendall(f"{head}content-type: {whole['headers']['content-type']}\r\n\r\n".encode())
        connection.sendall(whole["content"].removesuffix(b"--x--\r\n") + b"x" * 100_000)
    assert httpx.post(f"{address}{API}upload", **form("b.jpg")).status_code == 200  # the page goes on
    assert {file.name for file in stored(studio) - before} <= {"b.jpg"}


def test_what_waits_its_turn_cannot_go_round_the_queue(address):
    body = {"fn_index": number_of(address, "draw"), "data": DRAW, "session_hash": "s1"}
    assert httpx.post(f"{address}{API}run/predict", json=body).status_code == 422
    for place in ("call/draw", "api/draw", "run/draw"):
        assert httpx.post(f"{address}{API}{place}", json={"data": DRAW}).status_code == 404


@pytest.mark.parametrize(
    "url", ["http://elsewhere.example/x", "https://elsewhere.example/x", "//elsewhere.example/x", "file:///etc/passwd"]
)
def test_no_address_is_looked_up(address, url, monkeypatch):
    asked = []
    look_up = __import__("socket").getaddrinfo
    monkeypatch.setattr("socket.getaddrinfo", lambda host, *a, **k: (asked.append(host), look_up(host, *a, **k))[1])
    for place in (f"file={url}", f"proxy={url}", f"file/{url}"):
        assert httpx.get(f"{address}{API}{place}").status_code in (403, 404)
    answer = join(address, "find_face", [{"path": url, "meta": {"_type": "gradio.FileData"}}, False, None])
    assert answer.status_code == 422
    assert "elsewhere.example" not in asked


def test_models_that_were_not_offered_stay_closed(address):
    client = Client(address, verbose=False)
    for name in ("/etc", "owner/model", "../x"):
        with pytest.raises(Exception, match="this page offers miniature, offered: choose one of these"):
            client.predict(name, None, None, api_name="/model")
    client.close()


def test_status_lines_hold_no_path_of_the_server(address, studio):
    client = Client(address, verbose=False)
    line, _ = client.predict("a photo", 1, 1, 0, 0, False, api_name="/draw")
    assert str(studio.out) not in line
    client.close()


@pytest.fixture
def calls(studio):
    """One entry for each time the model is used."""
    calls = []
    hook = studio.first.pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    yield calls
    hook.remove()


def test_a_drawing_stops_between_steps(address, calls):
    client = Client(address, verbose=False)
    job = client.submit("a photo", 1, 1000, 0, 0, False, api_name="/draw")
    while not calls:
        threading.Event().wait(0.05)
    job.cancel()
    threading.Event().wait(1)
    made = len(calls)
    threading.Event().wait(1)
    assert len(calls) == made < 900
    client.close()


def test_a_job_ends_when_its_visitor_has_left(address, calls):
    assert join(address, "draw", ["a photo", 8, 900, 0, 0, False, 1, None], "left").status_code == 200
    threading.Event().wait(GRACE + 2)
    made = len(calls)
    threading.Event().wait(2)
    assert len(calls) == made


def test_one_visitor_cannot_fill_the_queue_without_a_word(address):
    answers = [join(address, "draw", ["a photo", 8, 900, 0, 0, False, 1, None], "many") for _ in range(20)]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) > 10 and {answer.status_code for answer in refused} == {429}
    assert all(answer.json()["detail"] for answer in refused)


def test_folders_of_visitors_are_removed_and_have_a_limit(tmp_path):
    studio = Studio(tmp_path, keep=False, max_bytes=2**20)
    with serve(studio, port=7991) as address:
        client = Client(address, verbose=False)
        client.predict("eve", 0, api_name="/sample")
        assert list(tmp_path.glob("*/eve.safetensors"))
        (next(tmp_path.iterdir()) / "large").write_bytes(bytes(2**20))
        with pytest.raises(Exception, match="disk is full"):
            client.predict("bo", 0, api_name="/sample")
        upload = httpx.post(f"{address}{API}upload", files={"files": ("x.png", b"x")})
        assert upload.status_code == 507
        client.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_said_is_text_and_no_html(address):
    client = Client(address, verbose=False)
    with pytest.raises(Exception, match="nobody called &lt;nobody&gt;"):
        client.predict("a photo of <nobody>", 1, 1, 0, 0, False, api_name="/draw")
    client.close()


def test_a_long_prompt_is_refused_before_the_tokenizer(address):
    client = Client(address, verbose=False)
    with pytest.raises(Exception, match="letters long"):
        client.predict("word " * 3000, 1, 1, 0, 0, False, api_name="/draw")
    client.close()


def test_a_picture_that_unfolds_to_gigabytes_is_refused(address, tmp_path):
    from gradio_client import handle_file

    Image.new("1", (13_000, 13_000)).save(tmp_path / "bomb.png")
    client = Client(address, verbose=False)
    with pytest.raises(Exception, match="169 megapixels: scale it down"):
        client.predict(handle_file(tmp_path / "bomb.png"), False, api_name="/find_face")
    client.close()
