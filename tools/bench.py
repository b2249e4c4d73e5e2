#!/usr/bin/env python3
"""Compares our speed with llama.cpp's on this machine, and writes the table of docs/performance.md.

Enters: models, threads, rounds. Leaves: a table with medians, their spread, ratios, and how far each side is from what
the machine can do. Both compute the same token ids; in each round one runs after the other, so that a machine that gets
slower or faster in between does so for both. llama.cpp is built for this machine by llama-cpp-python.

    make bench                      the table
    make bench ARGS="smollm2 -r 3 -t 1 --depth 4096"
    make bench ARGS=load      several sequences at once (bench_load.py)
    make bench ARGS="--types IQ2_S TQ1_0 -p 128 -n 16"    types, in the shapes of the 1.5B
    make bench ARGS="--shapes all"      families of which no real file is at hand, random in their shapes
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/release/tealight"
PAGE = ROOT / "docs/performance.md"
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
MODELS = {
    "smollm2": "smollm2-135m-instruct-q4_1.gguf",
    "gemma3": "gemma-3-270m-q4_k_m.gguf",
    "qwen2.5-0.5b": "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    "qwen2.5-1.5b": "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
}


def private_bytes(pid: int | str) -> int:
    """Anonymous memory of a process: what it does not share with the file of the weights."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("RssAnon"))


def ours(model: Path, args) -> dict:
    command = [PROGRAM, "bench", "-m", model, "--json", "-r", "1"]
    command += ["-t", args.threads, "-p", args.prompt, "-n", args.generate, "-d", args.depth]
    command += ["--isa", args.isa] if args.isa else []
    command += ["-ctk", args.cache, "-ctv", args.cache]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, private_bytes(process.pid))
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"error: {PROGRAM.name} bench exited with {process.returncode}")
    return json.loads(process.stdout.read()) | {"private": peak}


