"""Who may ask, and what hostile bytes can do: nothing, and soon."""

from __future__ import annotations

import json
import re
import socket
import threading
import time

import pytest
from harness import Server, read_all, wait_for

CHAT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}


def request(server, target="/health", method="GET", host=None, headers=(), body=b"") -> bytes:
    """A request as bytes, with any `Host` (`b""`: none)."""
    host = f"127.0.0.1:{server.port}" if host is None else host
    lines = [f"{method} {target} HTTP/1.1", *([f"Host: {host}"] if host else []), "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def status_of(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
    return int(answer.split()[1])


def headers_of(answer: bytes) -> str:
    return answer.split(b"\r\n\r\n")[0].decode().lower()


# ---- connections that never finish: opened first, looked at last, for each takes its whole time


class Slow:
    """A connection that sends something every second or nothing at all, until the server closes it."""

    def __init__(self, server: Server, first: bytes, drip: bytes = b"") -> None:
        self.answer, self.seconds = b"", None
        self.connection = server.socket(timeout=90)
        self.start = time.monotonic()
        self.connection.sendall(first)
        self.thread = threading.Thread(target=self.watch, args=(drip,), daemon=True)
        self.thread.start()

    def watch(self, drip: bytes) -> None:
        self.connection.settimeout(1)
        while time.monotonic() - self.start < 80:
            try:
                if drip:
                    self.connection.sendall(drip)
                part = self.connection.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            if not part:
                break
            self.answer += part
        self.seconds = time.monotonic() - self.start
        self.connection.close()

    def closed_after(self) -> float:
        self.thread.join(85)
        return self.seconds


@pytest.fixture(scope="module", autouse=True)
def slow(server) -> dict[str, Slow]:
    post = request(server, "/v1/chat/completions", "POST", headers=["Content-Length: 1000"])
    return {
        "silent": Slow(server, b""),
        "half a head": Slow(server, b"GET /health HTTP/1.1\r\nHo"),
        "a head that drips": Slow(server, b"GET /health HTTP/1.1\r\n", drip=b"X"),
        "no body": Slow(server, post),
        "half a body": Slow(server, post + b'{"messages"'),
    }


# ---- who may ask


def test_own_names_are_answered(server):
    for host in (f"127.0.0.1:{server.port}", f"localhost:{server.port}", f"LOCALHOST:{server.port}", f"[::1]:{server.port}"):
        assert status_of(server.raw(request(server, host=host))) == 200, host


@pytest.mark.parametrize("target", ["/", "/health", "/v1/models", "/chat.js"])
def test_another_host_name_is_refused_everywhere(server, target):
    for host in ("evil.example", f"evil.example:{server.port}", f"127.0.0.1.evil.example:{server.port}", "192.168.1.5", ""):
        answer = server.raw(request(server, target, host=host))
        assert status_of(answer) in (400, 403) if host == "" else status_of(answer) == 403, host
        assert b"tealight" not in answer.split(b"\r\n\r\n", 1)[1] or b"error" in answer


def test_two_host_names_are_refused(server):
    answer = server.raw(request(server, headers=["Host: evil.example"]))
    assert status_of(answer) in (400, 403)


def test_another_origin_is_refused(server):
    foreign = ["http://evil.example", "null", f"http://localhost:{server.port + 1}", "https://127.0.0.1.evil.example", "file://"]
    for origin in foreign:
        for method, path in (("POST", "/v1/chat/completions"), ("GET", "/props"), ("GET", "/v1/models")):
            answer = server.ask(method, path, CHAT if method == "POST" else None, {"Origin": origin})
            assert answer.status == 403, (origin, path)
            assert not any(name.startswith("access-control") for name in answer.headers)
    for own in (server.url, f"http://localhost:{server.port}"):
        host = own.removeprefix("http://")
        assert server.ask("POST", "/v1/chat/completions", CHAT, {"Origin": own, "Host": host}).status == 200


def test_a_preflight_gets_no_permission(server):
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = server.ask("OPTIONS", "/v1/chat/completions", None, headers)
    assert answer.status in (403, 404, 405)
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_a_stranger_is_refused_before_the_body_is_read(server):
    """Else any web page could make the server hold as much memory as it has connections."""
    head = request(server, "/v1/chat/completions", "POST", headers=["Content-Length: 30000000", "Origin: http://evil.example"])
    with server.socket(timeout=5) as connection:
        connection.sendall(head)
        assert status_of(connection.recv(65536)) == 403


def test_the_page_has_a_strict_policy_and_nothing_is_shared_across_origins(server):
    for path in ("/", "/chat.js", "/health", "/v1/models", "/nothing"):
        headers = server.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert not any(name.startswith("access-control") for name in headers), path
    policy = server.get("/").headers["content-security-policy"]
    directives = {name: values for name, *values in (part.split() for part in policy.split(";") if part.strip())}
    assert directives["default-src"] in (["'none'"], ["'self'"])
    assert directives["script-src"] == ["'self'"]
    assert directives["connect-src"] == ["'self'"]
    assert directives["frame-ancestors"] == ["'none'"]
    assert directives["base-uri"] == ["'none'"]
    assert directives["form-action"] in (["'none'"], ["'self'"])
    assert not re.search(r"unsafe|\*|https?:", policy), policy
    assert server.get("/").headers["referrer-policy"] == "no-referrer"


def test_a_key_is_asked_for_the_api_and_not_for_the_page(bundle, start):
    server = start(bundle, "-c", "512", "--api-key", "correct horse,second")
    for path in ("/", "/chat.js", "/health"):
        assert server.get(path).status == 200, path
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "correct horse"}, {"X-Api-Key": "correct hors"}):
        for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/props"), ("POST", "/tokenize")):
            answer = server.ask(method, path, CHAT if method == "POST" else None, headers)
            assert answer.status == 401, (path, headers)
            assert answer.error["type"] == "authentication_error"
    for headers in ({"Authorization": "Bearer correct horse"}, {"X-Api-Key": "second"}):
        assert server.ask("POST", "/v1/chat/completions", CHAT, headers).status == 200
    assert "correct horse" not in server.log


