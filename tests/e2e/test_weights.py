"""Where weights come from, that they are mapped and never copied, and what is said when they are missing or damaged."""

from __future__ import annotations

import fcntl
import shutil
import struct
import subprocess
import time

import pytest
from harness import BUNDLER, CONTEXT, MODELS, RUNTIME, SMOLLM2, bundle_of, link, proc, run, wait_for
from split_gguf import split

PROMPT = ("-p", "The three primary colours are", "-n", "24", "--temp", "0", "-c", "256")
MIB = 1 << 20


@pytest.fixture(scope="module")
def expected(bundle) -> str:
    text = run(bundle, *PROMPT).stdout
    assert len(text) > 20
    return text


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("split")
    yield split(SMOLLM2, folder, 3)
    shutil.rmtree(folder)


# ---- where they come from


def test_a_gguf_file_named_by_a_flag_or_the_environment_is_used(expected):
    assert run(RUNTIME, "--weights", SMOLLM2, *PROMPT).stdout == expected
    assert run(RUNTIME, "-m", SMOLLM2, *PROMPT).stdout == expected
    assert run(RUNTIME, *PROMPT, env={"LLAMA_ARG_MODEL": str(SMOLLM2)}).stdout == expected


def test_another_bundle_can_be_the_weights(bundle, expected):
    assert run(RUNTIME, "--weights", bundle, *PROMPT).stdout == expected


def test_a_start_beside_set_waits_and_then_says_why_it_does_not_start(copy_of_bundle, expected):
    with copy_of_bundle.open("r+b") as changing:
        fcntl.flock(changing, fcntl.LOCK_EX)
        began = time.monotonic()
        for command in (("-m", copy_of_bundle, *PROMPT), ("doctor", "-m", copy_of_bundle)):
            done = run(RUNTIME, *command, ok=False)
            said = done.stderr + done.stdout
            assert done.returncode == 1 and "is being changed by `tealight-bundle set`" in said, said
        assert time.monotonic() - began > 5
        waiting = subprocess.Popen([RUNTIME, "-m", copy_of_bundle, *PROMPT], stdout=subprocess.PIPE, text=True)
        time.sleep(0.5)
    assert waiting.communicate(timeout=60)[0] == expected


def test_a_bundle_that_another_program_serves_can_be_changed(copy_of_bundle, start):
    server = start(RUNTIME, "-m", copy_of_bundle, "-c", "256")
    before = server.chat("Hello", temperature=0, max_tokens=8)["choices"]
    run(BUNDLER, "set", copy_of_bundle, "--name", "Tea", "--no-web")
    assert server.chat("Hello", temperature=0, max_tokens=8)["choices"] == before
    run(BUNDLER, "verify", copy_of_bundle)


def test_a_gguf_of_the_programs_own_name_beside_it_is_found(tmp_path, expected):
    program = link(RUNTIME, tmp_path / "tea")
    (tmp_path / "tea.gguf").symlink_to(SMOLLM2)
    assert run(program, *PROMPT).stdout == expected


def test_a_pair_made_by_the_bundler_works(tmp_path, expected):
    program = bundle_of(tmp_path, "tea", "--pair")
    assert (tmp_path / "tea.gguf").stat().st_size == SMOLLM2.stat().st_size
    assert program.stat().st_size < SMOLLM2.stat().st_size
    assert run(program, *PROMPT).stdout == expected
    run(program, "verify")
    shutil.rmtree(tmp_path)


def test_a_split_gguf_gives_the_same_text_from_whichever_part_is_named(parts, expected):
    for part in parts:
        assert run(RUNTIME, "--weights", part, *PROMPT).stdout == expected


def test_a_split_gguf_can_be_bundled(parts, tmp_path, expected):
    program = bundle_of(tmp_path, "tea", weights=parts[0])
    run(program, "verify")
    assert run(program, *PROMPT).stdout == expected
    program.unlink()


def test_a_file_is_a_part_because_it_says_so_and_not_by_its_name(parts, tmp_path, expected):
    whole = tmp_path / "tea-00001-of-00003.gguf"
    whole.symlink_to(SMOLLM2)
    assert run(RUNTIME, "--weights", whole, *PROMPT).stdout == expected
    names = ["first.gguf", "second (1).gguf", "last.GGUF"]
    for part, name in zip(parts, names):
        link(part, tmp_path / name)
    for name in names:
        assert run(RUNTIME, "--weights", tmp_path / name, *PROMPT).stdout == expected
    program = bundle_of(tmp_path, "tea", weights=tmp_path / names[1])
    assert run(program, *PROMPT).stdout == expected
    program.unlink()


