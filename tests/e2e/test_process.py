"""The program as systems start it: signals, environment, prompts from files, full disks, few threads, files that go."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from harness import BUNDLER, CLEAN, RUNTIME, SMOLLM2, Server, free_port, proc, run, wait_for

MODEL = ("-m", SMOLLM2, "-c", "512")
FEW = ("-n", "3", "--temp", "0")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def started(*arguments, **more) -> subprocess.Popen:
    command = [str(part) for part in (RUNTIME, *arguments)]
    return subprocess.Popen(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": CLEAN} | more)


def asleep(process: subprocess.Popen) -> bool:
    """Whether it waits for its input: the first thread sleeps, and has done for a while."""

    def times():
        fields = proc(process.pid, "stat").read_text().rsplit(")", 1)[1].split()
        return fields[0], fields[11], fields[12]

    before = times()
    time.sleep(0.3)
    return before[0] == "S" and times() == before


# ---- signals


def test_what_it_was_started_to_ignore_it_ignores():
    ignored = (*SIGNALS, signal.SIGQUIT)
    port = free_port()
    command = [str(part) for part in (RUNTIME, "--nobrowser", "--port", port, *MODEL)]
    inherit = lambda: [signal.signal(number, signal.SIG_IGN) for number in ignored]  # noqa: E731
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=CLEAN, preexec_fn=inherit)
    try:
        assert process.stdout.readline().startswith(b"http://")
        for number in ignored:
            process.send_signal(number)
        time.sleep(0.5)
        assert process.poll() is None
        mask = int(re.search(r"^SigIgn:\s+(\w+)", proc(process.pid, "status").read_text(), re.M)[1], 16)
        assert all(mask & 1 << (number - 1) for number in ignored)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_while_it_waits_for_its_input_a_signal_ends_it(number):
    reading = started(*MODEL, "-f", "-", stdin=subprocess.PIPE)
    chat = started("chat", *MODEL, stdin=subprocess.PIPE)
    for process, code in ((reading, -number), (chat, 130 if number == signal.SIGINT else -number)):
        assert wait_for(lambda process=process: asleep(process), 20)
        process.send_signal(number)
        assert process.wait(5) == code
        process.communicate()


def test_an_interrupted_completion_ends_by_the_signal_and_keeps_what_was_printed():
    process = started(*MODEL, "-p", "Once upon a time", "-n", "400", "--temp", "0")
    begun = process.stdout.read(20)
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=5)
    assert process.returncode == -signal.SIGINT and said == b""
    whole = run(RUNTIME, *MODEL, "-p", "Once upon a time", "-n", "20", "--temp", "0", text=False).stdout.rstrip(b"\n")
    printed = (begun + rest)[: len(whole)]
    assert whole.startswith(printed)


def test_ctrl_c_stops_an_answer_and_the_chat_goes_on(tmp_path):
    chat = started("chat", *MODEL, "--ignore-eos", "--temp", "0", stdin=subprocess.PIPE)
    chat.stdin.write(b"Tell me a very long story.\n")
    chat.stdin.flush()
    assert chat.stdout.read(10)
    chat.send_signal(signal.SIGINT)
    saved = tmp_path / "chat.json"
    chat.communicate(f"/save {saved}\n/bye\n".encode(), timeout=20)
    assert chat.returncode == 0
    assert [message["role"] for message in json.loads(saved.read_text())] == ["user", "assistant"]


# ---- environment


def test_a_key_in_the_environment_is_asked_for(tmp_path):
    key = tmp_path / "keys"
    key.write_text("secret\n")
    for name, value in (("LLAMA_ARG_API_KEY", "secret"), ("LLAMA_API_KEY", "secret"), ("LLAMA_ARG_API_KEY_FILE", str(key))):
        listing = run(RUNTIME, "--print-config", env=CLEAN | {name: value}).stdout
        assert re.search(rf"^api-key(-file)? .*\(environment, {name}\)$", listing, re.M), listing
    with Server(RUNTIME, *MODEL, folder=tmp_path / "cwd", env={"LLAMA_ARG_API_KEY": "secret"}) as server:
        assert server.get("/v1/models").status == 401
        assert server.get("/v1/models", Authorization="Bearer secret").status == 200


def test_ollama_host_is_read_as_ollama_reads_it():
    def settings(value):
        done = run(RUNTIME, "--print-config", env=CLEAN | {"OLLAMA_HOST": value})
        return [re.search(rf"^{name} += (\S+)", done.stdout, re.M)[1] for name in ("host", "port")], done.stderr

    assert settings(' "http://[::1]:8123/api" ') == (["::1", "8123"], "")
    found, said = settings("127.0.0.2:http")
    assert found == ["127.0.0.2", "8080"] and "OLLAMA_HOST" in said and "`http`" in said


# ---- prompts


def completed(*arguments, **more) -> str:
    return run(RUNTIME, *MODEL, *FEW, *arguments, **more).stdout


def test_a_prompt_from_a_file_or_a_pipe_is_the_prompt_that_was_typed(tmp_path):
    text = "The capital of France is"
    wanted = completed("-p", text)
    for end in ("", "\n", "\r\n"):
        path = tmp_path / "prompt"
        path.write_bytes((text + end).encode())
        assert completed("-f", path) == wanted
        assert completed("-f", "-", input=text + end) == wanted


def test_escapes_are_read_where_llama_cpp_reads_them(tmp_path):
    typed, meant = r"apple\nban\x61na\ncherry\n", "apple\nbanana\ncherry\n"
    path = tmp_path / "prompt"
    path.write_text(typed)
    wanted = completed("-p", meant)
    assert completed("-p", typed) == completed("-f", path) == wanted
    path.write_text(typed.replace("\\", "\\\\"))
    assert completed("--no-escape", "-p", typed) == completed("-f", path)
    stopped = completed("-p", meant, "-r", r"\n")
    assert "\n" not in stopped.removesuffix("\n")


@pytest.mark.parametrize("bytes_", [b"tea \xff", b"tea \xe2\x82", b"t" * ((64 << 20) + 1)], ids=["invalid", "cut", "long"])
def test_what_can_not_be_a_prompt_is_refused_and_not_cut(bytes_):
    done = run(RUNTIME, *MODEL, *FEW, "-f", "-", input=bytes_, text=False, ok=False)
    assert done.returncode == 1 and done.stdout == b""
    assert b"standard input" in done.stderr


# ---- full disks and closed pipes


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("--print-config",), ("info", *MODEL[:2]), ("doctor", *MODEL[:2]), ("tokenize", *MODEL[:2], "-p", "tea"), ("bench", "--help")], ids=lambda a: " ".join(map(str, a[:1])))
def test_a_report_that_is_lost_is_a_failure_and_one_that_nobody_reads_is_none(arguments):
    command = [str(part) for part in (RUNTIME, *arguments)]
    with open("/dev/full", "wb") as full:
        lost = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=CLEAN, check=False)
    assert lost.returncode == 1 and b"No space left" in lost.stderr, lost
    reader, writer = os.pipe()
    os.close(reader)
    unread = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=CLEAN, check=False)
    os.close(writer)
    assert unread.returncode == 0 and unread.stderr == b"", unread


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("set", "--help")], ids=" ".join)
def test_the_bundler_tells_too(arguments):
    with open("/dev/full", "wb") as full:
        lost = subprocess.run([BUNDLER, *arguments], stdout=full, stderr=subprocess.PIPE, env=CLEAN, check=False)
    assert lost.returncode == 1 and b"No space left" in lost.stderr, lost


# ---- weights that go


def test_weights_that_vanish_are_told_and_end_it_with_an_exit_code(tmp_path):
    stick = tmp_path / "\x1b[31mstick.gguf"
    shutil.copyfile(SMOLLM2, stick)
    process = started("-m", stick, "-c", "2048", "-p", "Once upon a time", "-n", "2000", "--ignore-eos")
    assert process.stdout.read(5)
    os.truncate(stick, 4096)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert rb"\u001b[31mstick.gguf" in said and b"was truncated" in said and b"\x1b" not in said, said


# ---- few threads


@pytest.fixture(scope="module")
def few_threads(tmp_path_factory):
    """A library that lets a program have so many threads at a time beside its first. (A limit of processes does not hold
    for root.)"""
    folder = tmp_path_factory.mktemp("threads")
    source, library = folder / "few.c", folder / "few.so"
    source.write_text(
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <errno.h>\n#include <pthread.h>\n#include <stdlib.h>\n"
        "struct start { void *(*f)(void *); void *x; };\n"
        "static int alive;\n"
        "static void *begin(void *p) {\n"
        "  struct start s = *(struct start *)p; free(p);\n"
        "  void *r = s.f(s.x); __sync_sub_and_fetch(&alive, 1); return r;\n}\n"
        "int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x) {\n"
        "  int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, \"pthread_create\");\n"
        "  if (__sync_add_and_fetch(&alive, 1) > atoi(getenv(\"FEW\"))) { __sync_sub_and_fetch(&alive, 1); return EAGAIN; }\n"
        "  struct start *s = malloc(sizeof *s); s->f = f; s->x = x;\n"
        "  return real(t, a, begin, s);\n}\n"
    )
    run("cc", "-shared", "-fPIC", "-o", library, source, "-ldl")
    return lambda count: CLEAN | {"LD_PRELOAD": str(library), "FEW": str(count)}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 6])
def test_too_few_threads_are_told_as_what_they_are(few_threads, count, tmp_path):
    for arguments, more in ((("-p", "Hi", "-n", "1"), {}), (("chat", "-n", "1"), {"input": "Hi\n"})):
        done = run(RUNTIME, *arguments, *MODEL, "-t", "3", env=few_threads(count), ok=False, **more)
        assert "chat template failed" not in done.stderr
        assert done.returncode == 0 and done.stdout or "no thread could be started" in done.stderr and "ulimit -u" in done.stderr, done
    path = tmp_path / "bundle"
    done = run(BUNDLER, "--weights", SMOLLM2, "-o", path, "--runtime", RUNTIME, env=few_threads(count), ok=False)
    assert done.returncode == 0 or "cannot watch for Ctrl-C" in done.stderr, done
    assert (done.returncode == 0) == (count > 0)
    path.unlink(missing_ok=True)


def test_a_server_without_a_thread_to_answer_on_says_so_and_ends(few_threads):
    for count in (0, 1, 2):
        done = run(RUNTIME, "--nobrowser", "--port", free_port(), *MODEL, "-t", "3", env=few_threads(count), ok=False)
        assert done.returncode == 1 and "no thread could be started" in done.stderr, done


def test_the_threads_that_compute_leave_some_for_requests_and_their_templates(few_threads, tmp_path):
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}

    def status(server):
        try:
            answer = server.post("/v1/chat/completions", body)
        except OSError:
            return None  # the thread of the connection before is still ending
        assert answer.status == 200 or "no thread could be started" in answer.json()["error"]["message"]
        return answer.status

    # Signals, accepting, a worker's results, the scheduler, a connection, and two of the eight that would compute; with
    # fewer it may refuse.
    for count, wanted in ((7, {200}), (5, {200, 503})):
        with Server(RUNTIME, *MODEL, "-t", "9", folder=tmp_path / str(count), env=few_threads(count)) as server:
            assert wait_for(lambda server=server, wanted=wanted: status(server) in wanted, 20)
