"""The programs under test, and what the tests do with them.

Enters: what `make test` has built. Leaves: finished runs, running servers on free ports, answers. A run that panics
and a server that does not end cleanly fail the test that started them.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
RUNTIME = TARGET / "release" / "tealight"
BUNDLER = TARGET / "release" / "tealight-bundle"
MODELS = ROOT / "models"
SMOLLM2 = MODELS / "smollm2-135m-instruct-q4_1.gguf"
CONTEXT = 2048

# A server of these tests never opens a browser, and is not told anything by the machine it runs on.
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("LLAMA_", "OLLAMA_", "HF_", "NOBROWSER", "RUST_BACKTRACE"))
}


def run(*command, ok=True, **more) -> subprocess.CompletedProcess:
    """Runs a program to its end; with `ok` it has to succeed."""
    more = {"timeout": 60, "text": True, "env": CLEAN, "stdin": subprocess.DEVNULL} | more
    if "input" in more:
        del more["stdin"]
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False, **more)
    if ok:
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr}"
    if more["text"]:
        assert "panicked" not in done.stderr, done.stderr
    return done


def link(source: Path, target: Path) -> Path:
    """The same bytes under another name, without copying them where the file system can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        shutil.copymode(source, target)
    return target


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, seconds: float, step: float = 0.05):
    """The first true value of `what()` within so many seconds, else its last one."""
    end = time.monotonic() + seconds
    while not (value := what()) and time.monotonic() < end:
        time.sleep(step)
    return value


class Answer:
    """A whole HTTP answer."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def json(self):
        return json.loads(self.body)

    @property
    def error(self) -> dict:
        return self.json()["error"]


def needs(*programs: str) -> None:
    """Fails where a program is missing that a test wants; with ALLOW_SKIP=1, skips."""
    for program in programs:
        if not shutil.which(program):
            missing(f"{program} not found")


def missing(what: str) -> NoReturn:
    """What a test wants can be installed and is not. A test that silently does nothing proves nothing."""
    if os.environ.get("ALLOW_SKIP") == "1":
        pytest.skip(what)
    pytest.fail(f"{what}\nhint: on Debian, `sh tools/need.sh test` (or `systems`) installs it; ALLOW_SKIP=1 skips the test", pytrace=False)


def proc(*parts: object) -> Path:
    """What the kernel says of a process, where it says it in files."""
    if not Path("/proc/self").exists():
        pytest.skip("this system has no /proc")
    return Path("/proc", *map(str, parts))


class Server:
    """A running tealight; in an emulator, if that is its `prefix`."""

    def __init__(self, program: Path, *arguments, folder: Path, env=None, port=None, ready=200, prefix=(), within=30) -> None:
        self.port = port or free_port()
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / f"server-{self.port}.log"
        command = [*prefix, program, "--nobrowser", "--port", self.port, *arguments]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=CLEAN | (env or {}),
                cwd=folder,
            )
        self.started = time.monotonic()
        self.ready_after = 0.0
        if ready:
            self.wait(ready, within)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait(self, status: int, seconds: float = 30) -> None:
        """Waits for that answer of /health; a 503 that only says that weights are being read is none yet."""

        def answered():
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"
            try:
                health = self.get("/health")
                return health.status == status and (status == 200 or health.error["message"] != "Loading model")
            except OSError:
                return False

        assert wait_for(answered, seconds), f"/health does not say {status}:\n{self.log}"
        self.ready_after = time.monotonic() - self.started

    def connect(self, timeout: float = 60) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def socket(self, timeout: float = 60) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def get(self, path: str, **headers) -> Answer:
        return self.ask("GET", path, None, headers)

    def post(self, path: str, body, **headers) -> Answer:
        return self.ask("POST", path, body, headers)

    def ask(self, method: str, path: str, body=None, headers=None) -> Answer:
        headers = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            headers = {"Content-Type": "application/json"} | headers
        connection = self.connect()
        try:
            connection.request(method, path, body=body, headers=headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def raw(self, data: bytes, timeout: float = 60) -> bytes:
        """Sends bytes as they are and reads until the server closes."""
        with self.socket(timeout) as connection:
            connection.sendall(data)
            return read_all(connection)

    def chat(self, text: str, **more) -> dict:
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 16} | more
        answer = self.post("/v1/chat/completions", body)
        assert answer.status == 200, answer.body
        return answer.json()

    def events(self, path: str, body: dict):
        """The events of a streamed answer as they come, without `[DONE]`."""
        connection = self.connect()
        try:
            connection.request("POST", path, json.dumps(body | {"stream": True}), {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            for line in response:
                if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
                    yield json.loads(line[6:])
        finally:
            connection.close()

    def status(self, field: str) -> int:
        """A size in bytes from /proc/PID/status."""
        found = re.search(rf"^{field}:\s+(\d+) kB", proc(self.pid, "status").read_text(), re.M)
        return int(found[1]) * 1024

    def cpu_seconds(self) -> float:
        fields = proc(self.pid, "stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def busy(self, seconds: float = 0.3) -> float:
        """Cores in use over the next so many seconds."""
        before, start = self.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu_seconds() - before) / (time.monotonic() - start)

    def stop(self) -> None:
        """Ctrl-C: it has to end soon, with success, and without having panicked."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"did not end within 10 s after Ctrl-C:\n{self.log}")
        assert code == 0, f"ended with {code}:\n{self.log}"
        assert "panicked" not in self.log, self.log

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind:
            # The test has failed already: its own reason is the one to be seen.
            self.process.kill()
            self.process.wait()
        else:
            self.stop()


def read_all(connection: socket.socket) -> bytes:
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def bundle_of(folder: Path, name: str = "smollm2", *arguments, weights: Path = SMOLLM2, runtime: Path = RUNTIME) -> Path:
    path = folder / name
    run(BUNDLER, "--weights", weights, "-o", path, "--runtime", runtime, *arguments)
    return path


def nowhere_to_write() -> list[str]:
    """A command in front of another one that then finds its whole system read-only."""
    everything = (
        "mount --make-rprivate / && cut -d' ' -f2 /proc/self/mounts | sort -u | while read -r place; do"
        ' case "$place" in /proc*|/sys*|/dev|/dev/pts) ;; *) mount -o remount,bind,ro "$place" || exit 1 ;; esac; done'
        ' && exec "$@"'
    )
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *user, "--mount", "sh", "-c", everything, "sh"]
    if not shutil.which("unshare") or run(*command, "true", ok=False).returncode:
        pytest.skip("this system makes no read-only view of itself for us (unshare --mount)")
    return command
