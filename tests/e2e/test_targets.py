"""The programs of other systems, run: Windows' in wine, those for ARM in qemu, on the real model from a real bundle.

What is missing for a system fails its tests (with ALLOW_SKIP=1 it skips them), with the reason. The bundles are made by the bundler of this system. What
they answer has to be, to the letter, what the bundle of this system answers.
"""

from __future__ import annotations

import fcntl
import os
import platform
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest
from harness import BUNDLER, CLEAN, ROOT, SMOLLM2, Server, bundle_of, link, missing, needs, run, wait_for

pytestmark = pytest.mark.nightly  # minutes of building

QUESTION = "What is the capital of France?"
PROMPT = "Once upon a time, in a café by the sea,"
# A name that a person may give: spaces, and letters of three alphabets.
ODD = "mi carpeta ñandú 蝋燭 Ж"


class System:
    """Another system: its runtime, and how its programs are run here."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], threads: int) -> None:
        self.name, self.command, self.env, self.threads = name, command, CLEAN | env, threads
        self.windows = name.startswith("windows")
        self.exe = ".exe" if self.windows else ""
        self.runtime = built(name) / f"tealight{self.exe}"

    def run(self, program: Path, *arguments, **more) -> subprocess.CompletedProcess:
        return run(*self.command, program, *arguments, **{"env": self.env, "timeout": 300} | more)

    def serve(self, program: Path, *arguments, folder: Path, **more) -> Server:
        more = {"env": self.env, "prefix": self.command, "within": 120} | more
        return Server(program, *arguments, "-c", 512, folder=folder, **more)

    def path(self, path: Path) -> str:
        """A path as people of that system write it."""
        return "Z:" + str(path).replace("/", "\\") if self.windows else str(path)


def built(name: str) -> Path:
    """The folder with the programs for a system, built if need be: minutes the first time, a second from then on."""
    command = ["sh", ROOT / "tools/dist/build.sh", "quick", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 3:
        missing(f"{name}: {done.stderr.splitlines()[-2].removeprefix('error: ')}")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def windows(tmp_path_factory):
    name = "windows-x86_64"
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip(f"{name}: wine is tried on Linux x86-64 only")
    needs("wine", "wineserver", "x86_64-w64-mingw32-gcc")
    prefix = tmp_path_factory.mktemp("wine")
    # Not the user's own Windows; no questions about .NET and HTML; letters as they are.
    env = {"WINEPREFIX": str(prefix), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml=", "LC_ALL": "C.UTF-8"}
    system = System(name, ["wine"], env, threads=2)
    made = run("wineboot", "--init", env=system.env, timeout=300, ok=False)
    library = prefix / "drive_c/windows/system32"
    assert library.is_dir(), made.stderr
    source = ROOT / "tests/e2e/windows/bcryptprimitives.c"
    run("x86_64-w64-mingw32-gcc", "-O1", "-shared", "-o", library / "bcryptprimitives.dll", source, "-ladvapi32")
    yield system
    run("wineserver", "-k", env=system.env, ok=False)


@pytest.fixture(scope="session")
def arm():
    name = "linux-aarch64"
    if sys.platform != "linux":
        pytest.skip(f"{name}: needs Linux")
    command = []
    if platform.machine() != "aarch64":
        needs("qemu-aarch64")
        libraries = Path("/usr/aarch64-linux-gnu")
        if not (libraries / "lib").is_dir():
            missing(f"{name}: no {libraries}, the C library for qemu-aarch64")
        command = ["qemu-aarch64", "-L", str(libraries)]
    return System(name, command, {}, threads=2)


@pytest.fixture(scope="session", params=["windows", "arm"])
def system(request) -> System:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def foreign(system, tmp_path_factory):
    """The real model in one executable file for the other system."""
    folder = tmp_path_factory.mktemp(system.name)
    path = bundle_of(folder, f"smollm2{system.exe}", runtime=system.runtime)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def foreign_server(system, foreign, tmp_path_factory):
    with system.serve(foreign, folder=tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def completion(bundle) -> str:
    """What this system's program makes of the prompt."""
    return run(bundle, "-p", PROMPT, "-n", "8", "--temp", "0", "-c", "512").stdout


# ---- what nothing here can run


def test_the_program_for_windows_on_arm_is_built_checked_and_bundled(tmp_path):
    runtime = built("windows-arm64") / "tealight.exe"
    run(sys.executable, ROOT / "tools/dist/check.py", "windows-arm64", runtime, "--without", ROOT)
    bundle = bundle_of(tmp_path, "tea.exe", runtime=runtime)
    assert "verified" in run(BUNDLER, "verify", bundle).stdout
    bundle.unlink()


