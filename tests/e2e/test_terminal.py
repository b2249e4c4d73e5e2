"""The terminal: what is typed and pasted there arrives as it was meant, and nothing from elsewhere acts on it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pytest
from harness import CLEAN, RUNTIME, SMOLLM2, run

CHAT = ("chat", "-m", SMOLLM2, "-c", "8192", "--grammar", 'root ::= "OK"')
PASTE_BEGINS, PASTE_ENDS = b"\x1b[200~", b"\x1b[201~"


class Terminal:
    """A program at a terminal of 80 columns, and what its screen got."""

    def __init__(self, *arguments, term="xterm-256color", program=RUNTIME) -> None:
        self.screen = self.unseen = b""
        self.master, slave = pty.openpty()
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        command = [str(part) for part in (program, *arguments)]
        env = CLEAN | {"TERM": term, "LANG": "C.UTF-8"}
        # A session of its own, whose terminal this is: so Ctrl-C is a signal for it.
        controls = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # noqa: E731
        streams = {"stdin": slave, "stdout": slave, "stderr": slave}
        self.process = subprocess.Popen(command, **streams, env=env, start_new_session=True, preexec_fn=controls)
        os.close(slave)

    def read(self, seconds: float) -> bool:
        """Takes what the program has drawn within so many seconds. False: nothing, or it has ended."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            part = os.read(self.master, 65536)
        except OSError:
            return False  # how Linux says that the other end is closed
        self.screen, self.unseen = self.screen + part, self.unseen + part
        return bool(part)

    def see(self, wanted: bytes, seconds: float = 30) -> bytes:
        """Waits until the screen gets `wanted` after what was seen before. Returns what is new, to its end."""
        end = time.monotonic() + seconds
        while wanted not in self.unseen and time.monotonic() < end:
            if not self.read(0.1) and self.process.poll() is not None and not self.read(0.1):
                break
        assert wanted in self.unseen, f"{wanted!r} is not in {self.unseen!r}"
        new, _, self.unseen = self.unseen.partition(wanted)
        return new + wanted

    def type(self, keys: bytes) -> None:
        """Types no faster than it is read, for a terminal holds 4,096 bytes."""
        for start in range(0, len(keys), 512):
            os.write(self.master, keys[start : start + 512])
            while len(keys) > 512 and self.read(0.05):
                pass

    def ask(self, keys: bytes) -> None:
        """Types a question; waits for its answer and the next prompt."""
        self.type(keys)
        self.see(b"OK")
        self.see(b"> ")

    def mode(self) -> int:
        return termios.tcgetattr(self.master)[3]

    def end(self, keys: bytes = b"") -> int:
        """Types the last keys. Returns the exit code."""
        self.type(keys)
        end = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.1)
        while self.read(0.1):
            pass
        code = self.process.wait(1)
        os.close(self.master)
        return code


@pytest.fixture
def typed(tmp_path):
    """What a chat understood of the questions typed into it."""

    def typed(*questions: bytes, term="xterm-256color") -> list[str]:
        saved = tmp_path / "chat.json"
        terminal = Terminal(*CHAT, term=term)
        terminal.see(b"> ")
        for question in questions:
            terminal.ask(question)
        terminal.type(f"/save {saved}\r".encode())
        assert terminal.end(b"/bye\r") == 0
        return [message["content"] for message in json.loads(saved.read_text()) if message["role"] == "user"]

    return typed


# ---- typing


def test_keys_move_edit_and_recall(typed):
    left, up, home = b"\x1b[D", b"\x1b[A", b"\x01"
    assert typed(b"helo" + left + b"l\r", up + b"\r", "日本é😀".encode() + left + b"\x7f!\r", b"b" + home + b"a\r") == [
        "hello",
        "hello",
        "日本!😀",
        "ab",
    ]


def test_a_paste_is_one_question_whatever_is_in_it(typed):
    code = b"    def f():\r        // no command\r/bye\r        return 1\r"
    paste = PASTE_BEGINS + code + PASTE_ENDS
    assert typed(paste + b"What does it return?\r", b"after\r") == [
        "    def f():\n        // no command\n/bye\n        return 1\nWhat does it return?",
        "after",
    ]


def test_a_long_line_arrives_whole(typed):
    line = b"=" * 6000 + b"end"  # few tokens, for runs of these are some
    assert typed(line + b"\r") == [line.decode()]


def test_between_marks_enter_begins_a_line_and_indentation_stays(typed):
    assert typed(b'"""\r    if x:\r        y\r"""\r') == ["    if x:\n        y"]


def test_a_dumb_terminal_gets_lines_and_no_sequences():
    terminal = Terminal(*CHAT, term="dumb")
    terminal.see(b"> ")
    terminal.ask(b"/etc/hosts has which lines?\r")
    terminal.ask(b'"""\r  a\r"""\r')
    assert terminal.end(b"/bye\r") == 0
    assert b"\x1b" not in terminal.screen


