"""The command line: ports, configuration, one-shot prompts, information, speed, terminal chat."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from harness import CLEAN, RUNTIME, SMOLLM2, Server, bundle_of, free_port, proc, run, wait_for

ONCE = ("-p", "The capital of France is", "-n", "8", "--temp", "0")


@pytest.fixture(scope="module")
def continuation(bundle) -> str:
    return run(bundle, *ONCE).stdout


# ---- one prompt


def test_a_prompt_is_completed_on_stdout_and_nothing_else_is(continuation):
    assert "Paris" in continuation
    assert len(continuation.splitlines()) <= 4


def test_the_prompt_can_come_from_a_file_or_a_pipe(bundle, continuation, tmp_path):
    text = tmp_path / "prompt.txt"
    text.write_text("The capital of France is")
    assert run(bundle, "-f", text, *ONCE[2:]).stdout == continuation
    assert run(bundle, "-f", "-", *ONCE[2:], input="The capital of France is").stdout == continuation


def test_the_same_seed_gives_the_same_text(bundle):
    sampled = ("-p", "Once", "-n", "12", "--temp", "1.2")
    assert run(bundle, *sampled, "-s", "5").stdout == run(bundle, *sampled, "-s", "5").stdout


def test_a_stop_text_ends_the_completion(bundle, continuation):
    assert "Paris" not in run(bundle, *ONCE, "-r", "Paris").stdout


def test_a_closed_pipe_is_success(bundle):
    command = f'set -o pipefail; "{bundle}" -p "Once upon a time" -n 200 --temp 0 | head -c 1'
    done = run("bash", "-c", command, timeout=60)
    assert len(done.stdout) == 1
    assert "error" not in done.stderr.lower()


def test_a_prompt_ends_at_ctrl_c(bundle):
    process = subprocess.Popen([bundle, "-p", "Once upon a time", "-n", "2000", "--temp", "0"], stdout=subprocess.PIPE, env=CLEAN)
    assert process.stdout.read(5)
    process.send_signal(signal.SIGINT)
    process.stdout.close()
    assert process.wait(5) == -signal.SIGINT


def test_an_empty_or_unreadable_prompt_is_a_clear_error(bundle, tmp_path):
    for arguments in (("-f", tmp_path / "nothing"), ("-f", tmp_path)):
        done = run(bundle, *arguments, ok=False)
        assert done.returncode == 1
        assert str(arguments[1]) in done.stderr
        assert done.stdout == ""


# ---- configuration


def setting(listing: str, name: str) -> tuple[str, str]:
    """Value and origin of a setting in what `--print-config` prints."""
    found = re.search(rf"^{re.escape(name)}\s+=\s(.*?)\s+\(([^()]*)\)$", listing, re.M)
    assert found, f"no {name} in:\n{listing}"
    return found[1], found[2]


def test_print_config_shows_that_flags_beat_environment_beats_bundle_beats_built_in(tmp_path):
    arguments = tmp_path / "args"
    arguments.write_text("--ctx-size\n1024\n--temp\n0.25\n--predict\n7\n--top-k\n11\n")
    program = bundle_of(tmp_path, "configured", "--args", arguments, "--system-prompt", "Be brief.")
    environment = CLEAN | {"LLAMA_ARG_CTX_SIZE": "1536", "LLAMA_ARG_N_PREDICT": "9", "LLAMA_ARG_THREADS": "2"}
    done = run(program, "--print-config", "-n", "13", "--temp", "0.5", env=environment)
    listing = done.stdout
    assert setting(listing, "min-p") == ("0.05", "built-in")
    assert setting(listing, "top-k") == ("11", "bundle")
    assert setting(listing, "ctx-size")[0] == "1536"
    assert "environment" in setting(listing, "ctx-size")[1] and "LLAMA_ARG_CTX_SIZE" in setting(listing, "ctx-size")[1]
    assert setting(listing, "predict") == ("13", "flag")
    assert setting(listing, "temp") == ("0.5", "flag")
    assert setting(listing, "threads")[0] == "2"
    value, origin = setting(listing, "system-prompt")
    assert "Be brief." in value and origin == "bundle"
    program.unlink()


def test_the_configuration_shown_is_the_one_in_force(tmp_path, start):
    arguments = tmp_path / "args"
    arguments.write_text("-c\n777\n--top-k\n11\n...\n--min-p\n0.2\n--top-p\n0.7\n")
    program = bundle_of(tmp_path, "configured", "--args", arguments, "--name", "My Tea")
    server = start(program, "--temp", "0.4", "--min-p", "0.9")
    props = server.get("/props").json()
    params = props["default_generation_settings"]["params"]
    assert props["n_ctx"] == 777
    assert params["top_k"] == 11
    assert params["temperature"] == pytest.approx(0.4)
    assert params["top_p"] == pytest.approx(0.7)
    assert params["min_p"] == pytest.approx(0.9), "the user's own is stronger, wherever `...` stands"
    assert props["tealight"]["name"] == "My Tea"


def test_an_api_key_is_never_printed(bundle):
    assert "secret-key" not in run(bundle, "--print-config", "--api-key", "secret-key").stdout


@pytest.mark.parametrize(
    ("arguments", "suggested"),
    [(["--tempp", "1"], "--temp"), (["--ctx-sise", "5"], "--ctx-size"), (["--weigths", "x"], "--weights"), (["--no-browser"], "--nobrowser")],
)
def test_an_unknown_flag_is_an_error_with_a_suggestion(bundle, arguments, suggested):
    done = run(bundle, *arguments, ok=False)
    assert done.returncode == 2
    assert arguments[0] in done.stderr and suggested in done.stderr
    assert done.stdout == ""


WRONG = {
    "-c many": "many",
    "--temp nan": "nan",
    "--temp -1": "-1",
    "--top-p 7": "7",
    "-t 0": "threads",
    "--port 99999": "99999",
    "--isa abacus": "abacus",
    "--cache-type-k q9": "q9",
    "stray": "stray",
    "-n": "predict",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_value_is_named_and_is_an_error_of_usage(bundle, line):
    done = run(bundle, "--print-config", *line.split(), ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error:") and WRONG[line] in done.stderr.lower()
    assert done.stdout == ""


def test_of_a_flag_given_twice_the_last_counts(bundle):
    listing = run(bundle, "--print-config", "--temp", "0.1", "--temp", "0.2", "-b", "64", "-b", "128").stdout
    assert setting(listing, "temp") == ("0.2", "flag")
    assert setting(listing, "batch-size") == ("128", "flag")


def test_flags_that_fingers_know_are_taken(bundle):
    known = "-ngl 999 -fa on -cb --mlock --no-mmap --jinja --nologo --ascii --unsecure --offline -b 256 -ub 64 -tb 2"
    done = run(bundle, "--print-config", *known.split())
    assert "--mlock" in done.stderr, "what means nothing here is said"


def test_a_wrong_environment_variable_is_named(bundle):
    done = run(bundle, "--print-config", ok=False, env=CLEAN | {"LLAMA_ARG_CTX_SIZE": "huge"})
    assert done.returncode in (1, 2)
    assert "LLAMA_ARG_CTX_SIZE" in done.stderr


def test_help_and_version(bundle):
    text = run(bundle, "--help").stdout
    assert all(flag in text for flag in ("--model", "--ctx-size", "--port", "--api-key", "--temp", "--print-config"))
    assert re.match(r"tealight \d+\.\d+\.\d+", run(bundle, "--version").stdout)


# ---- where it listens


def listeners(pid: int) -> list[tuple[str, int]]:
    """What a process listens on, and that it has no other socket."""
    sockets = set()
    for descriptor in proc(pid, "fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    found = []
    for family in ("tcp", "tcp6", "udp", "udp6", "unix", "raw", "raw6", "packet", "netlink"):
        table = proc("net", family)
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            fields = line.split()
            inode = {"unix": 6, "packet": -1, "netlink": -1}.get(family, 9)
            if fields[inode] in sockets:
                assert family in ("tcp", "tcp6"), f"a {family} socket: {line}"
                assert fields[3] == "0A", f"a TCP connection to elsewhere: {line}"
                address, port = fields[1].split(":")
                found.append((address, int(port, 16)))
                sockets.discard(fields[inode])
    assert not sockets, f"sockets of another kind: {sockets}"
    return found


def test_it_listens_on_loopback_only_and_has_no_other_socket(server):
    server.chat("Hi", max_tokens=1)
    assert wait_for(lambda: len(os.listdir(proc(server.pid, "fd"))) < 20, 5)
    loopback = {"0100007F": "127.0.0.1", "00000000000000000000000001000000": "::1"}

    def only_listeners():
        try:
            return listeners(server.pid)
        except AssertionError:
            return None  # the connection of the request before may still be closing

    found = wait_for(only_listeners, 15, step=0.5) or listeners(server.pid)
    assert found and all(address in loopback and port == server.port for address, port in found), found


def test_the_address_is_printed(server):
    assert server.url in server.log


def test_without_a_port_named_a_taken_8080_leads_to_the_next_free_one(bundle, tmp_path):
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(("127.0.0.1", 8080))
        taken.listen()
    except OSError:
        pass  # somebody else has it, which serves as well
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([bundle, "--nobrowser", "-c", "256"], stdout=out, stderr=subprocess.STDOUT, env=CLEAN, cwd=tmp_path)
    try:
        found = wait_for(lambda: re.search(r"http://(?:127\.0\.0\.1|localhost):(\d+)", log.read_text()), 15)
        assert found, log.read_text()
        assert 8081 <= int(found[1]) <= 8180
        assert "8080" in log.read_text(), "it says why"
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        taken.close()


def test_a_named_port_that_is_taken_is_an_error(bundle, server):
    done = run(bundle, "--nobrowser", "--port", server.port, ok=False)
    assert done.returncode == 1
    assert str(server.port) in done.stderr and "hint" in done.stderr


def test_sigterm_ends_it_cleanly_too(bundle, tmp_path):
    server = Server(bundle, "-c", "256", folder=tmp_path)
    server.process.terminate()
    assert server.process.wait(10) == 0


def test_ctrl_c_ends_it_in_the_middle_of_an_answer(bundle, tmp_path):
    server = Server(bundle, "-c", "2048", folder=tmp_path)
    events = server.events("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 2000})
    next(events)
    start = time.monotonic()
    server.stop()
    assert time.monotonic() - start < 5
    events.close()


def test_everything_can_lie_below_a_prefix(bundle, start):
    port = free_port()
    server = start(bundle, "-c", "256", "--api-prefix", "/tea", port=port, ready=None)
    assert wait_for(lambda: reached(server, "/tea/health") == 200, 20), server.log
    assert reached(server, "/tea/") == 200
    assert reached(server, "/tea/v1/models") == 200
    assert reached(server, "/v1/models") == 404


def reached(server: Server, path: str) -> int | None:
    try:
        return server.get(path).status
    except OSError:
        return None


# ---- what it leaves and takes


def tree(folder: Path) -> dict[str, tuple]:
    return {str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


def test_nothing_is_written_to_disk(bundle, tmp_path):
    home, cwd, temporary = (tmp_path / name for name in ("home", "cwd", "tmp"))
    for folder in (home, cwd, temporary):
        folder.mkdir()
    places = {"HOME": str(home), "TMPDIR": str(temporary), **{f"XDG_{n}_HOME": str(home / n) for n in ("CONFIG", "CACHE", "DATA", "STATE")}}
    beside = set(os.listdir(bundle.parent))
    server = Server(bundle, "-c", "512", folder=cwd, env=places)
    before = tree(cwd)
    server.chat("Hello there, candle.")
    server.get("/")
    for descriptor in proc(server.pid, "fd").iterdir():
        try:
            flags = int(re.search(r"flags:\s+(\d+)", proc(server.pid, "fdinfo", descriptor.name).read_text())[1], 8)
            target = os.readlink(descriptor)
        except FileNotFoundError:
            continue  # a connection that was closed meanwhile
        if target.startswith("/") and not target.startswith(("/dev/", str(server.log_path))):
            assert flags & os.O_ACCMODE == os.O_RDONLY, f"{target} is open for writing"
    server.stop()
    log = str(server.log_path.relative_to(cwd))
    assert {name: mark for name, mark in tree(cwd).items() if name != log} == {n: m for n, m in before.items() if n != log}
    assert tree(home) == {} and tree(temporary) == {}
    assert set(os.listdir(bundle.parent)) == beside


def test_it_runs_from_a_read_only_place_without_home_and_without_a_place_for_temporary_files(bundle):
    environment = {"PATH": "/nonexistent", "HOME": "/nonexistent", "TMPDIR": "/nonexistent"}
    done = run(bundle, *ONCE, env=environment, cwd="/")
    assert "Paris" in done.stdout


# ---- information, speed, terminal chat


def test_info_describes_the_file(bundle):
    text = run(bundle, "info").stdout
    for expected in ("llama", "SmolLM2", "135", "Q4_1"):
        assert re.search(expected, text, re.I), f"{expected} in:\n{text}"
    described = run(RUNTIME, "info", "--weights", SMOLLM2).stdout
    assert "llama" in described


def test_verify_says_that_the_bundle_is_whole(bundle):
    done = run(bundle, "verify")
    assert re.search(r"ok|verified|whole|every", done.stdout + done.stderr, re.I)


def test_bench_reports_speed_as_json(bundle):
    done = run(bundle, "bench", "-p", "32", "-n", "8", "-t", "2", "-r", "1", "--json")
    report = json.loads(done.stdout)
    for part, tokens in (("prompt", 32), ("generation", 8)):
        assert report[part]["tokens"] == tokens
        assert len(report[part]["tokens_per_second"]) == 1
        assert 1 < report[part]["tokens_per_second"][0] < 100_000


def test_bench_repeats_and_has_a_form_for_people(bundle):
    report = json.loads(run(bundle, "bench", "-p", "16", "-n", "4", "-r", "3", "--json").stdout)
    assert len(report["generation"]["tokens_per_second"]) == 3
    assert re.search(r"token|t/s", run(bundle, "bench", "-p", "16", "-n", "4", "-r", "1").stdout)


SHORT = ("-n", "20", "--temp", "0", "-c", "512", "-sys", "You are a helpful AI assistant.")


def test_terminal_chat_answers_and_ends_with_bye(bundle):
    done = run(bundle, "chat", *SHORT, input="What is the capital of France?\n/bye\n")
    assert "Paris" in done.stdout
    assert "<|" not in done.stdout


def test_terminal_chat_ends_at_the_end_of_its_input_and_knows_its_commands(bundle):
    done = run(bundle, "chat", *SHORT, input="/?\n/clear\n/nonsense\nHi\n")
    said = done.stdout + done.stderr
    assert "/bye" in said and "/clear" in said
    assert "/nonsense" in said, "an unknown command is named, not sent to the model"
