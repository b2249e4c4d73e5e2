#!/usr/bin/env python3
"""Measures how long a user waits: from the start of the program to the first token of an answer of its server.

Enters: models. Leaves: for each the median of some starts, and their spread. The server says that it is still loading
until the model is there; it is asked again every few milliseconds, as the page does. One start before the measured ones
brings the file into memory.

    python3 tools/first_token.py models/*.gguf
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

PROGRAM = Path(__file__).resolve().parent.parent / "target/release/tealight"
REQUEST = {"messages": [{"role": "user", "content": "What is tea?"}], "stream": True, "max_tokens": 4}


def first_token(model: str) -> float:
    """Seconds from the start of the program to the first piece of an answer that is not empty."""
    start = time.perf_counter()
    command = [PROGRAM, "-m", model, "--nobrowser", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        address = urlsplit(server.stdout.readline().strip()).netloc
        if not address:
            sys.exit(f"error: {model}: the server did not start; run {PROGRAM.name} -m {model} to see why")
        while True:
            connection = http.client.HTTPConnection(address, timeout=60)
            connection.request("POST", "/v1/chat/completions", json.dumps(REQUEST), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status == 200:
                break
            if answer.status != 503:
                sys.exit(f"error: {model}: {answer.status} {answer.read().decode()}")
            connection.close()
            time.sleep(0.002)
        for line in answer:
            event = line.removeprefix(b"data: ").strip()
            if event.startswith(b"{") and json.loads(event)["choices"][0]["delta"].get("content"):
                return time.perf_counter() - start
        sys.exit(f"error: {model}: the answer has no token")
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="GGUF files")
    parser.add_argument("-r", "--rounds", type=int, default=7)
    args = parser.parse_args()
    if not PROGRAM.is_file():
        sys.exit(f"error: {PROGRAM} is missing\nhint: make build")
    for model in args.models:
        first_token(model)
        times = [first_token(model) for _ in range(args.rounds)]
        print(f"{Path(model).stem}: {statistics.median(times):.3f} s ({min(times):.3f}–{max(times):.3f})")


if __name__ == "__main__":
    main()