# ---- the same answers


def test_it_chats_over_http_as_here(foreign_server, server):
    here, there = (one.chat(QUESTION, max_tokens=8) for one in (server, foreign_server))
    assert there["choices"] == here["choices"]
    assert there["usage"]["completion_tokens"] == here["usage"]["completion_tokens"]
    assert len(there["choices"][0]["message"]["content"]) > 8


def test_it_streams_and_serves_the_page(foreign_server):
    body = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 8}
    events = list(foreign_server.events("/v1/chat/completions", body))
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])
    assert text == foreign_server.chat(QUESTION, max_tokens=8)["choices"][0]["message"]["content"]
    page = foreign_server.get("/")
    assert page.status == 200 and page.body == (ROOT / "web/index.html").read_bytes()


def test_its_completion_in_a_pipe_is_the_same_bytes(system, foreign, completion):
    done = system.run(foreign, "-p", PROMPT, "-n", "8", "--temp", "0", "-c", "512", text=False)
    assert done.stdout.decode() == completion


def test_it_verifies_itself_and_finds_damage(system, foreign, tmp_path):
    system.run(foreign, "verify")
    damaged = tmp_path / f"damaged{system.exe}"
    shutil.copyfile(foreign, damaged)
    damaged.chmod(0o755)
    with damaged.open("r+b") as file:
        file.seek(system.runtime.stat().st_size + 50_000_000)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x40]))
    done = system.run(damaged, "verify", ok=False)
    assert done.returncode == 1 and ".gguf" in done.stderr, done.stderr
    damaged.unlink()


# ---- names


def test_names_with_spaces_and_foreign_letters(system, foreign, completion, tmp_path):
    folder = tmp_path / ODD
    folder.mkdir()
    program, weights = link(foreign, folder / f"la vela é{system.exe}"), link(SMOLLM2, folder / "Gewächs 蝋.gguf")
    prompt = folder / "Ж.txt"
    prompt.write_text(PROMPT)
    for arguments in ((), ("--weights", system.path(weights)), ("--weights", weights.name)):
        done = system.run(program, *arguments, "-f", system.path(prompt), "-n", "8", "--temp", "0", "-c", "512", cwd=folder)
        assert done.stdout == completion
    done = system.run(program, "--weights", "keine Gewächse.gguf", "-p", "x", ok=False, cwd=folder)
    assert done.returncode == 1 and "keine Gewächse.gguf" in done.stderr, done.stderr


def test_weights_beside_the_program_are_found(system, completion, tmp_path):
    program = link(system.runtime, tmp_path / f"vela é{system.exe}")
    link(SMOLLM2, tmp_path / "vela é.gguf")
    done = system.run(program, "-p", PROMPT, "-n", "8", "--temp", "0", "-c", "512")
    assert done.stdout == completion


def test_paths_longer_than_260_characters(system, foreign, completion, tmp_path):
    folder = tmp_path
    while len(str(folder)) < 400:
        folder /= "a folder with a long name " + "x" * 40
    folder.mkdir(parents=True)
    program, weights = link(foreign, folder / f"far{system.exe}"), link(SMOLLM2, folder / "far away.gguf")
    sampling = ("-p", PROMPT, "-n", "8", "--temp", "0", "-c", "512")
    assert system.run(foreign, "--weights", system.path(weights), *sampling).stdout == completion
    assert system.run(program, *sampling).stdout == completion, "the program itself"


# ---- ports and Ctrl-C


def test_a_port_that_is_named_and_taken_is_an_error(system, foreign, foreign_server):
    done = system.run(foreign, "--nobrowser", "--port", foreign_server.port, "-c", "256", ok=False)
    assert done.returncode == 1
    assert str(foreign_server.port) in done.stderr and "hint" in done.stderr, done.stderr


def test_without_a_port_named_each_server_has_its_own_and_ctrl_c_ends_it(system, foreign, tmp_path):
    command = [*system.command, foreign, "--nobrowser", "-c", "256"]
    consoles = []
    for name in ("first", "second"):
        consoles.append(Console(command, system.env, tmp_path / name))
        assert consoles[-1].sees("Ctrl-C"), consoles[-1].text
    ports = [int(re.search(r"http://127\.0\.0\.1:(\d+)/", console.text)[1]) for console in consoles]
    assert 8080 <= ports[0] < ports[1] <= 8180
    assert "is in use by another program" in consoles[1].text
    for console in consoles:
        console.type("\x03")
        assert console.end() == 0, console.text


