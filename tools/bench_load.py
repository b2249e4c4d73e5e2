"""Compares several sequences at once with llama.cpp's batches: `make bench ARGS=load`.

Enters: models, numbers of sequences, rounds. Leaves: total tokens per second of both, in alternating rounds, and beside
ours the rate of passes of as many tokens of one sequence, which is what a scheduler can reach at most. Both sides
generate after prompts of the same length; llama.cpp decodes one token of each sequence in one batch, through its C API.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time

BEGIN, END = "<!-- load -->", "<!-- /load -->"


def reference(model: str, args) -> None:
    """Reads numbers of sequences, a line each, and answers each with tokens per second."""
    import ctypes

    import llama_cpp as ll

    ll.llama_backend_init()
    quiet = ll.llama_log_callback(lambda *_: None)
    ll.llama_log_set(quiet, ctypes.c_void_p(0))
    loaded = ll.llama_model_load_from_file(model.encode(), ll.llama_model_default_params())
    most = max(args.sequences)
    context = ll.llama_context_default_params()
    context.n_ctx = most * (args.prompt + args.generate + 8)
    context.n_batch = context.n_ubatch = 512
    context.n_seq_max = most
    context.kv_unified = True
    context.n_threads = context.n_threads_batch = args.threads
    state = ll.llama_init_from_model(loaded, context)
    memory = ll.llama_get_memory(state)
    batch = ll.llama_batch_init(512, 0, 1)

    def decode(rows: list[tuple[int, int, int, bool]]) -> None:
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, position, 1, sequence
            batch.logits[i] = wanted
        if ll.llama_decode(state, batch):
            sys.exit("error: llama_decode failed")
        ll.llama_synchronize(state)
        ll.llama_get_logits_ith(state, -1)

    for line in sys.stdin:
        count = int(line)
        ll.llama_memory_clear(memory, True)
        for sequence in range(count):
            last = args.prompt - 1
            decode([((i * 7919 + sequence) % 1000 + 300, i, sequence, i == last) for i in range(args.prompt)])
        start = time.perf_counter()
        for step in range(args.generate):
            decode([((step * 31 + s) % 1000 + 300, args.prompt + step, s, True) for s in range(count)])
        print(json.dumps(count * args.generate / (time.perf_counter() - start)), flush=True)


def ours(program, model, count: int, args) -> tuple[float, float]:
    command = [program, "bench", "-m", model, "--json", "-r", 1, "-t", args.threads, "-p", args.prompt, "-n", args.generate]
    command += ["--n-seqs", count, *(["--isa", args.isa] if args.isa else [])]
    found = json.loads(subprocess.check_output(list(map(str, command))))["together"]
    return found["tokens_per_second"][0], found["pass_tokens_per_second"][0]


def main(arguments: list[str]) -> None:
    from bench import MODELS, PAGE, PROGRAM, ROOT, Child

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", choices=[*MODELS, []], help="default: all that are there")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-p", "--prompt", type=int, default=128)
    parser.add_argument("-n", "--generate", type=int, default=48)
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("--sequences", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--isa", help="an instruction set of ours")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.relative_to(ROOT)}")
    parser.add_argument("--reference", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.reference:
        return reference(args.reference, args)
    table = ["| model | sequences | tealight | of one pass | llama.cpp | ratio |", "|---|---|---|---|---|---|"]
    for name in args.models or [name for name in MODELS if name != "gemma3"]:
        model = ROOT / "models" / MODELS[name]
        options = ["-t", args.threads, "-p", args.prompt, "-n", args.generate, "--sequences", *args.sequences]
        other = Child(__file__, model, options)
        ours(PROGRAM, model, 1, args)
        other.ask(1)
        for count in args.sequences:
            found = [(*ours(PROGRAM, model, count, args), other.ask(count)) for _ in range(args.rounds)]
            rate, share, theirs = (
                statistics.median(v) for v in zip(*((own, own / one, other) for own, one, other in found))
            )
            table.append(f"| {name} | {count} | {rate:.0f} | {share:.0%} | {theirs:.0f} | **{rate / theirs:.2f}** |")
            print(table[-1], file=sys.stderr, flush=True)
        other.close()
    text = "\n".join(
        [
            f"{platform.machine()}, {args.threads} threads{', ' + args.isa if args.isa else ''}: all sequences together, tokens/s,"
            f" after prompts of {args.prompt} tokens; medians of {args.rounds} alternating rounds. \"Of one pass\": beside passes of"
            " as many tokens of one sequence.",
            "",
            *table,
        ]
    )
    print(text)
    if args.write:
        page = PAGE.read_text()
        before, rest = page.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main(sys.argv[1:])