# ---- ending


def test_ctrl_c_takes_back_what_was_typed_and_twice_ends():
    terminal = Terminal(*CHAT)
    terminal.see(b"> ")
    terminal.type(b"never mind\x03")
    terminal.see(b"Ctrl-C again")
    terminal.see(b"> ")
    terminal.ask(b"well\r")
    terminal.type(b"\x03")
    terminal.see(b"Ctrl-C again")
    terminal.see(b"> ")
    assert terminal.end(b"\x03") == 130


def test_ctrl_c_stops_an_answer_and_not_the_chat(tmp_path):
    saved = tmp_path / "chat.json"
    terminal = Terminal("chat", "-m", SMOLLM2, "-c", "8192", "--ignore-eos", "--temp", "0")
    terminal.see(b"> ")
    terminal.type(b"Tell me a very long story.\r")
    terminal.see(b"\x1b[?2004l")  # the question is read
    terminal.see(b" ")  # and a word of the answer is there
    terminal.type(b"\x03")
    terminal.see(b"> ", 5)
    terminal.type(f"/save {saved}\r".encode())
    assert terminal.end(b"/bye\r") == 0
    assert [message["role"] for message in json.loads(saved.read_text())] == ["user", "assistant"]


def test_ctrl_d_ends_it():
    terminal = Terminal(*CHAT)
    terminal.see(b"> ")
    assert terminal.end(b"\x04") == 0


def test_a_signal_at_the_prompt_leaves_the_terminal_as_it_was():
    terminal = Terminal(*CHAT)
    before = terminal.mode()
    terminal.see(b"> ")
    assert before & termios.ICANON and not terminal.mode() & termios.ICANON
    keep = os.dup(terminal.master)
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.end() == -signal.SIGTERM
    assert termios.tcgetattr(keep)[3] == before
    os.close(keep)
    assert terminal.screen.count(b"\x1b[?2004l") == 1


# ---- keeping


def test_what_was_typed_is_kept_only_where_that_is_asked_for(tmp_path):
    history = tmp_path / "history"
    first = Terminal(*CHAT, "--history", history)
    first.see(b"> ")
    first.ask(PASTE_BEGINS + b"one\rtwo" + PASTE_ENDS + b"\r")
    assert first.end(b"/bye\r") == 0
    assert history.stat().st_mode & 0o077 == 0
    second = Terminal(*CHAT, "--history", history)
    second.see(b"> ")
    second.type(b"\x1b[A\x1b[A")
    second.see(b"two")
    second.type(b"\x03")
    second.see(b"Ctrl-C again")
    second.see(b"> ")
    assert second.end(b"\x03") == 130
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"\xff\x00 not a history")
    third = Terminal(*CHAT, "--history", foreign)
    third.see(b"> ")
    third.ask(b"hm\r")
    assert third.end(b"/bye\r") == 0
    assert foreign.read_bytes() == b"\xff\x00 not a history"


# ---- what others wrote

HOSTILE = r'root ::= "\x1b[31mred\x07 \u202eback\r\n" "end"'
EXACT = "\x1b[31mred\x07 \u202eback\r\nend"
SHOWN = rb"\u001b[31mred\u0007 \u202eback"


@pytest.mark.parametrize("how", [("-p", "Hi"), ("chat",)], ids=["completion", "chat"])
def test_a_models_words_do_not_act_on_a_terminal_and_are_exact_elsewhere(how):
    arguments = (*how, "-m", SMOLLM2, "-c", "512", "--grammar", HOSTILE)
    terminal = Terminal(*arguments)
    if how[0] == "chat":
        terminal.see(b"> ")
        terminal.type(b"Hi\r")
        assert SHOWN in terminal.see(b"end")
        assert terminal.end(b"/bye\r") == 0
    else:
        assert terminal.end() == 0
        assert SHOWN in terminal.screen and b"\x1b" not in terminal.screen
    assert b"\x1b[31m" not in terminal.screen and b"\x07" not in terminal.screen
    done = run(RUNTIME, *arguments, **({"input": b"Hi\n"} if how[0] == "chat" else {}), text=False)
    assert done.stdout == EXACT.encode() + b"\n"


def test_names_and_messages_do_not_act_on_a_terminal_either(tmp_path):
    name = tmp_path / "\x1b]0;title\x07\x9b".encode().decode("latin-1")
    template = '{{ raise_exception("\\u001b[2J" ~ messages[0].content) }}'
    for arguments, more in (
        (("-m", name, "-p", "Hi"), {}),
        (("verify", "-m", name), {}),
        (("--\x1b[31mflag",), {}),
        (("chat", "-m", SMOLLM2, "-c", "512", "--chat-template", template), {"input": "\x1b[5m\n/\x1bload\n/load \x1b\n"}),
    ):
        done = run(RUNTIME, *arguments, ok=False, **more)
        assert done.stderr and not {"\x1b", "\x07", "\x9b"} & set(done.stdout + done.stderr), done
