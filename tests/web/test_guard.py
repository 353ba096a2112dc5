"""The page's guard: other sites, other names, other visitors, guesses, and requests of the wrong form."""

import json
import math
import os
import socket
import struct
import threading
import time
from functools import cache
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest
from gradio_client import Client
from PIL import Image

import celeb_basis
from celeb_basis import CelebBasis, CelebBasisError, Identity, InstantMap, miniature
from celeb_basis.limits import MAX_MESSAGE_LENGTH
from celeb_basis.web import Studio, serve
from celeb_basis.web.jobs import as_shown
from celeb_basis.web.people_tab import SLIDERS
from celeb_basis.web.visitors import GRACE

API = "gradio_api/"
JSON = {"content-type": "application/json"}
DRAWN = "image.webp"  # as Gradio calls the file of a picture that is drawn


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


@cache
def number_of(address, name, client=httpx):
    """The number of a function of the page."""
    found = client.get(f"{address}config").json()["dependencies"]
    return next(each["id"] for each in found if each["api_name"] == name)


def join(address, name, data, session="s1", client=httpx):
    body = {"fn_index": number_of(address, name, client), "data": data, "session_hash": session}
    return client.post(f"{address}{API}queue/join", content=json.dumps(body), headers=JSON)


def call(address, name, data, session):
    """Call a function of the page by hand; return its outputs, or what it says."""
    answer = join(address, name, data, session)
    if answer.status_code != 200:
        return answer.json()["detail"]
    with httpx.stream("GET", f"{address}{API}queue/data?session_hash={session}", timeout=60) as events:
        for line in events.iter_lines():
            said = json.loads(line[5:]) if line.startswith("data:") else {}
            if said.get("msg") == "process_completed":
                return said["output"].get("error") or said["output"].get("data")


def file_data(path, **more):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}, **more}


def uploaded(address, file, content, client=httpx):
    """Upload a file; return where the page keeps it."""
    [path] = client.post(f"{address}{API}upload", files={"files": (file, content)}).json()
    return path


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "[", "[::1", "]", "[zz]",
        "[127.0.0.1]x",
        "localhost:99999", "localhost:x", "localhost:-1", "me@localhost", "localhost/x", "loc alhost", "\xff",
        "a" * 999,
    ],
)  # fmt: skip
def test_a_name_of_somebody_else_is_refused(address, host):
    assert httpx.get(address, headers={"host": host.encode("latin-1")}).status_code == 421


@pytest.mark.parametrize("origin", ["null", "", "http://[", "https://", "http://127.0.0.1:99999", "\xff", "//x", ":"])
def test_an_odd_origin_is_refused(address, origin):
    answer = httpx.get(f"{address}config", headers={"origin": origin.encode("latin-1")})
    assert answer.status_code == 403


@pytest.mark.parametrize("header", ["x-forwarded-host", "x-gradio-server"])
def test_addresses_in_answers_do_not_come_from_others(address, header):
    for value in ("[", "http://[", "evil.example", "localhost:99999", "\xff"):
        answer = httpx.get(f"{address}config", headers={header: value.encode("latin-1")})
        assert answer.status_code == 200 and answer.json()["root"] == address.rstrip("/"), value


def test_addresses_in_answers_are_those_that_the_browser_calls(address):
    for given, root in (
        ({"referer": "https://faces.example:8443/"}, "https://faces.example:8443"),
        ({"origin": "http://faces.example", "x-forwarded-host": "[", "x-forwarded-proto": "x"}, "http://faces.example"),
        ({"x-forwarded-host": "faces.example", "x-forwarded-proto": "https"}, "https://faces.example"),
        ({"referer": "https://evil.example/"}, address.rstrip("/")),
    ):
        assert httpx.get(f"{address}config", headers=given).json()["root"] == root, given


