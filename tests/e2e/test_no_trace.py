"""What a run leaves behind: nothing. Every system call of a serving run is looked at, and it serves where nothing can
be written at all."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from harness import Server, bundle_of, needs, nowhere_to_write, proc, run

TRACED = "%file,%network,%process,ftruncate,fallocate,fchmod,fchown,mmap,memfd_create,io_uring_setup,bpf"
# Calls that change something on a disk, whatever they are asked to change.
CHANGES = re.compile(
    r"^(creat|mkdir|mkdirat|rmdir|unlink|unlinkat|rename|renameat|renameat2|link|linkat|symlink|symlinkat|mknod|mknodat"
    r"|truncate|ftruncate|fallocate|chmod|fchmod|fchmodat|fchmodat2|chown|fchown|lchown|fchownat|utime|utimes|utimensat"
    r"|futimesat|setxattr|lsetxattr|fsetxattr|removexattr|lremovexattr|mount|umount2|swapon|io_uring_setup|bpf)\("
)
OPENS_TO_WRITE = re.compile(r"^open(at|at2)?\(.*\bO_(WRONLY|RDWR|CREAT|TRUNC|APPEND|TMPFILE)\b")
OPENED = re.compile(r'^open(?:at|at2)?\([^"]*"([^"]*)"')
STARTS = re.compile(r"^execve(at)?\(")
ADDRESS = re.compile(r'\{sa_family=(\w+)(?:.*?(?:inet_addr\("([^"]*)"\)|inet_pton\(AF_INET6, "([^"]*)"))?')
LOOPBACK = ("127.0.0.1", "::1")


def tracer() -> str:
    needs("strace")
    if run("strace", "-o", "/dev/null", "true", ok=False).returncode:
        pytest.skip("strace may not trace here")
    return "strace"


def calls(log: Path) -> list[str]:
    """The system calls of all threads, those that were interrupted put together again."""
    found, begun = [], {}
    for line in log.read_text(errors="replace").splitlines():
        thread, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            begun[thread] = text.removesuffix("<unfinished ...>")
        elif resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", text):
            found.append(begun.pop(thread, "") + resumed[1])
        elif not text.startswith(("+++", "---")):
            found.append(text)
    return found + list(begun.values())


def assert_nothing_was_left(traced: list[str]) -> None:
    assert len(traced) > 20, "nothing was traced"
    for call in traced:
        assert not CHANGES.match(call), call
        if OPENS_TO_WRITE.match(call):
            assert OPENED.match(call)[1].startswith("/dev/"), call
        assert not re.match(r"^mmap\(.*PROT_WRITE.*MAP_SHARED, \d", call), f"a file is mapped to be written: {call}"
    # The program itself, and itself again as a worker.
    started = [call for call in traced if STARTS.match(call) and '"--as-worker"' not in call]
    assert len(started) == 1, f"it started another program: {started}"


def assert_only_loopback(traced: list[str]) -> None:
    network = [call for call in traced if re.match(r"^(connect|bind|sendto|sendmsg|sendmmsg)\(", call)]
    for call in network:
        for family, *ip in ADDRESS.findall(call):
            assert family in ("AF_INET", "AF_INET6"), call
            assert any(address in LOOPBACK for address in ip), call
    families = {call.split("(")[1].split(",")[0] for call in traced if call.startswith("socket(")}
    assert families <= {"AF_INET", "AF_INET6"}, families


def test_the_test_itself_sees_what_is_written_and_asked(tmp_path):
    log = tmp_path / "calls"
    command = "import os, socket; open('f', 'w').close(); os.remove('f'); socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    run(tracer(), "-f", "-e", f"trace={TRACED}", "-o", log, "python3", "-c", command, cwd=tmp_path)
    traced = calls(log)
    assert any(CHANGES.match(call) for call in traced)
    assert any(OPENS_TO_WRITE.match(call) and OPENED.match(call)[1] == "f" for call in traced)
    with pytest.raises(AssertionError):
        assert_nothing_was_left(traced)
    with pytest.raises(AssertionError):
        assert_only_loopback(traced)


def test_a_serving_run_creates_writes_and_deletes_no_file_and_speaks_to_this_computer_only(bundle, tmp_path):
    log = tmp_path / "calls"
    prefix = (tracer(), "-f", "-s", "256", "-e", f"trace={TRACED}", "-o", log)
    server = Server(bundle, "-c", "512", folder=tmp_path / "cwd", prefix=prefix)
    assert server.chat("What is the capital of France?")["choices"]
    assert len(list(server.events("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}))) > 2
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    server.chat("A number.", response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})
    assert server.post("/v1/embeddings", {"input": "tea"}).status == 200
    assert server.post("/v1/chat/completions", b"{").status == 400
    assert server.post("/render", {"text": "```python\nprint(1)\n```\n$x^2$"}).status == 200
    for path in ("/", "/chat.js", "/props", "/v1/models", "/nothing"):
        server.get(path)
    # The tracer does not listen to Ctrl-C.
    children = proc(server.pid, "task", server.pid, "children").read_text().split()
    os.kill(int(children[0]), signal.SIGINT)
    server.stop()
    traced = calls(log)
    assert_nothing_was_left(traced)
    assert_only_loopback(traced)


@pytest.mark.parametrize("arguments", [("-p", "Hi", "-n", "2"), ("info",), ("verify",), ("doctor",), ("--help",)], ids=lambda a: a[0])
def test_no_other_run_leaves_anything_either(bundle, tmp_path, arguments):
    log = tmp_path / "calls"
    run(tracer(), "-f", "-e", f"trace={TRACED}", "-o", log, bundle, *arguments, cwd=tmp_path)
    traced = calls(log)
    assert_nothing_was_left(traced)
    assert_only_loopback(traced)


# ---- where nothing can be written


BARE = ("env", "-i", "HOME=/nonexistent", "TMPDIR=/nonexistent")


def assert_answers(program: Path, folder: Path, prefix: list) -> None:
    with Server(program, "-c", "512", folder=folder, prefix=prefix) as server:
        said = server.chat("What is the capital of France?")
        assert said["choices"][0]["message"]["content"]


def test_it_serves_from_a_read_only_medium_with_no_home_and_no_place_for_temporary_files(bundle, tmp_path):
    view = nowhere_to_write()
    probe = run(*view, "touch", tmp_path / "x", ok=False)
    assert probe.returncode and "ead-only" in probe.stderr, "the view is not read-only"
    assert_answers(bundle, tmp_path, [*view, *BARE])


def test_it_serves_someone_who_may_write_nowhere(tmp_path):
    """No namespaces here: a user without a home, on files of somebody else."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become nobody (setpriv)")
    folder = Path("/opt") if Path("/opt").is_dir() else Path("/usr")
    program = bundle_of(folder, f"tealight-test-{os.getpid()}")
    try:
        program.chmod(0o555)
        assert_answers(program, tmp_path, ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *BARE])
    finally:
        program.unlink()
