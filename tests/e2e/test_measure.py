"""The commands that measure: tokens of a text, and how well a model predicts it."""

from __future__ import annotations

import json

import pytest
from harness import MODELS, ROOT, RUNTIME, SMOLLM2, run

GEMMA = MODELS / "gemma-3-270m-q4_k_m.gguf"


def golden(model):
    return json.loads((ROOT / "tests" / "golden" / f"{model.stem}.json").read_text())


def ids(*arguments, **more) -> list[int]:
    return json.loads(run(RUNTIME, "tokenize", "--ids", *arguments, **more).stdout)


# ---- tokenize


@pytest.mark.parametrize("model", [SMOLLM2, GEMMA], ids=["bpe", "spm"])
def test_the_ids_are_the_references(model):
    for case in golden(model)["tokenize"]:
        text = {"input": case["text"].encode(), "text": False}
        assert ids("-m", model, "--stdin", **text) == case["special"]
        assert ids("-m", model, "-f", "-", "--no-bos", "--no-parse-special", **text) == case["plain"]


def test_each_token_is_shown_with_its_bytes(tmp_path):
    text = tmp_path / "text"
    text.write_bytes("Hi 👍\n".encode())
    done = run(RUNTIME, "tokenize", "-m", SMOLLM2, "-f", text, "--show-count", text=False)
    *lines, count = done.stdout.removesuffix(b"\n").replace(b"'\n'", b"'LINE'").split(b"\n")
    assert lines[0] == b" 26843 -> 'Hi'"
    pieces = [line.split(b"'", 1)[1].removesuffix(b"'") for line in lines]
    assert b"".join(pieces).replace(b"LINE", b"\n") == text.read_bytes()
    assert count == b"Total number of tokens: %d" % len(lines)


def test_a_vocabulary_without_weights_is_enough(tmp_path):
    data = SMOLLM2.read_bytes()[: 16 << 20]
    vocabulary = tmp_path / "vocab.gguf"
    vocabulary.write_bytes(data[:8] + bytes(8) + data[16:])
    assert ids("-m", vocabulary, "-p", "Hello") == ids("-m", SMOLLM2, "-p", "Hello")


def test_a_bundle_tokenizes_with_its_own_vocabulary(bundle):
    own = json.loads(run(bundle, "tokenize", "--ids", "-p", "a\\nb").stdout)
    assert own == ids("-m", bundle, "-p", "a\\nb")
    assert own != ids("-m", bundle, "-e", "-p", "a\\nb")


def test_a_second_begin_token_is_told():
    done = run(RUNTIME, "tokenize", "-m", GEMMA, "-p", "<bos>a", "--ids")
    assert done.stdout.startswith("[2, 2, ") and "two" in done.stderr
    assert run(RUNTIME, "tokenize", "-m", GEMMA, "-p", "<bos>a", "--no-bos").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "--stdin"),
        (("-p", "x", "--stdin"), 2, "--stdin"),
        (("-p", "x", "-m", "/does/not/exist"), 1, "/does/not/exist"),
        (("-p", "x", "-m", __file__), 1, "expected a GGUF file"),
        (("-f", "/does/not/exist", "-m", SMOLLM2), 1, "/does/not/exist"),
        (("-f", RUNTIME, "-m", SMOLLM2), 1, "UTF-8"),
    ],
)
def test_what_cannot_be_tokenized_is_named(arguments, code, said):
    done = run(RUNTIME, "tokenize", *arguments, ok=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