@pytest.mark.parametrize("part", ["\\", '\\"', '"', ";", "=", "a=b; ", "access-token-x=y; "])
@pytest.mark.parametrize("header", ["cookie", "content-type", "origin", "range", "accept-language", "x-forwarded-host"])
def test_no_header_takes_long_to_read(address, header, part):
    value = ('a="' + part * 60_000)[:60_000]
    begun = time.monotonic()
    for path, method in (("config", "GET"), (f"{API}upload", "POST"), (f"{API}file=x", "GET")):
        assert httpx.request(method, address + path, headers={header: value}).status_code < 500
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("faces.example", "https://faces.example"),  # the proxy passes on the name under which it was called,
        ("faces.example:443", "https://faces.example"),
        ("faces.example", "https://faces.example:8443"),  # without its port,
        (None, "https://faces.example"),  # or sends the name of the page behind it
        (None, "http://faces.example:8080"),
        ("localhost:443", "https://localhost"),
        ("localhost", "http://localhost:80"),
    ],
)
def test_a_proxy_of_the_given_name_is_no_other_site(address, host, origin):
    headers = {"origin": origin, "sec-fetch-site": "same-origin"} | ({"host": host} if host else {})
    body = json.dumps({"fn_index": number_of(address, "people"), "data": [None], "session_hash": "proxied"})
    answer = httpx.post(f"{address}{API}queue/join", content=body, headers=JSON | headers)
    assert answer.status_code == 200, answer.text
    evil = {"origin": origin.replace("faces", "evil").replace("localhost", "localhost.evil")}
    assert httpx.post(f"{address}{API}queue/join", content=body, headers=JSON | headers | evil).status_code == 403


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


DRAW = ["a photo", 1, 1, 0, 0, False, 1, "", "", None, None, None]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, None),
        (1, None),
        (5, None),
        (6, None),
        (7, None),
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
    answer = join(address, "draw", data)
    assert answer.status_code == 422
    assert math.isfinite(value if isinstance(value, float) else 0) is False or "is no value for it" in answer.text


def test_the_page_draws_no_picture_that_is_too_large(address):
    answer = join(address, "draw", [*DRAW[:10], 4096, None])
    assert answer.status_code == 422 and answer.json()["detail"] == "Height: 4096 is above 2048"


def test_clicks_of_any_form_are_no_errors_of_the_page(address, capfd):
    functions = httpx.get(f"{address}config").json()["dependencies"]
    clicks = [each for each in functions if any(on[1] == "select" for on in each["targets"]) and each["backend_fn"]]
    assert len(clicks) >= 6
    blank = {"textbox": "", "number": None, "dropdown": None, "state": None}
    kinds = {each["id"]: each["type"] for each in httpx.get(f"{address}config").json()["components"]}
    for index in (-1, 0, 10**6, [0, 0], [-5, 10**9], [1, 2, 3], "x", None, [0.5, 1], True):
        for click in clicks:
            call = {"fn_index": click["id"], "data": [blank[kinds[each]] for each in click["inputs"]]}
            call |= {"session_hash": f"clicks{click['id']}", "event_data": {"index": index, "value": "x" * 999}}
            assert httpx.post(f"{address}{API}queue/join", json=call).status_code == 200
            with httpx.stream(
                "GET", f"{address}{API}queue/data?session_hash={call['session_hash']}", timeout=60
            ) as events:
                assert any("process_completed" in line for line in events.iter_lines())
    assert "Traceback" not in capfd.readouterr().err


TEXTS = [" ", "<>", "\ud800", "x" * 20_000, "<eve>_1", "{}", "../\0", "女"]
NUMBERS = [0, -1, 2**62, 1e-9, 3.7]


def test_odd_values_are_no_errors_of_the_page(address, capfd):
    for i, text in enumerate(TEXTS):
        number, other = NUMBERS[i % 5], TEXTS[i - 1]
        calls = {
            "sample": [text, number, *[number] * SLIDERS, None],
            "load": [None, text, None],
            "blend": [text, other, 0.5, text, None],
            "row": [text, None, None],
            "draw": [text, number, 1, number, number, False, number, other, text, number, number, None],
            "fit": [None, text, number, number, None, None],
            "find_face": [None, None],
            "model": [text, None, None, None],
            "rename": [text, other, None],
            "remove": [text, None],
        }
        for name, data in calls.items():
            call(address, name, data, f"odd{i}{name}")
    assert "Traceback" not in capfd.readouterr().err


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


def test_what_the_browser_does_by_itself_is_no_function(address, capfd):
    own = [each["id"] for each in httpx.get(f"{address}config").json()["dependencies"] if not each["backend_fn"]]
    for number in own:
        body = {"fn_index": number, "data": [], "session_hash": "browser"}
        for place in ("queue/join", "run/predict"):
            answer = httpx.post(f"{address}{API}{place}", json=body)
            assert answer.status_code == 422 and "no such function" in answer.json()["detail"]
    assert own and "Traceback" not in capfd.readouterr().err


def test_requests_have_a_size(address):
    for length in (2**20 + 1, 2**23):
        answer = httpx.post(f"{address}{API}queue/join", content=b" " * length)
        assert answer.status_code == 413 and answer.json()["detail"] == "a request may have 1024 kB"


