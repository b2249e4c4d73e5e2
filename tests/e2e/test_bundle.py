"""The bundle as a file: other programs open it, the same inputs give the same bytes, damage is found and named."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from harness import BUNDLER, CLEAN, ROOT, RUNTIME, SMOLLM2, bundle_of, run, wait_for


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def weights_sum() -> str:
    return sha256(SMOLLM2.read_bytes())


@pytest.fixture(scope="module")
def listing(bundle) -> dict:
    return json.loads(run(BUNDLER, "list", "--json", bundle).stdout)


def entry(listing: dict, role: str) -> dict:
    return next(one for one in listing["entries"] if one["role"] == role)


# ---- other programs


def test_unzip_finds_nothing_wrong(bundle):
    done = run("unzip", "-t", bundle)
    assert "No errors detected" in done.stdout
    assert "warning" not in (done.stdout + done.stderr).lower()


def test_unzip_takes_the_weights_out_unchanged(bundle, listing, weights_sum):
    done = run("unzip", "-p", bundle, entry(listing, "model")["name"], text=False)
    assert sha256(done.stdout) == weights_sum


def test_python_zipfile_reads_every_entry(bundle, listing, weights_sum):
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert sha256(archive.read(entry(listing, "model")["name"])) == weights_sum
        page = {info.filename for info in archive.infolist() if info.filename.startswith("web/")}
        assert {f"web/{path.name}" for path in (ROOT / "web").iterdir()} == page
        assert archive.read("web/index.html") == (ROOT / "web" / "index.html").read_bytes()
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest["runtime"] == {"bytes": RUNTIME.stat().st_size, "sha256": sha256(RUNTIME.read_bytes())}


def test_the_weights_lie_where_they_can_be_mapped_and_are_not_changed(bundle, listing):
    model = entry(listing, "model")
    assert model["offset"] % 65536 == 0
    with bundle.open("rb") as file:
        file.seek(model["offset"])
        assert file.read(4) == b"GGUF"


# ---- made again, changed, taken apart


def test_the_same_inputs_give_the_same_bytes(bundle, tmp_path):
    again = bundle_of(tmp_path, "again")
    assert sha256(again.read_bytes()) == sha256(bundle.read_bytes())
    again.unlink()


def test_a_bundle_is_executable_and_is_not_overwritten_without_force(bundle):
    assert os.access(bundle, os.X_OK)
    before = bundle.stat()
    done = run(BUNDLER, "--weights", SMOLLM2, "-o", bundle, "--runtime", RUNTIME, ok=False)
    assert done.returncode == 1
    assert "--force" in done.stderr and str(bundle) in done.stderr
    assert (bundle.stat().st_ino, bundle.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_set_changes_the_system_prompt_quickly_and_props_show_it(copy_of_bundle, start):
    begin = time.monotonic()
    run(BUNDLER, "set", copy_of_bundle, "--system-prompt", "Answer like a candle.", "--name", "Candle")
    assert time.monotonic() - begin < 1
    run(BUNDLER, "verify", copy_of_bundle)
    server = start(copy_of_bundle, "-c", "512")
    tealight = server.get("/props").json()["tealight"]
    assert tealight["system_prompt"] == "Answer like a candle."
    assert tealight["name"] == "Candle"


def test_set_back_and_forth_gives_the_first_bytes_again(bundle, copy_of_bundle):
    run(BUNDLER, "set", copy_of_bundle, "--system-prompt", "x" * 100_000)
    assert copy_of_bundle.stat().st_size > bundle.stat().st_size
    run(BUNDLER, "set", copy_of_bundle, "--no-system-prompt")
    assert sha256(copy_of_bundle.read_bytes()) == sha256(bundle.read_bytes())


def test_a_prompt_cache_is_used_where_it_fits_and_changes_no_answer(bundle, copy_of_bundle, start):
    prompt = "You are the keeper of a tea house. " + " ".join(f"Tea {i} costs {i * 7 % 90} coins." for i in range(40))
    question = {"messages": [{"role": "system", "content": prompt}, {"role": "user", "content": "What costs 7 coins?"}]}
    question |= {"max_tokens": 24, "temperature": 0, "logprobs": True}

    def log_of(said, *arguments):
        server = start(copy_of_bundle, "-c", "2048", *arguments)
        assert wait_for(lambda: said in server.log, 5), (said, server.log)
        server.process.terminate()
        server.process.wait()
        return server.log

    def asked(*arguments):
        server = start(copy_of_bundle, "-c", "2048", *arguments)
        answer = server.post("/v1/chat/completions", question).json()
        answers = [answer["choices"], server.post("/v1/chat/completions", question).json()["choices"]]
        cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        total = answer["usage"]["prompt_tokens"]
        server.process.terminate()
        server.process.wait()
        return answers, total - cached, total, server.log

    run(BUNDLER, "set", copy_of_bundle, "--system-prompt", prompt)
    (alone, _), computed, total, _ = asked()
    assert computed == total > 400
    before = copy_of_bundle.read_bytes()
    run(BUNDLER, "set", copy_of_bundle, "--prompt-cache")
    run(BUNDLER, "verify", copy_of_bundle)
    answers, computed, _, log = asked()
    assert answers == [alone, alone] and computed < 30 and "prompt cache" not in log, log
    # Of use to every instruction set, which gives the same answer to the last logprob. Of no use: SSE, which rounds in
    # another way, another type of cache, another prompt by flag.
    question["max_tokens"] = 6
    (alone, _), *_ = asked()
    answers, computed, _, log = asked("--isa", "scalar")
    assert answers == [alone, alone] and computed < 30 and "prompt cache" not in log, log
    unfused = [(["--isa", "sse"], "the arithmetic")] if platform.machine() == "x86_64" else []
    for arguments, said in [*unfused, (["-ctk", "q8_0"], "type of keys"), (["--system-prompt", "x"], "another system prompt")]:
        assert "prompt cache in this file is not used" in log_of(said, *arguments)
    listing = json.loads(run(BUNDLER, "list", "--json", copy_of_bundle).stdout)
    cache = entry(listing, "prompt-cache")
    for offset, verdict in [(cache["offset"] + 20, "is not used"), (cache["offset"] + cache["bytes"] // 2, "")]:
        flip(copy_of_bundle, offset)
        log_of(verdict, "-np", "4")
        done = run(BUNDLER, "verify", copy_of_bundle, ok=False)
        assert done.returncode == 1 and "prompt-cache.kv" in done.stderr, done.stderr
        flip(copy_of_bundle, offset)
    # Other settings take it away; so does its flag, which leaves the bytes from before.
    done = run(BUNDLER, "set", copy_of_bundle, "--no-prompt-cache")
    assert copy_of_bundle.read_bytes() == before
    run(BUNDLER, "set", copy_of_bundle, "--prompt-cache", "--system-prompt", "Answer in verse.")
    done = run(BUNDLER, "set", copy_of_bundle, "--system-prompt", "Answer in prose.")
    assert "prompt cache was made for the old settings" in done.stderr
    assert "prompt-cache" not in run(BUNDLER, "list", copy_of_bundle).stdout


def test_set_killed_at_any_moment_leaves_a_bundle_that_verifies(copy_of_bundle):
    for delay in (0, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032):
        command = [str(BUNDLER), "set", str(copy_of_bundle), "--system-prompt", f"{delay} " * 20_000]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=CLEAN)
        time.sleep(delay)
        process.kill()
        process.wait()
        assert "model" in run(BUNDLER, "list", copy_of_bundle).stdout
    run(BUNDLER, "set", copy_of_bundle, "--no-system-prompt")
    run(BUNDLER, "verify", copy_of_bundle)


def test_a_page_of_ones_own_is_served(copy_of_bundle, start, tmp_path):
    page = tmp_path / "page"
    shutil.copytree(ROOT / "web", page)
    (page / "index.html").write_text("<!doctype html><title>mine</title>My own page")
    run(BUNDLER, "set", copy_of_bundle, "--web", page)
    answer = start(copy_of_bundle, "-c", "256").get("/")
    assert b"My own page" in answer.body
    assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_extract_gives_back_what_went_in(bundle, listing, weights_sum, tmp_path):
    run(BUNDLER, "extract", bundle, "-o", tmp_path, "--runtime", entry(listing, "model")["name"], "web/style.css")
    assert sha256((tmp_path / entry(listing, "model")["name"]).read_bytes()) == weights_sum
    assert (tmp_path / "web/style.css").read_bytes() == (ROOT / "web/style.css").read_bytes()
    assert (tmp_path / "tealight").read_bytes() == RUNTIME.read_bytes()
    shutil.rmtree(tmp_path)


def test_a_chat_template_in_the_bundle_replaces_the_models_own(copy_of_bundle, start, tmp_path):
    template = tmp_path / "template.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}{% endfor %} The capital of France is")
    run(BUNDLER, "set", copy_of_bundle, "--chat-template", template)
    server = start(copy_of_bundle, "-c", "512")
    plain = server.post("/v1/completions", {"prompt": "Geography. The capital of France is", "temperature": 0, "max_tokens": 4})
    assert server.chat("Geography.", max_tokens=4)["choices"][0]["message"]["content"].strip() == plain.json()["choices"][0]["text"].strip()


@pytest.mark.parametrize(
    "template", ["{% for i in range(100000000) %}{% for j in range(100000000) %}x{% endfor %}{% endfor %}", "{{ nothing.at.all() }}", "{{ raise_exception('no tea') }}"], ids=["loops", "fails", "refuses"]
)
def test_a_template_that_loops_or_fails_is_an_error_and_not_the_end(copy_of_bundle, start, tmp_path, template):
    path = tmp_path / "template.jinja"
    path.write_text(template)
    run(BUNDLER, "set", copy_of_bundle, "--chat-template", path)
    server = start(copy_of_bundle, "-c", "256")
    begin = time.monotonic()
    answer = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1})
    assert 400 <= answer.status <= 500 and "template" in answer.error["message"].lower()
    assert time.monotonic() - begin < 10
    assert server.post("/v1/completions", {"prompt": "Hi", "max_tokens": 1}).status == 200


# ---- missing inputs, full disks, kills


@pytest.mark.parametrize("what", ["--weights", "--runtime", "--web", "--args", "--license", "--chat-template"])
def test_a_missing_input_is_named_and_leaves_nothing(tmp_path, what):
    arguments = {"--weights": SMOLLM2, "--runtime": RUNTIME, "-o": tmp_path / "out" / "chat"} | {what: tmp_path / "missing"}
    (tmp_path / "out").mkdir()
    done = run(BUNDLER, *(part for pair in arguments.items() for part in pair), ok=False)
    assert done.returncode == 1 and "missing" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "in.gguf").write_bytes(b"not a model" * 100)
    done = run(BUNDLER, "--weights", tmp_path / "in.gguf", "-o", tmp_path / "chat", "--runtime", RUNTIME, ok=False)
    assert done.returncode == 1 and "in.gguf" in done.stderr
    assert not (tmp_path / "chat").exists()


def test_a_file_size_limit_leaves_no_half_file(tmp_path):
    # As on FAT32 or a full disk: writing fails in the middle.
    command = f'trap "" XFSZ; ulimit -f 20000; exec "{BUNDLER}" --weights "{SMOLLM2}" -o "{tmp_path}/chat" --runtime "{RUNTIME}"'
    done = run("bash", "-c", command, ok=False)
    assert done.returncode == 1 and "cannot write" in done.stderr and "hint" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_half_file(tmp_path, kill):
    command = [str(BUNDLER), "--weights", str(SMOLLM2), "-o", str(tmp_path / "chat"), "--runtime", str(RUNTIME)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=CLEAN)
    end = time.monotonic() + 5
    while not any(path.stat().st_size for path in tmp_path.iterdir()) and time.monotonic() < end and process.poll() is None:
        pass
    process.send_signal(kill)
    code = process.wait(10)
    left = [path.name for path in tmp_path.iterdir()]
    assert left == ([] if code else ["chat"]), (code, left)


# ---- damage


def region(listing: dict, which: str) -> int:
    """A byte inside a region of the bundle."""
    model = entry(listing, "model")
    return {
        "the runtime": RUNTIME.stat().st_size // 2,
        "the head": entry(listing, "head")["offset"] + 20,
        "the weights": model["offset"] + model["bytes"] // 2,
        "the zip header of the weights": model["offset"] - len(model["name"]) - 20,
        "the page": entry(listing, "web")["offset"] + 5,
        "the directory": -150,
        "the end record": -10,
    }[which]


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
        at = file.tell()
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x40]))


@pytest.mark.parametrize(
    ("which", "named"),
    [
        ("the runtime", "runtime"),
        ("the head", "head"),
        ("the weights", ".gguf"),
        ("the zip header of the weights", ".gguf"),
        ("the page", "web/"),
        ("the directory", ""),
        ("the end record", ""),
    ],
)
def test_a_flipped_byte_in_any_region_is_found_and_named(copy_of_bundle, listing, which, named):
    flip(copy_of_bundle, region(listing, which))
    done = run(BUNDLER, "verify", copy_of_bundle, ok=False)
    assert done.returncode == 1
    assert str(copy_of_bundle) in done.stderr and named in done.stderr and "hint" in done.stderr, done.stderr
    # The other program that can verify a bundle, with all its code intact.
    flip(copy_of_bundle, region(listing, which))
    whole = copy_of_bundle.with_name("other")
    copy_of_bundle.rename(whole)
    run(BUNDLER, "verify", whole)
    flip(whole, region(listing, which))
    done = run(RUNTIME, "verify", "--weights", whole, ok=False)
    assert done.returncode == 1 and named in done.stderr, done.stderr
    whole.unlink()


def test_a_bundle_verifies_itself_and_finds_damage_in_its_weights(copy_of_bundle, listing):
    flip(copy_of_bundle, region(listing, "the weights"))
    done = run(copy_of_bundle, "verify", ok=False)
    assert done.returncode == 1
    assert entry(listing, "model")["name"] in done.stderr


@pytest.mark.parametrize("place", ["in the runtime's gap", "in the weights", "after the weights", "in the directory", "one byte short"])
def test_a_truncated_bundle_is_a_clear_error(copy_of_bundle, listing, place):
    size, model = copy_of_bundle.stat().st_size, entry(listing, "model")
    cut = {
        "in the runtime's gap": model["offset"] - 10,
        "in the weights": model["offset"] + model["bytes"] // 2,
        "after the weights": model["offset"] + model["bytes"] + 10,
        "in the directory": size - 200,
        "one byte short": size - 1,
    }[place]
    os.truncate(copy_of_bundle, cut)
    for done in (
        run(BUNDLER, "verify", copy_of_bundle, ok=False),
        run(copy_of_bundle, "verify", ok=False),
        run(copy_of_bundle, "-p", "Hi", "-n", "1", ok=False),
        run(RUNTIME, "--weights", copy_of_bundle, "-p", "Hi", "-n", "1", ok=False),
    ):
        assert done.returncode == 1, done.args
        assert copy_of_bundle.name in done.stderr and "hint" in done.stderr, (done.args, done.stderr)
        assert done.stdout == ""