class Child:
    """A process that answers each line with one line of JSON, and sleeps in between."""

    def __init__(self, script: str, model, options: list) -> None:
        command = [sys.executable, script, "--reference", model, *options]
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, question):
        print(json.dumps(question), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        return json.loads(line) if line else sys.exit("error: the reference exited early")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def llama_cpp(model: Path, args) -> Child:
    """llama.cpp in a process of its own: prompt and generation to tokens per second of both, and private bytes."""
    options = ["-t", args.threads, "--depth", args.depth, "-p", args.prompt, "-n", args.generate, "--cache", args.cache]
    return Child(__file__, model, options)


def reference(model: str, args) -> None:
    """The other side of `llama_cpp`: lines of token ids to lines of tokens per second."""
    import ctypes

    import llama_cpp as ll

    ll.llama_backend_init()
    quiet = ll.llama_log_callback(lambda *_: None)
    ll.llama_log_set(quiet, ctypes.c_void_p(0))
    parameters = ll.llama_model_default_params()
    loaded = ll.llama_model_load_from_file(model.encode(), parameters)
    context = ll.llama_context_default_params()
    context.n_ctx = args.depth + args.prompt + args.generate + 64
    context.n_batch = context.n_ubatch = 512
    context.type_k = context.type_v = {"f16": ll.GGML_TYPE_F16, "q8_0": ll.GGML_TYPE_Q8_0}[args.cache]
    context.n_threads = context.n_threads_batch = args.threads
    state = ll.llama_init_from_model(loaded, context)
    memory = ll.llama_get_memory(state)
    batch = ll.llama_batch_init(512, 0, 1)

    def decode(ids: list[int], at: int) -> None:
        for first in range(0, len(ids), 512):
            part = ids[first : first + 512]
            batch.n_tokens = len(part)
            for i, token in enumerate(part):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, at + first + i, 1, 0
                batch.logits[i] = first + i == len(ids) - 1
            if ll.llama_decode(state, batch):
                sys.exit("error: llama_decode failed")
        ll.llama_synchronize(state)
        ll.llama_get_logits_ith(state, -1)

    def begin() -> None:
        ll.llama_memory_clear(memory, True)
        decode([300] + [(i * 7919 + 1) % 1000 + 300 for i in range(args.depth)], 0)

    for line in sys.stdin:
        prompt, generation = json.loads(line)
        speeds = [0, 0]
        if prompt:
            begin()
            start = time.perf_counter()
            decode(prompt, args.depth + 1)
            speeds[0] = len(prompt) / (time.perf_counter() - start)
        if generation:
            begin()
            start = time.perf_counter()
            for i, token in enumerate(generation):
                decode([token], args.depth + 1 + i)
            speeds[1] = len(generation) / (time.perf_counter() - start)
        print(json.dumps([*speeds, private_bytes("self")]), flush=True)


def forget(model: Path) -> None:
    """Takes a file out of memory, where the system can: what was just downloaded lies there in small pages, what is
    read from the disk, as after a restart, in large ones where the file system has them. Both sides share them."""
    if not hasattr(os, "posix_fadvise"):
        return
    with model.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"


def work(model: Path) -> tuple[int, int]:
    """Multiply-adds of one token of a prompt: the elements of all matrices but the table of words. Bytes that one
    generated token reads: all tensors, but the table of words only where it is the head as well."""
    from gguf import GGUFReader

    tensors = GGUFReader(model).tensors
    ends = ("token_embd.weight", "output.weight")
    elements = sum(int(t.n_elements) for t in tensors if len(t.shape) > 1 and t.name not in ends)
    has_head = any(t.name == "output.weight" for t in tensors)
    return elements, sum(int(t.n_bytes) for t in tensors if not (has_head and t.name == "token_embd.weight"))


def models(args) -> Iterator[tuple[str, Path]]:
    """Names and files of what is measured, each made when it is asked for."""
    if args.shapes:
        import random_models

        names = list(random_models.SHAPES) if args.shapes == ["all"] else args.shapes
        with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
            for name in names:
                file = Path(folder) / f"{name}.gguf"
                random_models.write(name, file)
                yield name, file
                file.unlink()
        return
    if not args.types:
        yield from ((name, ROOT / "models" / MODELS[name]) for name in args.models or MODELS)
        return
    import random_blocks

    with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
        for name in args.types:
            file = Path(folder) / f"{name}.gguf"
            random_blocks.write(ROOT / "models" / MODELS["qwen2.5-1.5b"], name, file)
            yield name, file
            file.unlink()


def limits(args) -> dict:
    """What the machine can do at this moment."""
    command = [PROGRAM, "bench", "--limits", "--json", "-t", args.threads, *(["--isa", args.isa] if args.isa else [])]
    return json.loads(subprocess.check_output(list(map(str, command))))


def rounds(name: str, model: Path, args) -> Iterator[tuple[dict, tuple, dict]]:
    """One side, the other, and the limits of that moment, in turn: a busy neighbour slows down all three."""
    forget(model)
    ours(model, args)  # reads it
    other = llama_cpp(model, args)
    for number in range(args.rounds + 1):
        own = ours(model, args)
        result = tuple(other.ask([own["prompt"]["ids"], own["generation"]["ids"]]))
        if number == 0:
            continue  # the reference reads the file for the first time
        mine = own["speeds"] = [(own[phase]["tokens_per_second"] or [0])[0] for phase in ("prompt", "generation")]
        print(f"{name} {number}: {mine[0]:.0f} {result[0]:.0f}   {mine[1]:.1f} {result[1]:.1f}", file=sys.stderr)
        yield own, result, limits(args)
    other.close()


def measure(args) -> list[str]:
    table = [
        "| model | phase | tealight | llama.cpp | ratio | tealight, of the limit | llama.cpp, of the limit |",
        "|---|---|---|---|---|---|---|",
    ]
    found, memory = [], []
    for name, model in models(args):
        if not model.is_file():
            print(f"{name}: missing\nhint: python3 tools/models.py get {name}", file=sys.stderr)
            continue
        measured = list(rounds(name, model, args))
        most = [moment for _, _, moment in measured]
        found += most
        keys = zip(("prompt", "generation"), ("multiply_adds_per_second", "read_bytes_per_second"), work(model))
        for i, (phase, key, amount) in enumerate(keys):
            a, b = [own["speeds"][i] for own, _, _ in measured], [theirs[i] for _, theirs, _ in measured]
            if not any(a):
                continue
            shares = [statistics.median(v * amount / m[key] for v, m in zip(side, most)) for side in (a, b)]
            ratio = statistics.median(a) / statistics.median(b)
            ends = " | ".join(f"{share:.0%}" for share in shares)
            table.append(f"| {name} | {phase} | {spread(a)} | {spread(b)} | **{ratio:.2f}** | {ends} |")
        private = max(own["private"] for own, _, _ in measured), max(theirs[2] for _, theirs, _ in measured)
        memory.append(f"{name} {private[0] / 2**20:.0f} against {private[1] / 2**20:.0f} MiB")
    if not found:
        sys.exit("error: no model to measure")
    depth = f", after {args.depth} tokens" if args.depth else ""
    read, products = (spread([m[key] / 1e9 for m in found]) for key in ("read_bytes_per_second", "multiply_adds_per_second"))
    return [
        f"{platform.machine()}, {args.threads} threads, {found[0]['isa']}; at most {read} GB/s read and {products} thousand"
        f" million multiply-adds/s, measured in every round. {args.prompt} tokens of prompt, {args.generate} generated{depth};"
        f" tokens/s, and shares of that round's limit: medians of {args.rounds} alternating rounds (least–most).",
        "",
        *table,
        "",
        "Private memory at most: " + "; ".join(memory) + ".",
    ]


def main() -> None:
    if sys.argv[1:2] == ["load"]:
        import bench_load

        return bench_load.main(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", choices=[*MODELS, []], help="default: all that are there")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--generate", type=int, default=64)
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("-d", "--depth", type=int, default=0)
    parser.add_argument("--cache", choices=["f16", "q8_0"], default="f16", help="element type of the KV cache, of both")
    parser.add_argument("--types", nargs="+", help="storage types to measure instead of models, on random blocks")
    parser.add_argument("--shapes", nargs="+", help="shapes of models to measure instead (random_models.py), or all")
    parser.add_argument("--isa", help="an instruction set of ours, to compare with a reference built without more")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.relative_to(ROOT)}")
    parser.add_argument("--reference", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.reference:
        return reference(args.reference, args)
    table = "\n".join(measure(args))
    print(table)
    if args.write:
        page = PAGE.read_text()
        before, rest = page.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