def test_a_large_upload_hears_how_large_it_may_be(address):
    pieces = (bytes(2**20) for _ in range(65))  # whose length is not declared
    for content in (bytes(65 * 2**20), pieces):
        answer = httpx.post(f"{address}{API}upload", content=content, timeout=60)
        assert answer.status_code == 413 and answer.json()["detail"] == "an upload may have 64 MB"


# Files that visitors name


@pytest.fixture(params=["open", "password"])
def logged_in(request):
    """The address of a page, and a visitor who may use it."""
    with httpx.Client() as client:
        if request.param == "open":
            yield request.getfixturevalue("address"), client
        else:
            locked = request.getfixturevalue("locked")
            client.post(f"{locked}login", data={"username": "ada", "password": "sesam"})
            yield locked, client


def test_only_files_that_the_page_has_are_read(logged_in, studio, tmp_path):
    address, client = logged_in
    diary, thief = tmp_path / "diary.png", tmp_path / "thief.safetensors"
    miniature.person(4321).save(diary)
    studio.first.sample("thief").save(thief)
    own = Path(uploaded(address, "me.png", diary.read_bytes(), client))
    for name, target in (("link.png", diary), ("folder", tmp_path)):
        own.with_name(name).symlink_to(target)
    os.mkfifo(own.with_name("pipe"))
    upwards = Path(*[".."] * len(own.parts)) / str(diary)[1:]
    elsewhere = [
        diary, thief, tmp_path / "nothing.png", tmp_path, "/dev/zero", "/etc/passwd", "diary.png",
        f"{own.parent}/{upwards}", own.with_name("link.png"), own.with_name("folder") / "diary.png",
        own.with_name("pipe"), own.parent,
        own.with_name("nothing.png"), f"{own}/x", f"{own}\0", "\ud800", "/" + "x" * 4000, "x" * 300, "",
        "http://elsewhere.example/x", "file:///etc/passwd", studio.out, Path(celeb_basis.__file__),
    ]  # fmt: skip
    inputs = {
        "find_face": lambda file: [file, None],
        "fit": lambda file: [file, "ada", 0, None, None, None],
        "load": lambda file: [file, "ada", None],
        "model": lambda file: ["miniature", file, None, None],
    }
    said = set()
    for path in elsewhere:
        for name, data in inputs.items():
            answer = join(address, name, data(file_data(path)), f"files{name}", client)
            assert answer.status_code == 422, path
            said.add(answer.json()["detail"] if path else "")
        if path and "\ud800" not in str(path) and "\0" not in str(path):
            answer = client.get(f"{address}{API}file={quote(str(path), safe='')}")
            assert answer.status_code == 403 and "png" not in answer.text, path
    lines = {line for line in said if "is no value" not in line} - {""}
    assert lines == {"the page does not have this file, or not any more: upload it again"}
    more = [file_data(own), "ada", 0, None, [file_data(own), file_data(diary)], None]
    assert join(address, "fit", more, "filesfit", client).json()["detail"] in lines
    as_map = ["miniature", None, file_data(thief), None]
    assert join(address, "model", as_map, "filesmodel", client).json()["detail"] in lines
    for hidden in ({"x": file_data(diary)}, {"url": [file_data(diary)]}, {"meta": {"x": file_data(diary)}}):
        assert join(address, "find_face", [file_data(own) | hidden, None], "hidden", client).status_code == 422
    assert join(address, "find_face", [file_data(own), None], "filesfind_face", client).status_code == 200


def test_a_file_of_another_kind_is_refused_in_one_line(address, tmp_path, capfd):
    (tmp_path / "notes.txt").write_text("no face")
    notes = uploaded(address, "notes.txt", (tmp_path / "notes.txt").read_bytes())
    photo = tmp_path / "me.png"
    miniature.person(4321).save(photo)
    me = file_data(uploaded(address, "me.png", photo.read_bytes()))
    calls = {
        "load": [file_data(notes), "ada", None],
        "model": ["miniature", file_data(notes), None, None],
        "fit": [me, "ada", 0, None, [file_data(notes)], None],
        "find_face": [file_data(notes), None],
    }
    for name, data in calls.items():
        said = call(address, name, data, f"kind{name}")
        assert isinstance(said, str) and "notes.txt" in said and "\n" not in said, said
    assert "Traceback" not in capfd.readouterr().err


