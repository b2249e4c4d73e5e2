#!/usr/bin/env python3
"""Counts the instructions of products on 64-bit ARM, in an emulator: ours and, if its source is at hand, llama.cpp's.

What is counted is the difference between a program that multiplies once and one that does so eleven times, divided by
what ten products have: instructions for 256 columns of a row and a token, quantizing of the activations included.

    python3 tools/arm/count.py                           ours
    python3 tools/arm/count.py --llama ../llama.cpp      both, for the same processor features

Needs qemu-aarch64 with plug-ins (7.2), aarch64-linux-gnu-gcc and, for llama.cpp, -g++ and cmake.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = ROOT / "tools/arm"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
TRIPLE = "aarch64-unknown-linux-gnu"
LIBRARIES = "/usr/aarch64-linux-gnu"
TYPES = ["Q4_K", "Q5_K", "Q6_K", "Q4_0", "Q4_1", "Q5_0", "Q8_0", "IQ4_XS"]
TOKENS = [1, 64]
ROWS, COLUMNS = 512, 1024
# Ours, the emulated processor and ggml's name of the same features.
SETS = [("dotprod", "cortex-a76", "armv8.2-a+dotprod+fp16"), ("i8mm", "max", "armv8.6-a+dotprod+i8mm+fp16")]


def run(*command: str | Path, **more) -> str:
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llama", type=Path, help="llama.cpp's source")
    args = parser.parse_args()
    folder = TARGET / "arm-count"
    folder.mkdir(parents=True, exist_ok=True)
    plugin = folder / "count.so"
    run("cc", "-O2", "-shared", "-fPIC", "-o", plugin, HERE / "count.c")
    print("| instructions, type, tokens | ours | llama.cpp | ratio |\n|---|---|---|---|")
    ours = build_ours()
    for isa, processor, features in SETS:
        theirs = build_theirs(args.llama, features, folder) if args.llama else None
        cases = [(dtype, tokens) for dtype in TYPES for tokens in TOKENS]

        def both(case: tuple[str, int]) -> tuple[float, float | None]:
            dtype, tokens = case
            emulator = ["qemu-aarch64", "-cpu", processor, "-L", LIBRARIES]
            mine = per_product(emulator, plugin, [ours, isa, dtype, tokens], tokens)
            return mine, per_product(emulator, plugin, [theirs, dtype, tokens], tokens) if theirs else None

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for (dtype, tokens), (mine, other) in zip(cases, pool.map(both, cases)):
                ratio = f"{other:.0f} | {mine / other:.2f}" if other else "|"
                print(f"| {isa} {dtype} x{tokens} | {mine:.0f} | {ratio} |", flush=True)


def per_product(emulator: list, plugin: Path, command: list, tokens: int) -> float:
    """Instructions for 256 columns of a row and a token."""
    counts = []
    for products in (1, 11):
        with tempfile.NamedTemporaryFile() as file:
            run(*emulator, "-plugin", f"{plugin},to={file.name}", *command, products)
            counts.append(int(Path(file.name).read_text()))
    return (counts[1] - counts[0]) / 10 / (ROWS * COLUMNS / 256 * tokens)


def build_ours() -> str:
    """Our kernels as a crate of their own, so that they build in a minute."""
    env = os.environ | {"CARGO_TARGET_DIR": str(TARGET / "kernels-alone"), "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER": "aarch64-linux-gnu-gcc"}
    command = ["build", "--release", "--locked", "--example", "count", "--target", TRIPLE, "--message-format=json"]
    lines = run(os.environ.get("CARGO", "cargo"), *command, cwd=ROOT / "tests/kernels", env=env).splitlines()
    found = [json.loads(line).get("executable") for line in lines if '"name":"count"' in line]
    return next(path for path in found if path)


def build_theirs(source: Path, features: str, folder: Path) -> Path:
    """ggml's CPU backend for these features, linked with `ggml_count.cpp`."""
    build = folder / f"ggml-{features.replace('+', '-')}"
    quiet = {"stderr": subprocess.DEVNULL}
    flags = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF"]
    flags += ["-DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc", "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++", "-DGGML_NATIVE=OFF"]
    flags += [f"-DLLAMA_BUILD_{part}=OFF" for part in ("COMMON", "TESTS", "TOOLS", "EXAMPLES", "SERVER")]
    flags += ["-DLLAMA_CURL=OFF", "-DGGML_OPENMP=OFF", "-DGGML_LLAMAFILE=OFF", f"-DGGML_CPU_ARM_ARCH={features}"]
    run("cmake", "-S", source, "-B", build, *flags, **quiet)
    run("cmake", "--build", build, "-j", os.cpu_count(), "--target", "ggml-cpu", **quiet)
    libraries = [next(build.rglob(f"lib{name}.a")) for name in ("ggml-cpu", "ggml-base")]
    program = build / "ggml_count"
    run("aarch64-linux-gnu-g++", "-O2", "-I", source / "ggml/include", "-o", program, HERE / "ggml_count.cpp", *libraries, "-lpthread", "-lm")
    return program


if __name__ == "__main__":
    sys.exit(main())