def test_a_missing_part_is_named(parts, tmp_path):
    for part in (parts[0], parts[2]):
        link(part, tmp_path / part.name)
    for done in (
        run(RUNTIME, "--weights", tmp_path / parts[0].name, *PROMPT, ok=False),
        run(BUNDLER, "--weights", tmp_path / parts[0].name, "-o", tmp_path / "tea", "--runtime", RUNTIME, ok=False),
    ):
        assert done.returncode == 1
        assert parts[1].name in done.stderr, done.stderr
    assert not (tmp_path / "tea").exists()


def test_the_flag_beats_what_is_in_the_bundle(bundle, tmp_path):
    done = run(bundle, "--weights", tmp_path / "missing.gguf", *PROMPT, ok=False)
    assert done.returncode == 1
    assert "missing.gguf" in done.stderr


@pytest.mark.parametrize(
    ("file", "prompt", "said"),
    [
        ("gemma-3-270m-q4_k_m.gguf", "1, 2, 3, 4, 5,", " 6, 7, 8"),
        ("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "# Python\ndef add(a, b):\n", "return a + b"),
    ],
)
def test_other_models_run_too(file, prompt, said):
    done = run(RUNTIME, "-m", MODELS / file, "-p", prompt, "-n", "16", "--temp", "0", "-c", "256", timeout=120)
    assert said in done.stdout


# ---- without any


def test_without_weights_the_page_is_served_and_says_so(start):
    server = start(RUNTIME, ready=503)
    error = server.get("/health").error
    assert error["type"] == "no_weights"
    assert ".gguf" in error["message"] and "--weights" in error["message"]
    assert server.get("/").status == 200
    answer = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]})
    assert (answer.status, answer.error["type"]) == (503, "no_weights")
    assert "--weights" in server.log and server.url in server.log


def test_without_weights_a_prompt_is_an_error_that_says_how_to_get_some(tmp_path):
    program = link(RUNTIME, tmp_path / "alone")
    for arguments in (PROMPT, ("chat",), ("bench", "-p", "8", "-n", "1", "-r", "1")):
        done = run(program, *arguments, ok=False)
        assert done.returncode == 1, arguments
        assert "--weights" in done.stderr, arguments
        assert done.stdout == ""
    assert "none" in run(program, "info").stdout


# ---- mapped, not copied


def test_the_weights_are_mapped_and_not_copied(bundle, start):
    server = start(bundle, "-c", CONTEXT)
    cache = CONTEXT * 30 * 2 * 3 * 64 * 2  # positions × layers × (keys and values) × heads × width × f16
    assert server.status("RssAnon") < 64 * MIB + cache
    server.chat("Tell me about candles.", max_tokens=32)
    assert server.status("RssAnon") < 64 * MIB + cache
    assert str(bundle) in proc(server.pid, "maps").read_text()


def test_the_page_answers_before_the_weights_are_read(bundle, start):
    server = start(bundle, "-c", "512", ready=None)

    def page():
        try:
            return server.get("/").status == 200
        except OSError:
            return False

    assert wait_for(page, 5, step=0.01)
    # What is in the page cache of the system is not ours; what we have touched is.
    assert server.status("VmRSS") < SMOLLM2.stat().st_size
    assert server.get("/health").status in (200, 503)
    server.wait(200)


# ---- damaged


def write(folder, data: bytes):
    path = folder / "damaged.gguf"
    path.write_bytes(data)
    return path


def header(tensors=1, keys=0, rest=b"") -> bytes:
    return struct.pack("<4sIQQ", b"GGUF", 3, tensors, keys) + rest


