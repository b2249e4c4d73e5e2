"""How near this program's numbers are to llama.cpp's, measured: prints the tables of docs/fidelity.md.

    make fidelity                              # everything; sets up the reference in .venv-reference first
    make fidelity ARGS="tokenizers --vocabularies FOLDER"

`models`: the real models on the first 4,000 tokens of `text.txt`, in chunks of 1,024 that begin anew, both programs
with their defaults (a cache in f16). Of each position both give the logits of the whole vocabulary. Beside the two
stands exact arithmetic: the same weights as F32 (dequantized by the `gguf` package), run by the reference with a cache
in F32. It says whose error a difference is: both programs round activations to 8 bits, each in an order of its own.
How much such an order matters shows the reference beside itself, one token at a time.

`tiny`: tiny random models of every family in F32, against the logits kept in tests/golden/tiny.

`tokenizers`: the lines of tests/golden/tokenizers.py, on the real models, on tiny vocabularies, and on those in
FOLDER, such as llama.cpp's own models/ggml-vocab-*.gguf.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
TEXT = Path(__file__).with_name("text.txt")
RUNTIME = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "tealight"
GOLDEN = ROOT / "tests" / "golden"
PAGE = ROOT / "docs" / "fidelity.md"
MODELS = ["smollm2-135m-instruct-q4_1", "qwen2.5-coder-0.5b-instruct-q4_k_m", "gemma-3-270m-q4_k_m"]
TOKENS = 4000
CHUNK = 1024
TABLES: list[str] = []
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="models|tiny|tokenizers", help="which tables (default: all)")
    parser.add_argument("--write", action="store_true", help="rewrite the tables of docs/fidelity.md")
    parser.add_argument("--model", action="append", metavar="NAME", help="only this model of models/")
    parser.add_argument("--vocabularies", type=Path, metavar="FOLDER", help="GGUF files to tokenize with as well")
    args = parser.parse_args()
    known = {"models": lambda: models(args.model or MODELS), "tiny": tiny, "tokenizers": lambda: tokenizers(args.vocabularies)}
    if wrong := [part for part in args.parts if part not in known]:
        parser.error(f"{wrong[0]}: expected one of {', '.join(known)}")
    if not RUNTIME.is_file():
        print(f"error: {RUNTIME} is missing\nhint: cargo build --release", file=sys.stderr)
        return 1
    silence()
    for part in args.parts or known:
        TABLES.clear()
        known[part]()
        TABLES.append(f"Against llama-cpp-python {llama_cpp.__version__}.\n")
        print("\n".join(TABLES), flush=True)
        if args.write:
            rewrite(part, "\n".join(TABLES))
    return 0


def rewrite(part: str, tables: str) -> None:
    begin, end = f"<!-- {part} -->\n", f"<!-- /{part} -->\n"
    text = PAGE.read_text()
    head, rest = text.split(begin)
    PAGE.write_text(f"{head}{begin}\n{tables}\n{end}{rest.split(end)[1]}")


# ---- real models


def models(names: list[str]) -> None:
    rows, errors = [], []
    for name in names:
        path = ROOT / "models" / f"{name}.gguf"
        if not path.is_file():
            raise SystemExit(f"error: {path} is missing\nhint: python3 tools/models.py get tests")
        with tempfile.TemporaryDirectory(prefix="fidelity-") as folder:
            compare_model(path, Path(folder), rows, errors)
    table("model tokens ours theirs difference mean~KL max~KL same~top~token mean~Δlogit", rows)
    table("model compared mean~KL max~KL same~top~token mean~Δlogit", errors)


def compare_model(path: Path, folder: Path, rows: list, errors: list) -> None:
    chunks = tokens(path)
    say(f"{path.name}: {sum(map(len, chunks))} tokens in {len(chunks)} chunks")
    ours = Logits.ours(path, chunks, folder / "ours.npy")
    theirs = Logits.theirs(path, chunks, folder / "theirs.npy", cache=llama_cpp.GGML_TYPE_F16)
    between = Distance(theirs, ours, chunks)
    a, b = ours.perplexity(chunks), theirs.perplexity(chunks)
    rows.append([path.stem, sum(map(len, chunks)), f"{a:.3f}", f"{b:.3f}", f"{100 * (a / b - 1):+.2f}%", *between.cells()])
    single = Logits.theirs(path, chunks, folder / "single.npy", cache=llama_cpp.GGML_TYPE_F16, batch=1)
    errors.append([path.stem, "theirs token by token, from theirs in batches", *Distance(theirs, single, chunks).cells()])
    single.drop()
    whole = folder / "f32.gguf"
    dequantize(path, whole)
    exact = Logits.theirs(whole, chunks, folder / "exact.npy", cache=llama_cpp.GGML_TYPE_F32)
    errors.append(["", "ours, from exact", *Distance(exact, ours, chunks).cells()])
    errors.append(["", "theirs, from exact", *Distance(exact, theirs, chunks).cells()])
    ours.drop(), theirs.drop()
    on_f32 = Logits.ours(whole, chunks, folder / "ours-f32.npy", "-ctk", "f32", "-ctv", "f32")
    errors.append(["", "ours on F32, from exact", *Distance(exact, on_f32, chunks).cells()])


def tokens(path: Path) -> list[list[int]]:
    """The text's tokens in chunks, each with BOS before it where the model wants one."""
    ids = json.loads(run("tokenize", "-m", path, "-f", TEXT, "--ids", "--no-bos", "--no-parse-special"))[:TOKENS]
    llm = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    assert ids == llm.tokenize(TEXT.read_bytes(), add_bos=False, special=False)[:TOKENS], "the two tokenize differently"
    vocab = llama_cpp.llama_model_get_vocab(llm.model)
    bos = [llama_cpp.llama_vocab_bos(vocab)] if llama_cpp.llama_vocab_get_add_bos(vocab) else []
    size = CHUNK - len(bos)
    return [bos + ids[start : start + size] for start in range(0, len(ids), size)]


