"""What a review of the program found once; each stays found."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
from harness import CLEAN, CONTEXT, RUNTIME, SMOLLM2, run, wait_for

CHAT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}


@pytest.mark.parametrize(
    "template",
    [
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "{{ 1" + "+1" * 30_000 + " }}",
        "{{ 1" + ".a" * 30_000 + " }}",
        "{{ " + "not " * 15_000 + "1 }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ raise_exception('x' * 99999) }}",
        "{{ [1, 2]|batch(99999999999, 'x') }}",
        "{{ 'a\\nb'|indent(2000000000) }}",
    ],
    ids=["nested lists", "a long sum", "a long chain", "many nots", "an endless loop", "a long refusal", "batch", "indent"],
)
def test_a_hostile_template_is_an_error_and_the_server_goes_on(start, tmp_path, template):
    path = tmp_path / "t.jinja"
    path.write_text(template)
    server = start(RUNTIME, "-m", SMOLLM2, "-c", "512", "--chat-template-file", path, ready=None)
    if not settled(server, "/health"):
        # Refused when it was loaded: the page says why.
        assert "template" in server.get("/health").error["message"]
        return
    begun = time.monotonic()
    answer = server.post("/v1/chat/completions", CHAT)
    assert answer.status in (200, 400, 500) and len(answer.body) < 5000
    assert time.monotonic() - begun < 15
    assert server.post("/v1/completions", {"prompt": "Hi", "max_tokens": 2}).status == 200


def settled(server, path: str) -> bool:
    """Waits until the model is loaded, or was refused; whether it answers."""

    def state():
        try:
            answer = server.get(path)
        except OSError:
            return None
        return answer if answer.status == 200 or answer.error["type"] == "no_weights" else None

    answer = wait_for(state, 30)
    assert answer and server.process.poll() is None, server.log
    return answer.status == 200


def test_a_refused_request_is_answered_before_its_body(server):
    with server.socket(timeout=5) as s:
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 30000000\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.1 403 ")


def test_a_prompt_far_larger_than_the_context_is_refused_without_being_read_into_tokens(server):
    begun = time.monotonic()
    answer = server.post("/v1/completions", {"prompt": "a" * 20_000_000, "max_tokens": 1})
    assert answer.status == 400 and answer.json()["error"]["type"] == "exceed_context_size_error"
    assert answer.json()["error"]["n_ctx"] == CONTEXT
    assert time.monotonic() - begun < 5


def test_a_disconnect_is_seen_although_a_stray_byte_followed_the_request(server):
    body = json.dumps(CHAT | {"max_tokens": 1900, "logit_bias": {"2": -100, "0": -100}}).encode()
    with server.socket() as s:
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        time.sleep(0.3)
        s.sendall(b"\r\n")
        time.sleep(0.2)
    begun = time.monotonic()
    assert server.post("/v1/chat/completions", CHAT).status == 200
    assert time.monotonic() - begun < 3


def test_a_client_of_http_1_0_gets_a_stream_without_chunks(server):
    body = json.dumps(CHAT | {"stream": True}).encode()
    with server.socket() as s:
        s.sendall(b"POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        data = b""
        while part := s.recv(65536):
            data += part
    head, _, rest = data.partition(b"\r\n\r\n")
    assert b"chunked" not in head and rest.startswith(b"data: {") and rest.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    "field",
    [
        {"response_format": {"type": "xml"}},
        {"response_format": {"type": 5}},
        {"stream": True, "stream_options": {"include_usage": "yes"}},
        {"tool_choice": "required"},
        {"logit_bias": {"99999999": 1}},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
    ],
    ids=str,
)
def test_what_would_be_ignored_in_silence_is_refused(server, field):
    assert server.post("/v1/chat/completions", CHAT | field).status == 400


def test_an_empty_streamed_prompt_is_refused_before_the_stream(server):
    assert server.post("/v1/completions", {"prompt": "", "stream": True}).status == 400


@pytest.mark.parametrize("key", ["", " ", ","])
def test_an_empty_api_key_does_not_open_the_server(key):
    done = run(RUNTIME, "-m", SMOLLM2, "--nobrowser", "--api-key", key, ok=False)
    assert done.returncode == 2 and "--api-key" in done.stderr


def test_an_unknown_template_name_is_not_taken_for_a_template():
    done = run(RUNTIME, "-m", SMOLLM2, "--chat-template", "vicuña", "-p", "x", ok=False)
    assert done.returncode == 2 and "--chat-template" in done.stderr


def test_a_device_without_end_is_no_prompt():
    done = run(RUNTIME, "-m", SMOLLM2, "-f", "/dev/zero", ok=False)
    assert done.returncode == 1 and "/dev/zero" in done.stderr


def test_an_answer_that_is_lost_is_a_failure():
    done = subprocess.run(
        ["sh", "-c", f"'{RUNTIME}' -m '{SMOLLM2}' -p Hi -n 3 > /dev/full"], env=CLEAN, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "stdout" in done.stderr and "panicked" not in done.stderr


def test_a_benchmark_of_absurd_counts_is_refused():
    for flag in ("-p", "-n", "-d"):
        assert run(RUNTIME, "bench", "-m", SMOLLM2, flag, "4294967296", ok=False).returncode == 2


def test_a_page_folder_serves_no_links_and_names_with_spaces(start, tmp_path):
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("<p>mine")
    (page / "my style.css").write_text("p{}")
    (page / "out.txt").symlink_to("/etc/passwd")
    server = start(RUNTIME, "-m", SMOLLM2, "-c", "512", "--path", page, "--api-prefix", "/a", ready=None)
    assert settled(server, "/a/health")
    assert server.get("/a/").body.startswith(b"<p>mine")
    assert server.get("/a").status == 308
    assert server.get("/a/my%20style.css").status == 200
    assert server.get("/a/out.txt").status == 404
