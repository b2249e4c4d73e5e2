"""The commands that measure: tokens of a text, and how well a model predicts it."""

from __future__ import annotations

import ast
import json
import math
import struct
from array import array

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


def test_each_line_may_be_a_text_of_its_own():
    texts = ["a\nb", "", "né\u2028e"]
    done = run(RUNTIME, "tokenize", "-m", GEMMA, "--stdin", "--json-lines", input="".join(json.dumps(t) + "\n" for t in texts))
    assert [json.loads(line) for line in done.stdout.splitlines()] == [ids("-m", GEMMA, "-p", text) for text in texts]
    done = run(RUNTIME, "tokenize", "-m", GEMMA, "--stdin", "--json-lines", input='"a"\n{}\n', ok=False)
    assert done.returncode == 1 and "line 2" in done.stderr


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


# ---- perplexity

# A tiny random model without a vocabulary, and the reference's logits for these tokens.
TINY = ROOT / "tests" / "golden" / "tiny" / "llama.gguf"
TOKENS = [(7 * i + 3) % 40 for i in range(64)]


def perplexity(*arguments, model=TINY, ids=None) -> dict:
    ids = TOKENS if ids is None else ids
    done = run(RUNTIME, "perplexity", "-m", model, "--token-ids", ",".join(map(str, ids)), "--json", *arguments)
    return json.loads(done.stdout)


def rows(path) -> list[array]:
    """The rows of a .npy file, which has to be in NumPy's format 1.0."""
    data = path.read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00"
    end = 10 + struct.unpack_from("<H", data, 8)[0]
    assert end % 64 == 0
    header = ast.literal_eval(data[10:end].decode())
    assert (header["descr"], header["fortran_order"]) == ("<f4", False)
    count, width = header["shape"]
    values = array("f", data[end:])
    assert len(values) == count * width
    return [values[i : i + width] for i in range(0, len(values), width)]


def surprise(logits, token) -> float:
    return math.log(sum(math.exp(x - logits[token]) for x in logits))


def test_the_logits_are_the_references(tmp_path):
    out = tmp_path / "logits.npy"
    perplexity("--logits-out", out, "-ctk", "f32", "-ctv", "f32")
    expected = array("f", TINY.with_suffix(".logits").read_bytes())
    ours = [x for row in rows(out) for x in row]
    assert max(abs(a - b) for a, b in zip(ours, expected, strict=True)) <= 1e-3


@pytest.mark.parametrize("keys", ["f16", "bf16", "q8_0"])
@pytest.mark.parametrize("values", ["f32", "q8_0"])
def test_a_smaller_cache_loses_little(keys, values):
    """More than two steps of growth; the reference's own q8_0 changes perplexity by as little."""
    tokens = ids("-m", SMOLLM2, "-f", ROOT / "README.md", "--no-parse-special")[:600]
    exact = perplexity("-ctk", "f32", "-ctv", "f32", model=SMOLLM2, ids=tokens)
    found = perplexity("-ctk", keys, "-ctv", values, model=SMOLLM2, ids=tokens)
    assert found["perplexity"] == pytest.approx(exact["perplexity"], rel=0.02)
    assert found["perplexity"] != exact["perplexity"]


@pytest.mark.parametrize("batch", ["7", "128"])
def test_one_chunk_counts_every_token_but_the_first(tmp_path, batch):
    out = tmp_path / "logits.npy"
    found = perplexity("--logits-out", out, "-b", batch)
    logits = rows(out)
    mean = sum(surprise(logits[i], TOKENS[i + 1]) for i in range(63)) / 63
    assert (found["tokens"], found["scored"], found["chunks"], found["context"]) == (64, 63, 1, 64)
    assert found["mean_nll"] == pytest.approx(mean, abs=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(mean), rel=1e-5)
    assert found == perplexity("-b", batch)


def test_of_several_chunks_the_second_halves_count(tmp_path):
    out = tmp_path / "logits.npy"
    ids = TOKENS[:50]
    found = perplexity("-c", "16", "--logits-out", out, ids=ids)
    logits = rows(out)
    assert len(logits) == 50
    places = [16 * chunk + i for chunk in range(3) for i in range(8, 15)]
    mean = sum(surprise(logits[i], ids[i + 1]) for i in places) / len(places)
    assert (found["scored"], found["context"]) == (21, 16)
    assert found["mean_nll"] == pytest.approx(mean, abs=1e-5)
    # Each chunk begins anew.
    alone = tmp_path / "alone.npy"
    perplexity("--logits-out", alone, ids=ids[32:48])
    assert rows(alone) == logits[32:48]
    assert perplexity("-c", "16", ids=ids)["mean_nll"] == found["mean_nll"]


def test_a_text_is_measured_as_its_tokens_are(tmp_path):
    text = tmp_path / "text"
    text.write_text("A candle burns because wax melts. " * 8)
    tokens = ids("-m", SMOLLM2, "-f", text, "--no-parse-special")
    said = run(RUNTIME, "perplexity", "-m", SMOLLM2, "-f", text).stdout
    found = perplexity(model=SMOLLM2, ids=tokens)
    assert f"Final estimate: PPL = {found['perplexity']:.4f} +/- {found['standard_error']:.5f}" in said


def test_logits_overwrite_only_their_like(tmp_path):
    out = tmp_path / "logits.npy"
    perplexity("--logits-out", out)
    perplexity("--logits-out", out, ids=TOKENS[:5])
    assert len(rows(out)) == 5
    other = tmp_path / "precious.gguf"
    other.write_bytes(b"GGUF")
    done = run(RUNTIME, "perplexity", "-m", TINY, "--token-ids", "1,2", "--logits-out", other, ok=False)
    assert done.returncode == 1 and str(other) in done.stderr
    assert other.read_bytes() == b"GGUF"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "--token-ids"),
        (("--token-ids", "1,2", "-f", __file__), 2, "--token-ids"),
        (("--token-ids", "1,x"), 1, "`x` at position 1"),
        (("--token-ids", "1"), 1, "at least 2"),
        (("--token-ids", "1,40"), 1, "token 1 is 40, expected ids below 40"),
        (("--token-ids", "@/does/not/exist"), 1, "/does/not/exist"),
        (("--token-ids", "1,2", "-c", "1"), 1, "--ctx-size"),
        (("--token-ids", "1,2", "-b", "0"), 2, "--batch-size"),
        (("--token-ids", "1,2", "-ctk", "q9"), 2, "--cache-type-k"),
        (("--token-ids", "1,2", "--logits-out", "/does/not/exist/x.npy"), 1, "/does/not/exist/x.npy"),
        (("-f", __file__), 1, "vocabulary"),
    ],
)
def test_what_cannot_be_measured_is_named(arguments, code, said):
    done = run(RUNTIME, "perplexity", "-m", TINY, *arguments, ok=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