def name(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


HOSTILE = {
    "empty": b"",
    "one byte": b"G",
    "magic only": b"GGUF",
    "another format": b"PK\x03\x04" + b"\0" * 100,
    "garbage": bytes(range(256)) * 64,
    "version 99": struct.pack("<4sIQQ", b"GGUF", 99, 0, 0),
    "big-endian": struct.pack(">4sIQQ", b"GGUF", 3, 1, 1),
    "no tensors, no keys": header(0, 0),
    "2^63 tensors": header(2**63, 0),
    "2^63 keys": header(0, 2**63),
    "a key of 2^60 bytes": header(0, 1, struct.pack("<Q", 2**60)),
    "an unknown type": header(0, 1, name("general.x") + struct.pack("<I", 77)),
    "an array of 2^60 strings": header(0, 1, name("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2**60)),
    "nested arrays": header(0, 1, name("x") + struct.pack("<IIQ", 9, 9, 1) * 1000),
    "a tensor of 2^62 elements": header(1, 0, name("token_embd.weight") + struct.pack("<IQQIQ", 2, 2**31, 2**31, 0, 0)),
    "a tensor of 1000 dimensions": header(1, 0, name("token_embd.weight") + struct.pack("<I", 1000) + b"\1" * 8000),
    "a tensor at 2^63": header(1, 0, name("token_embd.weight") + struct.pack("<IQIQ", 1, 32, 0, 2**63)),
    "an alignment of 0": header(0, 1, name("general.alignment") + struct.pack("<II", 4, 0)),
    "an unknown architecture": header(0, 1, name("general.architecture") + struct.pack("<I", 8) + name("telepathy")),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_gguf_is_a_clear_error(tmp_path, what):
    path = write(tmp_path, HOSTILE[what])
    for arguments in (PROMPT, ("info",)):
        done = run(RUNTIME, *arguments, "--weights", path, ok=False, timeout=10)
        if arguments == ("info",) and done.returncode == 0:
            # A well-formed file of an architecture that is not known can be described.
            assert "supported   no: " in done.stdout and "hint" in done.stdout, done.stdout
            continue
        assert done.returncode == 1
        assert str(path) in done.stderr and "hint" in done.stderr, done.stderr
        assert done.stdout == ""
    done = run(BUNDLER, "--weights", path, "-o", tmp_path / "tea", "--runtime", RUNTIME, ok=False, timeout=10)
    # The bundler does not know architectures: a well-formed file is taken.
    assert done.returncode == (0 if what in ("no tensors, no keys", "an unknown architecture") else 1)
    if done.returncode:
        assert str(path) in done.stderr
        assert not (tmp_path / "tea").exists()


@pytest.mark.parametrize("share", [0.00001, 0.001, 0.01, 0.02, 0.5, 0.99, 0.999999])
def test_a_truncated_gguf_is_a_clear_error(tmp_path, share):
    data = SMOLLM2.read_bytes()
    path = write(tmp_path, data[: int(len(data) * share)])
    for arguments in (PROMPT, ("info",)):
        done = run(RUNTIME, *arguments, "--weights", path, ok=False, timeout=10)
        assert done.returncode == 1
        assert str(path) in done.stderr and "hint" in done.stderr, done.stderr
    path.unlink()


def test_flipped_bytes_in_the_header_never_crash(tmp_path):
    """Each either works or is an error; none panics, hangs, or takes much memory."""
    data = bytearray(SMOLLM2.read_bytes())
    ends = 1_700_000  # metadata and tensor list of this file, about
    for number in range(24):
        offset = 4 + (number * 70_657) % ends if number else 8
        copy = bytearray(data)
        copy[offset] ^= 0xFF
        path = write(tmp_path, copy)
        done = run("bash", "-c", f'ulimit -v 4000000; exec "{RUNTIME}" --weights "{path}" -p Hi -n 2 -c 64', ok=False, timeout=20)
        assert done.returncode in (0, 1), (offset, done.returncode, done.stderr)
        if done.returncode:
            assert str(path) in done.stderr, (offset, done.stderr)
    path.unlink()


@pytest.mark.parametrize("tensor", ["blk.5.ffn_up.weight", "token_embd.weight", "output_norm.weight"])
def test_a_missing_or_renamed_tensor_is_named(tmp_path, tensor):
    data = SMOLLM2.read_bytes()
    assert tensor.encode() in data[:3_000_000]
    path = write(tmp_path, data.replace(tensor.encode(), tensor.replace("w", "v").encode(), 1))
    done = run(RUNTIME, "--weights", path, *PROMPT, ok=False)
    assert done.returncode == 1
    assert str(path) in done.stderr and (tensor in done.stderr or tensor.replace("w", "v") in done.stderr), done.stderr
    path.unlink()


def test_a_server_with_damaged_weights_says_why_in_the_terminal_and_in_the_page(tmp_path, start):
    """It goes on, for who started it by a double click sees the page and no terminal."""
    path = write(tmp_path, SMOLLM2.read_bytes()[:50_000_000])
    server = start(RUNTIME, "--weights", path, ready=503)
    for said in (wait_for(lambda: server.log if "error" in server.log else "", 5), server.get("/health").error["message"]):
        assert str(path) in said and "hint" in said
    assert server.get("/").status == 200
    path.unlink()