def test_a_key_can_come_from_the_environment_or_a_file(bundle, start, tmp_path):
    server = start(bundle, "-c", "512", env={"LLAMA_API_KEY": "from-environment"})
    assert server.get("/props").status == 401
    assert server.get("/props", X_Api_Key="from-environment").status == 200
    keys = tmp_path / "keys"
    keys.write_text("# a comment\nfrom-file\n")
    server = start(bundle, "-c", "512", "--api-key-file", keys)
    assert server.get("/props", X_Api_Key="# a comment").status == 401
    assert server.get("/props", X_Api_Key="from-file").status == 200


# ---- bodies


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"not json", b"[]", b"null", b'"text"', b'{"messages": [}', b'{"messages":[]} x', b"\xff\xfe{}", b'{"messages": "\xc3("}', b"\x00" * 100],
)
def test_a_body_that_is_not_a_json_object_is_400(server, body):
    for path in ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize", "/render"):
        answer = server.post(path, body)
        assert answer.status == 400, (path, body)
        assert answer.error["message"]


def test_half_an_escaped_character_is_refused_or_replaced_and_never_a_crash(server):
    body = b'{"messages":[{"role":"user","content":"\\ud83d"}],"max_tokens":1}'
    assert server.post("/v1/chat/completions", body).status in (200, 400)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"messages":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"messages":[{"role":"user","content":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
    ],
    ids=["arrays", "objects", "in messages", "in content"],
)
def test_deep_nesting_is_400(server, body):
    assert server.post("/v1/chat/completions", body).status == 400


def test_deep_markdown_is_rendered_or_refused(server):
    for text in ("> " * 50_000 + "x", "[" * 50_000, "*" * 50_000, "- " * 20_000, "$" + "{" * 50_000 + "$", "`" * 50_000, "<" * 50_000):
        start = time.monotonic()
        assert server.post("/render", {"text": text}).status in (200, 400), text[:4]
        assert time.monotonic() - start < 5, text[:4]


def test_a_body_said_to_be_too_large_is_413_at_once(server):
    for length in (10**9, 10**12, 2**63, 2**64 + 1):
        head = request(server, "/v1/chat/completions", "POST", headers=[f"Content-Length: {length}"])
        with server.socket(timeout=5) as connection:
            connection.sendall(head)
            assert status_of(connection.recv(65536)) in (400, 413), length