class Logits:
    """The logits of all positions, in a file: those of a large vocabulary need gigabytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = np.load(path, mmap_mode="r")

    @classmethod
    def ours(cls, model: Path, chunks: list[list[int]], out: Path, *more: str) -> Logits:
        ids = out.with_suffix(".ids")
        ids.write_text(json.dumps([token for chunk in chunks for token in chunk]))
        report = run("perplexity", "-m", model, "--token-ids", f"@{ids}", "-c", CHUNK, "--json", "--logits-out", out, *more)
        logits = cls(out)
        # What the program says of itself is what its logits say.
        said, first = json.loads(report)["mean_nll"], CHUNK // 2
        whole = [(i * CHUNK, chunk) for i, chunk in enumerate(chunks) if len(chunk) == CHUNK]
        scored = [surprise(logits.rows[at + i], chunk[i + 1]) for at, chunk in whole for i in range(first, CHUNK - 1)]
        assert math.isclose(said, np.mean(scored), rel_tol=1e-5), (said, np.mean(scored))
        return logits

    @classmethod
    def theirs(cls, model: Path, chunks: list[list[int]], out: Path, cache: int, batch: int = 512) -> Logits:
        llm = llama_cpp.Llama(str(model), n_ctx=CHUNK, n_batch=512, n_threads=THREADS, n_threads_batch=THREADS, logits_all=True,
                              type_k=cache, type_v=cache, flash_attn=False, verbose=False)
        shape = (sum(map(len, chunks)), llm.n_vocab())
        rows = np.lib.format.open_memmap(out, mode="w+", dtype="<f4", shape=shape)
        at = 0
        for chunk in chunks:
            llm.reset()
            for start in range(0, len(chunk), batch):
                llm.eval(chunk[start : start + batch])
            rows[at : at + len(chunk)] = llm.scores[: len(chunk)]
            at += len(chunk)
        rows.flush()
        del rows
        llm.close()
        return cls(out)

    def perplexity(self, chunks: list[list[int]]) -> float:
        """Of every token but the first of each chunk."""
        nll, at = [], 0
        for chunk in chunks:
            nll += [surprise(self.rows[at + i], token) for i, token in enumerate(chunk[1:])]
            at += len(chunk)
        return math.exp(np.mean(nll))

    def drop(self) -> None:
        del self.rows
        self.path.unlink()


class Distance:
    """How far `other` is from `base`, over all positions."""

    def __init__(self, base: Logits, other: Logits, chunks: list[list[int]]) -> None:
        kl, same, change = [], 0, []
        for p, q in zip(base.rows, other.rows, strict=True):
            logp, logq = log_softmax(p), log_softmax(q)
            kl.append(float(np.sum(np.exp(logp) * (logp - logq))))
            same += int(p.argmax() == q.argmax())
            change.append(float(np.mean(np.abs(p.astype(np.float64) - q))))
        self.mean, self.most = np.mean(kl), max(kl)
        self.same, self.change = same / len(kl), np.mean(change)

    def cells(self) -> list[str]:
        return [f"{self.mean:.2g}", f"{self.most:.2g}", f"{100 * self.same:.2f}%", f"{self.change:.2g}"]


def log_softmax(row: np.ndarray) -> np.ndarray:
    row = row.astype(np.float64)
    row -= row.max()
    return row - np.log(np.exp(row).sum())


def surprise(row: np.ndarray, token: int) -> float:
    return -float(log_softmax(row)[token])


def dequantize(source: Path, target: Path) -> None:
    """The same model with every tensor in F32."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(key, field.contents())
        else:
            writer.add_key_value(key, field.contents(), field.types[0])
    for tensor in reader.tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), int(np.prod(shape)) * 4)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in reader.tensors:
        writer.write_tensor_data(np.ascontiguousarray(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
    writer.close()


# ---- tiny models


def tiny() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted((GOLDEN / "tiny").glob("*.gguf")):
            golden = path.with_suffix(".logits")
            if not golden.is_file():
                continue
            positions = 64
            expected = np.fromfile(golden, "<f4").reshape(positions, -1)
            vocabulary = expected.shape[1]
            field = gguf.GGUFReader(path).get_field("tiny.past")
            past = int(field.contents()) if field else 0
            ids = Path(folder) / "ids"
            ids.write_text(",".join(str((7 * i + 3) % vocabulary) for i in range(past + positions)))
            out = Path(folder) / "logits.npy"
            run("perplexity", "-m", path, "--token-ids", f"@{ids}", "--logits-out", out, "-ctk", "f32", "-ctv", "f32")
            off = np.abs(np.load(out)[past:] - expected)
            rows.append([path.stem, f"{expected.std():.2f}", f"{off.mean():.1e}", f"{off.max():.1e}"])
    table("model deviation~of~its~logits mean~Δlogit max~Δlogit", rows)


# ---- tokenizers


def tokenizers(folder: Path | None) -> None:
    sys.path.insert(0, str(GOLDEN))
    import tokenizers as golden

    parts = json.loads((GOLDEN / "corpus.json").read_text())
    lines = golden.corpus(parts["pieces"], parts["glue"])
    paths = [ROOT / "models" / f"{name}.gguf" for name in MODELS]
    paths += sorted((GOLDEN / "tokenizers").glob("*.gguf"))
    paths += sorted(folder.glob("*.gguf")) if folder else []
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        texts = Path(scratch) / "lines"
        texts.write_text("".join(json.dumps(line) + "\n" for line in lines))
        for path in paths:
            say(path.name)
            llm = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
            model = str(llm.metadata.get("tokenizer.ggml.model"))
            name = llm.metadata.get("tokenizer.ggml.pre", "")
            cells = [path.stem, f"{model}, {name}" if name not in ("", "default") else model, f"{llm.n_vocab():,}"]
            for special in (False, True):
                more = () if special else ("--no-parse-special",)
                said = run("tokenize", "-m", path, "-f", texts, "--json-lines", "--no-bos", *more).splitlines()
                theirs = (llm.tokenize(line.encode(), add_bos=False, special=special) for line in lines)
                off = sum(json.loads(a) != b for a, b in zip(said, theirs, strict=True))
                cells.append(f"{off} of {len(lines):,}")
            rows.append(cells)
    table("vocabulary algorithm tokens lines~that~differ with~control~tokens~read", rows)


# ---- what all need


def run(*arguments) -> str:
    done = subprocess.run([RUNTIME, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"tealight {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def table(head: str, rows: list[list]) -> None:
    """Markdown; `~` stands for a space in a heading."""
    names = [name.replace("~", " ") for name in head.split(" ")]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    TABLES.append("\n".join(lines) + "\n")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def _nothing(_level, _text, _data):
    pass


def silence() -> None:
    llama_cpp.llama_log_set(_nothing, ctypes.c_void_p(0))


if __name__ == "__main__":
    sys.exit(main())
