"""What is said of a computer, and before memory is short."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
from pathlib import Path

import pytest
from harness import CLEAN, RUNTIME, SMOLLM2, link, nowhere_to_write, run

SCREENLESS = {name: value for name, value in CLEAN.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")}


def report(program, *arguments, code=0, before=(), **more) -> dict:
    """The checks by name."""
    done = run(*before, program, "doctor", "--json", *arguments, ok=False, **more)
    assert done.returncode == code, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["runs"] == (code == 0)
    assert [c["name"] for c in found["checks"] if c["state"] == "problem"] == [] or code == 1
    return {check["name"]: check for check in found["checks"]}


def test_a_bundle_is_found_fit_and_everything_is_looked_at(bundle):
    done = run(bundle, "doctor", env=SCREENLESS)
    assert done.stdout.endswith("It runs here.\n") and done.stderr == ""
    names = "system processor threads memory gpu bundle weights medium quarantine writing port browser".split()
    for name in names:
        assert re.search(rf"^(ok|note) +{name} +\S", done.stdout, re.M), f"{name} in:\n{done.stdout}"
    found = report(bundle, env=SCREENLESS)
    assert sorted(found) == sorted(names)
    assert found["processor"]["isa"] in found["processor"]["available"]
    assert 1 <= found["threads"]["used"] <= found["threads"]["allowed"] == len(os.sched_getaffinity(0))
    memory = found["memory"]
    assert memory["weights_bytes"] == pytest.approx(SMOLLM2.stat().st_size, rel=0.05)
    assert memory["context"] == memory["context_train"] == 8192
    assert 0 < memory["available_bytes"] <= memory["total_bytes"]
    # 30 layers of 3 heads, 64 wide, keys and values of two bytes
    assert memory["cache_bytes_per_position"] == 30 * 3 * 64 * 2 * 2
    assert "gpu" in found and "CPU" in found["gpu"]["text"], "it says what computes"
    assert found["medium"]["execute_bit"] is True and found["medium"]["kind"]
    assert found["browser"]["state"] == "note" and "screen" in found["browser"]["text"]


def test_the_private_memory_it_announces_is_what_a_server_takes(bundle, start):
    said = report(bundle, "-c", "2048")["memory"]["private_bytes"]
    server = start(bundle, "-c", "2048")
    server.chat("tea " * 1800, max_tokens=1)
    taken = server.status("RssAnon")
    assert 0.4 * taken < said < 2.5 * taken, (said, taken)


def test_the_flags_of_serving_are_taken(bundle):
    found = report(bundle, "-c", "1000", "-t", "1", "--isa", "scalar", "--port", "0", "--nobrowser")
    assert found["memory"]["context"] == 1000
    assert found["threads"]["used"] == 1
    assert found["processor"]["isa"] == "scalar"
    assert "--nobrowser" in found["browser"]["text"]
    done = run(bundle, "doctor", "--ctx-sise", "5", ok=False)
    assert done.returncode == 2 and "--ctx-size" in done.stderr


def test_no_weights_are_a_problem_with_a_remedy(tmp_path):
    program = link(RUNTIME, tmp_path / "alone")
    found = report(program, code=1)
    assert found["weights"]["state"] == "problem" and "--weights" in found["weights"]["hint"]
    assert "problem" in run(program, "doctor", ok=False).stdout
    assert report(program, "-m", SMOLLM2)["weights"]["architecture"] == "llama"


def test_a_missing_and_a_wrong_weights_file_are_named(tmp_path):
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"GGUF" + bytes(100))
    for path in (tmp_path / "missing.gguf", wrong):
        found = report(RUNTIME, "-m", path, code=1)
        assert found["weights"]["state"] == "problem" and path.name in found["weights"]["text"]


def test_a_truncated_bundle_is_a_problem(copy_of_bundle):
    with copy_of_bundle.open("r+b") as file:
        file.truncate(copy_of_bundle.stat().st_size // 2)
    found = report(copy_of_bundle, code=1)
    assert found["bundle"]["state"] == "problem"


def test_the_port_that_would_be_used_is_said(bundle):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = report(bundle, "--port", port, code=1)
        assert found["port"]["state"] == "problem" and str(port) in found["port"]["text"] and found["port"]["hint"]
    assert report(bundle, "--port", port)["port"]["port"] == port


def test_the_browser_that_would_be_opened_is_said(bundle):
    assert "/bin/true" in report(bundle, env=SCREENLESS | {"DISPLAY": ":9", "BROWSER": "/bin/true"})["browser"]["text"]


def test_a_read_only_system_is_described_and_is_enough(bundle):
    found = report(bundle, before=nowhere_to_write())
    assert found["medium"]["read_only"] is True and "read-only" in found["medium"]["text"]
    assert found["writing"]["state"] == "ok"
    assert not any(found["writing"][place] for place in ("program_folder", "home", "temporary"))


# ---- memory, before it is needed


def test_a_context_that_no_memory_holds_is_an_error_with_numbers_and_a_way_out(bundle, start):
    for arguments in (("-p", "Hi", "-n", "1"), ("chat",)):
        done = run(bundle, *arguments, "-c", "1000000000", ok=False)
        assert done.returncode == 1 and done.stdout == ""
        assert re.search(r"1000000000 tokens needs 2\d\.\d TiB of memory, but this \w+ has .*[GM]iB", done.stderr), done.stderr
        hinted = re.search(r"hint: --ctx-size (\d+)", done.stderr)
        assert hinted
        assert report(bundle, "-c", hinted[1])["memory"]["context"] == int(hinted[1])
    found = report(bundle, "-c", "1000000000", code=1)["memory"]
    assert found["state"] == "problem" and "TiB" in found["text"] and "--ctx-size" in found["hint"]
    server = start(bundle, "-c", "1000000000", ready=503)
    assert "TiB" in server.get("/health").error["message"], "the page says it too"


@pytest.fixture(scope="module")
def long_memory(tmp_path_factory):
    """SmolLM2 that says it was trained on a billion positions."""
    path = tmp_path_factory.mktemp("long") / "long.gguf"
    data = bytearray(SMOLLM2.read_bytes())
    key = b"llama.context_length" + struct.pack("<I", 4)
    at = data.index(key) + len(key)
    assert struct.unpack_from("<I", data, at)[0] == 8192
    struct.pack_into("<I", data, at, 1 << 30)
    path.write_bytes(data)
    yield path
    path.unlink()


def test_a_context_that_nobody_asked_for_is_cut_to_the_memory_and_this_is_said(long_memory):
    done = run(RUNTIME, "-m", long_memory, "-p", "The capital of France is", "-n", "4", "--temp", "0")
    assert "Paris" in done.stdout
    said = re.search(r"note: the context is (\d+) tokens instead of 1073741824: .*\nhint: .*--ctx-size", done.stderr)
    assert said, done.stderr
    found = report(RUNTIME, "-m", long_memory)["memory"]
    assert found["state"] == "note" and 2048 <= found["context"] < 1 << 30
    assert found["weights_bytes"] + found["private_bytes"] <= found["available_bytes"]
    assert run(RUNTIME, "-m", long_memory, "-p", "Hi", "-n", "1", "--log-disable").stderr == ""
    assert report(RUNTIME, "-m", long_memory, "-c", "4096")["memory"]["context"] == 4096


def test_a_container_s_limit_counts(bundle):
    """A control group of our own with 64 MiB: less than the weights, so slow, and no false refusal."""
    root = Path("/sys/fs/cgroup/memory") if Path("/sys/fs/cgroup/memory").is_dir() else Path("/sys/fs/cgroup")
    name = "memory.limit_in_bytes" if root.name == "memory" else "memory.max"
    group = root / f"tealight-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / name).write_text(str(64 << 20))
    except OSError as error:
        pytest.skip(f"no control group of our own: {error}")
    try:
        enter = ["sh", "-c", f'echo $$ > "{group}/cgroup.procs" && exec "$@"', "sh"]
        found = report(bundle, before=enter)["memory"]
        assert found["limited"] is True and found["total_bytes"] == 64 << 20
        assert found["state"] == "note" and "read from the disk again" in found["text"] and found["hint"]
        done = run(*enter, bundle, "-p", "The capital of France is", "-n", "2", "--temp", "0")
        assert "warning: the weights take" in done.stderr
        assert run(*enter, bundle, "-p", "Hi", "-n", "1", "-c", "8000", ok=False).returncode == 1
    finally:
        group.rmdir()