def test_of_a_file_its_path_alone_counts(address, tmp_path, capfd):
    miniature.person(4321).save(tmp_path / "me.png")
    own = uploaded(address, "me.png", (tmp_path / "me.png").read_bytes())
    for name, value in (("orig_name", 7), ("url", 0.5), ("size", "x"), ("mime_type", 1), ("other", "x" * 5000)):
        [[face], _, _] = call(address, "find_face", [file_data(own, **{name: value}), None], f"alone{name}")
        assert face["image"]["path"]
    assert "Traceback" not in capfd.readouterr().err


def test_what_was_not_checked_is_not_handed_on(address, tmp_path):
    body = {"fn_index": number_of(address, "people"), "data": [None], "session_hash": "extra"}
    body |= {"event_data": file_data("/dev/zero"), "trigger_id": file_data("/dev/zero"), "batched": True}
    answer = httpx.post(f"{address}{API}queue/join", content=json.dumps(body), headers=JSON)
    assert answer.status_code == 200
    assert httpx.get(f"{address}theme.css").status_code == 200


# Texts of any length


def with_header(header):
    """A safetensors file of three numbers with this header."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(12)


VECTOR = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}
LONG = "a" * 1_000_000


@pytest.mark.parametrize(
    "header",
    [
        {LONG: VECTOR},
        {LONG + "_out": VECTOR},
        {f"bundle_emb.{LONG}.clip_l": VECTOR},
        {"emb_params": VECTOR, "__metadata__": {"format": LONG, "model": LONG, "name": "/a" * 500_000}},
        {"emb_params": VECTOR | {"dtype": LONG}},
        {"emb_params": VECTOR | {"shape": [1] * 100_000}},
    ],
)
def test_no_file_makes_a_long_message(header, tmp_path):
    file = tmp_path / "long.safetensors"
    file.write_bytes(with_header(header))
    for read in (Identity.load, CelebBasis.load, InstantMap.load):
        begun = time.monotonic()
        with pytest.raises(CelebBasisError) as error:
            read(file)
        assert len(error.value.message) <= MAX_MESSAGE_LENGTH and time.monotonic() - begun < 5


def test_the_end_of_a_long_message_is_kept():
    error = CelebBasisError(f"{LONG}: do this")
    assert error.message.startswith("aaa") and error.message.endswith("a: do this")


@pytest.mark.parametrize("part", ["a", "/", "/a", "!/", "a/", "/" + "0" * 64, "'/a b", " "])
def test_what_visitors_see_takes_no_time_to_say(part):
    begun = time.monotonic()
    said = str(as_shown(part * 300_000))
    assert time.monotonic() - begun < 0.5 and len(said) < 5 * MAX_MESSAGE_LENGTH


def test_folders_of_the_server_are_not_shown():
    hashed = "/tmp/folder/" + "0" * 64
    assert as_shown(f"{hashed}/me.png: no face found").message == "me.png: no face found"
    assert as_shown(f"basis '{hashed}/a b.pt', map {hashed}/m.pt").message == "basis a b.pt', map m.pt"
    assert as_shown("cannot write (/srv/page/out/x.png)").message == "cannot write (x.png)"
    assert as_shown("no model '/nowhere/at/all'").message == "no model '/nowhere/at/all'"


def stored(studio):
    """The files that visitors have uploaded; a picture that the page still draws for one of them is none."""
    files = {file for folder in studio.uploads for file in Path(folder).rglob("*") if file.is_file()}
    return {file for file in files if file.name != DRAWN}


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


def test_what_has_to_wait_cannot_go_round_the_queue(address):
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
    answer = join(address, "find_face", [{"path": url, "meta": {"_type": "gradio.FileData"}}, None])
    assert answer.status_code == 422
    assert "elsewhere.example" not in asked


def test_models_that_were_not_offered_stay_closed(address):
    client = Client(address, verbose=False)
    for name in ("/etc", "owner/model", "../x"):
        with pytest.raises(Exception, match="this page offers miniature, portraits, offered: choose one of these"):
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
    assert (
        join(address, "draw", ["a photo", 8, 900, 0, 0, False, 1, "", "", None, None, None], "left").status_code == 200
    )
    threading.Event().wait(GRACE + 2)
    made = len(calls)
    threading.Event().wait(2)
    assert len(calls) == made


def test_one_visitor_cannot_fill_the_queue_without_a_word(address):
    answers = [
        join(address, "draw", ["a photo", 8, 900, 0, 0, False, 1, "", "", None, None, None], "many") for _ in range(20)
    ]
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
        client.predict(handle_file(tmp_path / "bomb.png"), api_name="/find_face")
    client.close()