# ---- the console


def test_a_person_chats_in_the_console_and_ctrl_c_stops_the_answer(system, foreign, tmp_path):
    console = Console([*system.command, foreign, "chat", "--temp", "0", "-c", "512", "-n", "400"], system.env, tmp_path / ODD)
    assert console.sees("> "), console.text
    console.type("Repeat after me: ñandú é\r")
    assert console.sees("ñandú é"), console.text
    before = len(console.text)
    assert wait_for(lambda: len(console.text) > before + 20, 60), console.text
    console.type("\x03")
    # The answer ends, the conversation goes on, until a second one.
    assert wait_for(lambda: console.text.rstrip().endswith(">"), 60), console.text
    console.type("/bye\r")
    assert console.end() == 0, console.text


class Console:
    """A program with a terminal of its own, typed at and read from."""

    def __init__(self, command: list, env: dict[str, str], folder: Path) -> None:
        self.master, terminal = pty.openpty()
        folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=env | {"TERM": "xterm"},
            cwd=folder,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C goes to it
        )
        os.close(terminal)
        self.bytes = b""
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        try:
            while part := os.read(self.master, 65536):
                self.bytes += part
        except OSError:
            pass  # the other end is closed

    @property
    def text(self) -> str:
        """What is to be seen, without what moves the cursor. A console's spaces may be moves to the right."""
        text = re.sub(r"\x1b\[(\d*)C", lambda found: " " * int(found[1] or 1), self.bytes.decode(errors="replace"))
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\r", "", text)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def sees(self, text: str, seconds: float = 60) -> bool:
        return wait_for(lambda: text in self.text, seconds)

    def end(self, seconds: float = 20) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"did not end:\n{self.text}")


# ---- what Windows shows


def resources(data: bytes) -> dict[int, bytes]:
    """The first resource of each type: a tree of three levels, type, name and language."""
    header = struct.unpack_from("<I", data, 0x3C)[0]
    count, optional = struct.unpack_from("<H", data, header + 6)[0], header + 24
    address = struct.unpack_from("<I", data, optional + 112 + 8 * 2)[0]
    table = optional + struct.unpack_from("<H", data, header + 20)[0]
    sections = [struct.unpack_from("<IIII", data, table + 40 * n + 8) for n in range(count)]
    virtual, start = next((v, s) for _, v, size, s in sections if v <= address < v + size)
    root = start + address - virtual

    def rows(at: int) -> list[tuple[int, int]]:
        named, numbered = struct.unpack_from("<HH", data, at + 12)
        return [struct.unpack_from("<II", data, at + 16 + 8 * n) for n in range(named + numbered)]

    found = {}
    for kind, at in rows(root):
        while at & 0x8000_0000:
            at = rows(root + (at & 0x7FFF_FFFF))[0][1]
        place, size = struct.unpack_from("<II", data, root + at)
        found[kind] = data[start + place - virtual :][:size]
    return found


def test_the_windows_program_has_a_version_an_icon_and_a_manifest(windows):
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    for program in ("tealight", "tealight-bundle"):
        found = resources((windows.runtime.parent / f"{program}.exe").read_bytes())
        about = found[16].decode("utf-16-le", "replace")
        assert f"FileVersion\0{version}" in re.sub("\0+", "\0", about)
        assert f"{program}.exe" in about and "a language model" in about
        assert struct.unpack_from("<HHH", found[14]) == (0, 1, 5), "a group of five pictures"
        assert b"longPathAware" in found[24] and b"UTF-8" in found[24]


# ---- macOS, which nothing here runs


def test_what_macos_links_with_needs_nothing_of_apples_kit():
    """zig brings the symbols of libSystem and no others: with a crate that wants a framework, `make dist` fails here."""
    for target in ("aarch64-apple-darwin", "x86_64-apple-darwin"):
        command = [os.environ.get("CARGO", "cargo"), "tree", "--locked", "--workspace", "--edges", "normal", "--prefix", "none"]
        done = run(*command, "--target", target, cwd=ROOT, env=dict(os.environ), timeout=300)
        crates = {line.split()[0] for line in done.stdout.splitlines() if line}
        assert "candle-core" in crates
        wanting = re.compile("objc2?|block2|dispatch2?|core-(foundation|graphics).*|security-framework.*|.*-(foundation|app-kit)|metal")
        assert not [name for name in crates if wanting.fullmatch(name)]
