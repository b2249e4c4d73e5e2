"""Windows' program in wine: the window after a double click, and what it says of its system."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import threading
import time
from pathlib import Path

import pytest
from harness import SMOLLM2, link, run, wait_for
from test_targets import windows  # noqa: F401 (a fixture)

pytestmark = pytest.mark.nightly


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, command: list, env: dict, folder: Path) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen([str(c) for c in command], stdin=slave, stdout=slave, stderr=slave, env=env, cwd=folder)
        os.close(slave)
        self.said = b""
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        try:
            while part := os.read(self.master, 4096):
                self.said += part
        except OSError:
            pass  # how Linux says that the other end is closed


@pytest.fixture
def folder(windows, tmp_path) -> Path:
    """The program, and something that is called like the Explorer."""
    link(windows.runtime, tmp_path / "tealight.exe")
    source = Path(__file__).parent / "windows" / "explorer.c"
    run("x86_64-w64-mingw32-gcc", "-O1", "-o", tmp_path / "explorer.exe", source)
    return tmp_path


def test_a_window_that_would_close_is_kept_until_enter_is_pressed(windows, folder):
    command = [*windows.command, "./explorer.exe", "tealight.exe", "-m", "missing.gguf"]
    window = Terminal(command, windows.env, folder)
    assert wait_for(lambda: b"Press Enter to close this window" in window.said, 60), window.said
    assert b"missing.gguf" in window.said
    time.sleep(1)
    assert window.process.poll() is None, "it waits"
    os.write(window.master, b"\r")
    assert window.process.wait(20) == 1


def test_in_a_terminal_that_was_there_before_nothing_waits(windows, folder):
    window = Terminal([*windows.command, "./tealight.exe", "-m", "missing.gguf"], windows.env, folder)
    assert window.process.wait(60) == 1
    assert wait_for(lambda: b"missing.gguf" in window.said, 5) and b"Press Enter" not in window.said


def test_the_doctor_knows_windows_and_the_mark_of_a_download(windows, folder):
    program = folder / "tealight.exe"
    # Wine keeps no streams of its own: such a file is one.
    (folder / "tealight.exe:Zone.Identifier").write_text("[ZoneTransfer]\r\nZoneId=3\r\n")
    done = windows.run(program, "doctor", "--json", "-m", windows.path(SMOLLM2), "-c", "512", "--nobrowser")
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert found["system"]["os"] == "windows" and found["system"]["text"].startswith("Windows ")
    assert 0 < found["memory"]["available_bytes"] <= found["memory"]["total_bytes"]
    assert found["memory"]["context"] == 512
    assert found["quarantine"]["state"] == "note" and "Unblock" in found["quarantine"]["hint"]
    assert found["medium"]["kind"]
    assert found["writing"]["program_folder"] is True
    assert sorted(os.listdir(folder)) == ["explorer.exe", "tealight.exe", "tealight.exe:Zone.Identifier"], "nothing was written"