def test_a_chunked_body_is_read_and_a_too_large_one_is_413(server):
    head = request(server, "/tokenize", "POST", headers=["Transfer-Encoding: chunked"])
    assert status_of(server.raw(head + b'c\r\n{"content":"\r\n4\r\nabc"\r\n1\r\n}\r\n0\r\n\r\n')) == 200
    with server.socket(timeout=20) as connection:
        connection.sendall(head)
        chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        try:
            for _ in range(100):
                connection.sendall(chunk)
        except OSError:
            pass  # refused while we were still sending
        answer = read_all(connection)
    assert status_of(answer) == 413


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: -1"],
        ["Content-Length: 0x10"],
        ["Content-Length: +5"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Bad Header: x"],
        [": no name"],
    ],
    ids=lambda headers: " & ".join(headers),
)
def test_contradictory_or_malformed_headers_are_400(server, headers):
    assert status_of(server.raw(request(server, "/tokenize", "POST", headers=headers, body=b"{}123"))) == 400


@pytest.mark.parametrize("size", ["zz", "-1", "fffffffffffffffff", ""])
def test_a_bad_chunk_size_is_refused(server, size):
    head = request(server, "/tokenize", "POST", headers=["Transfer-Encoding: chunked"])
    with server.socket(timeout=10) as connection:
        connection.sendall(head + size.encode() + b"\r\n{}\r\n0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
    assert status_of(answer) == 400


def test_a_head_without_end_is_refused(server):
    with server.socket(timeout=10) as connection:
        try:
            connection.sendall(b"GET / HTTP/1.1\r\n" + b"X-Filler: " + b"y" * 300_000)
        except OSError:
            pass
        answer = read_all(connection)
    assert status_of(answer) == 431


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01\x00" * 10, b"\x00" * 1000, b"HELLO\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 100 + b"x\r\n\r\n"])
def test_what_is_not_http_is_refused(server, garbage):
    with server.socket(timeout=15) as connection:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
    assert status_of(answer) == 400


@pytest.mark.parametrize(
    "target", ["/../../../etc/passwd", "/..%2f..%2fetc/passwd", "/%2e%2e/etc/passwd", "//etc/passwd", "/web/../../x", "/.args", "/manifest.json", "/\\..\\x", "/%00", "/" + "a" * 5000]
)
def test_no_path_leads_out_of_the_page(server, target):
    answer = server.raw(request(server, target))
    assert status_of(answer) in (400, 404)
    assert b"root:" not in answer


# ---- many


def test_two_hundred_idle_connections_do_not_keep_the_server_from_answering(server):
    idle = [server.socket() for _ in range(200)]
    try:
        start = time.monotonic()
        assert server.get("/health").status == 200
        assert server.chat("Hi", max_tokens=1)["choices"]
        assert time.monotonic() - start < 3
    finally:
        for connection in idle:
            connection.close()


def test_memory_stays_bounded_under_bad_requests(server):
    server.chat("Hi", max_tokens=1)
    before = server.status("RssAnon")
    big = json.dumps({"messages": [{"role": "user", "content": "x" * 2_000_000}]}).encode()
    for _ in range(8):
        assert server.post("/v1/chat/completions", big).status == 400
        assert server.post("/v1/chat/completions", big[:-3]).status == 400
        server.post("/render", b"[" * 1_000_000)
    assert server.status("RssAnon") - before < 96 << 20


# ---- the slow ones, opened at the beginning


def test_others_are_answered_while_requests_never_finish(server, slow):
    start = time.monotonic()
    assert server.chat("Hi", max_tokens=1)["choices"]
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(("which", "seconds"), [("silent", 10), ("half a head", 10), ("a head that drips", 10), ("no body", 30), ("half a body", 30)])
def test_a_request_that_never_finishes_is_closed_in_time(slow, which, seconds):
    connection = slow[which]
    assert seconds - 2 < connection.closed_after() < seconds + 5
    if which == "silent":
        assert connection.answer == b"", "nobody has asked anything"
    else:
        assert status_of(connection.answer) == 408


def test_the_server_is_as_before_after_all_this(server):
    assert wait_for(lambda: server.busy(0.3) < 0.15, 10)
    assert server.chat("Say hello.")["choices"][0]["message"]["content"]
    assert "panicked" not in server.log
