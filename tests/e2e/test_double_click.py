"""Started without a terminal: what a person sees. And how programs end."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import CLEAN, RUNTIME, SMOLLM2, free_port, proc, run, wait_for

# A browser that asks for the page as browsers do, and keeps what it got.
BROWSER = """#!{python}
import http.client, sys, urllib.parse
url = urllib.parse.urlsplit(sys.argv[1])
with open({seen!r}, "a") as seen:
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
    connection.request("GET", "/", headers={{"Sec-Fetch-Mode": "navigate"}})
    seen.write(url.geturl() + "\\n" + connection.getresponse().read().decode())
"""


@pytest.fixture
def desktop(tmp_path):
    """An environment with a screen and a browser, and what that browser has seen."""
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(BROWSER.format(python=sys.executable, seen=str(seen)))
    browser.chmod(0o755)
    clean = {name: value for name, value in CLEAN.items() if name != "WAYLAND_DISPLAY"}
    return clean | {"DISPLAY": ":9", "BROWSER": str(browser)}, seen


@pytest.fixture
def taken():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def clicked(*command, env, log: Path) -> int:
    """Runs a program as a file manager does: no terminal, and nobody reads what it says."""
    with log.open("wb") as out:
        return subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, timeout=30).returncode


def test_an_error_that_nobody_would_see_is_shown_in_the_browser(bundle, desktop, taken, tmp_path):
    env, seen = desktop
    start = time.monotonic()
    assert clicked(bundle, "--port", taken, env=env, log=tmp_path / "log") == 1
    assert time.monotonic() - start < 15, "it ends when the page was loaded"
    page = seen.read_text()
    assert re.match(r"http://127\.0\.0\.1:\d+/\n", page)
    assert "tealight did not start" in page and f"port {taken}" in page and "hint:" in page
    assert f"port {taken}" in (tmp_path / "log").read_text(), "it is said in the usual place too"


def test_a_damaged_bundle_and_a_wrong_flag_are_shown_as_well(copy_of_bundle, desktop, tmp_path):
    env, seen = desktop
    assert clicked(copy_of_bundle, "--ctx-sise", "5", env=env, log=tmp_path / "log") == 2
    assert "--ctx-size" in seen.read_text()
    seen.unlink()
    with copy_of_bundle.open("r+b") as file:
        file.truncate(copy_of_bundle.stat().st_size // 2)
    assert clicked(copy_of_bundle, env=env, log=tmp_path / "log") == 1
    assert "<h1>tealight did not start</h1>" in seen.read_text()


def test_whoever_wants_no_browser_gets_none(bundle, desktop, taken, tmp_path):
    env, seen = desktop
    log = tmp_path / "log"
    assert clicked(bundle, "--port", taken, "--nobrowser", env=env, log=log) == 1
    assert clicked(bundle, "--port", taken, env=env | {"NOBROWSER": "1"}, log=log) == 1
    assert clicked(bundle, "--nobrowser", "--wrong", env=env, log=log) == 2
    assert clicked(bundle, "-p", "Hi", "-c", "1000000000", env=env, log=log) == 1
    assert clicked(bundle, "info", "-m", "/nonexistent", env=env, log=log) == 1
    assert clicked(bundle, "--port", taken, env={n: v for n, v in env.items() if n != "DISPLAY"}, log=log) == 1
    assert run(bundle, "--port", taken, ok=False, env=env).returncode == 1, "a program reads what it says"
    assert not seen.exists()


def test_in_a_terminal_the_error_is_said_there_and_nothing_waits(bundle, desktop, taken):
    env, seen = desktop
    master, slave = pty.openpty()
    process = subprocess.Popen([str(bundle), "--port", str(taken)], stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    assert process.wait(15) == 1
    said = b""
    try:
        while part := os.read(master, 4096):
            said += part
    except OSError:
        pass  # how Linux says that the other end is closed
    os.close(master)
    assert f"port {taken}".encode() in said
    assert not seen.exists()


def test_without_a_terminal_it_serves_and_opens_the_browser_once(bundle, desktop, tmp_path):
    env, seen = desktop
    port = free_port()
    with (tmp_path / "log").open("wb") as out:
        process = subprocess.Popen([str(bundle), "--port", str(port), "-c", "256"], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)
    try:
        assert wait_for(lambda: seen.exists() and "</html>" in seen.read_text(), 15)
        assert seen.read_text().count("http://") >= 1 and seen.read_text().startswith(f"http://127.0.0.1:{port}/\n")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


# ---- exit codes: those that --help and docs/install.md name


def test_every_exit_code_that_is_documented_is_what_happens(bundle, tmp_path):
    documented = {0: "success", 1: "failure", 2: "invalid command line", 130: "stopped by Ctrl-C"}
    line = re.search(r"Exit codes: (.*)\.", run(bundle, "--help").stdout)
    assert line and line[1] == ", ".join(f"{code} {what}" for code, what in documented.items())
    page = (Path(__file__).parents[2] / "docs" / "install.md").read_text()
    assert all(re.search(rf"^\| {code} \|", page, re.M) for code in documented)
    assert run(bundle, "--version").returncode == 0
    assert run(RUNTIME, "-m", tmp_path / "missing", "-p", "Hi", ok=False).returncode == 1
    assert run(bundle, "doctor", "-m", tmp_path / "missing", ok=False).returncode == 1
    assert run(bundle, "--nonsense", ok=False).returncode == 2
    assert run(bundle, "-p", "Hi", ok=False, env=CLEAN | {"LLAMA_ARG_CTX_SIZE": "huge"}).returncode == 2
    chat = subprocess.Popen([str(RUNTIME), "chat", "-m", str(SMOLLM2), "-c", "256"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=CLEAN)
    caught = lambda: int(re.search(r"^SigCgt:\s+(\w+)", proc(chat.pid, "status").read_text(), re.M)[1], 16)  # noqa: E731
    assert wait_for(lambda: caught() & 1 << (signal.SIGINT - 1), 20)
    for _ in range(2):
        chat.send_signal(signal.SIGINT)
        time.sleep(0.5)
    assert chat.wait(10) == 130
