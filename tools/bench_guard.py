#!/usr/bin/env python3
"""Counts the instructions of the main kernels and compares them with a committed table.

Counts are the same in every run, however busy the machine is, so that a kernel that grew shows at once. Valgrind knows
AVX2 and below. Enters: `benches/count.rs`, built; `benches/instructions.json`. Leaves: a line for each kernel whose count
changed; failure if one grew by more than 3%.

    make bench-guard                     compare
    make bench-guard ARGS=--write        write the table (another compiler, or a kernel that is meant to cost more)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "benches/instructions.json"
TYPES = ["Q4_K", "Q5_K", "Q6_K", "Q4_0", "Q4_1", "Q5_0", "Q8_0", "IQ4_XS", "MXFP4"]
# A single token, several in place, the first number that uses panels, a prompt.
TOKENS = [1, 4, 9, 64]
GROWTH_MAX = 1.03


def fail(message: str, hint: str) -> None:
    sys.exit(f"error: {message}\nhint: {hint}")


def compiler() -> str:
    return subprocess.run([os.environ.get("RUSTC", "rustc"), "--version"], capture_output=True, text=True, check=True).stdout.strip()


def build() -> str:
    """The path of the built counter."""
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "bench", "--bench", "count", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    found = [json.loads(line).get("executable") for line in lines if '"name":"count"' in line]
    return next(path for path in found if path)


def count(program: str, isa: str, dtype: str, tokens: int) -> float:
    """Instructions for 256 columns of a row and a token."""
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted*"]
    done = subprocess.run([*tool, program, isa, dtype, str(tokens)], cwd=ROOT, capture_output=True, text=True)
    collected = re.search(r"Collected : (\d+)", done.stderr)
    products = re.search(r"(\d+) products", done.stdout)
    if not collected or not products:
        fail(f"{dtype} on {isa} was not counted:\n{done.stderr.strip()}", "run it without valgrind: " + " ".join([program, isa, dtype, str(tokens)]))
    return round(int(collected[1]) / int(products[1]), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the table")
    args = parser.parse_args()
    if platform.machine() not in ("x86_64", "AMD64"):
        return print("kernels not counted: the table is for x86-64")
    if not shutil.which("valgrind"):
        if os.environ.get("ALLOW_SKIP") == "1":
            return print("kernels not counted: no valgrind")
        fail("no valgrind", "on Debian: apt-get install valgrind")
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {"compiler": "", "instructions": {}}
    now = compiler()
    if not args.write and table["compiler"] != now:
        # Another compiler counts otherwise, and that is no one's fault.
        print(f"kernels not compared: {TABLE.name} was made with {table['compiler']}, this is {now}")
        return print("hint: `make bench-guard ARGS=--write` before and after a change shows what it costs here")
    program = build()
    cases = [("avx2", dtype, tokens) for dtype in TYPES for tokens in TOKENS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = list(pool.map(lambda case: count(program, *case), cases))
    found = {f"{isa} {dtype} x{tokens}": value for (isa, dtype, tokens), value in zip(cases, counts)}
    if args.write:
        TABLE.write_text(json.dumps({"compiler": now, "instructions": found}, indent=1) + "\n")
        return print(f"{len(found)} kernels written to {TABLE.relative_to(ROOT)}")
    grown = []
    for name, value in found.items():
        before = table["instructions"].get(name)
        if before is None:
            fail(f"{name} is not in {TABLE.name}", "`make bench-guard ARGS=--write` writes it")
        if value != before:
            print(f"{name}: {before} -> {value} instructions for 256 columns ({value / before - 1:+.1%})")
        if value > before * GROWTH_MAX:
            grown.append(name)
    if grown:
        fail(f"{len(grown)} kernels grew by more than {GROWTH_MAX - 1:.0%}: {', '.join(grown)}", "if they are meant to, `make bench-guard ARGS=--write` and say why")
    print(f"{len(found)} kernels take no more instructions than before")


if __name__ == "__main__":
    main()
