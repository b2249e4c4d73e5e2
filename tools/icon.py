#!/usr/bin/env python3
"""Draws the candle of the page in the sizes that Windows asks for, and writes src/tealight.ico.

Enters: web/favicon.svg, drawn by the browser that the tests use. Leaves: an icon with a picture for each size: 32-bit
pixels, and the largest as PNG, as Windows wants it. To be run when the drawing changes, with the tests' environment:

    CHROME="$(sh tools/browser.sh)" .venv/bin/python tools/icon.py
"""

from __future__ import annotations

import base64
import os
import struct
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SIZES = (16, 24, 32, 48, 256)
DRAW = """async ([source, size]) => {
    const image = new Image();
    image.width = image.height = size;
    image.src = "data:image/svg+xml;base64," + source;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = size;
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0, size, size);
    return [canvas.toDataURL("image/png").split(",")[1], [...context.getImageData(0, 0, size, size).data]];
}"""


def bitmap(size: int, rgba: bytes) -> bytes:
    """A picture as old as icons: a header, rows from below as BGRA, and a mask that alpha makes pointless."""
    header = struct.pack("<IiiHHIIiiII", 40, size, 2 * size, 1, 32, 0, 0, 0, 0, 0, 0)
    pixels = [rgba[at : at + 4] for at in range(0, len(rgba), 4)]
    rows = [pixels[row * size : (row + 1) * size] for row in reversed(range(size))]
    body = b"".join(bytes((b, g, r, a)) for row in rows for r, g, b, a in row)
    return header + body + bytes((size + 31) // 32 * 4 * size)


def main() -> None:
    source = base64.b64encode((ROOT / "web/favicon.svg").read_bytes()).decode()
    pictures = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=os.environ["CHROME"], args=["--no-sandbox"])
        page = browser.new_page()
        for size in SIZES:
            png, rgba = page.evaluate(DRAW, [source, size])
            pictures.append(base64.b64decode(png) if size == 256 else bitmap(size, bytes(rgba)))
        browser.close()
    icon, at = struct.pack("<HHH", 0, 1, len(SIZES)), 6 + 16 * len(SIZES)
    for size, picture in zip(SIZES, pictures):
        icon += struct.pack("<BBBBHHII", size % 256, size % 256, 0, 0, 1, 32, len(picture), at)
        at += len(picture)
    (ROOT / "src/tealight.ico").write_bytes(icon + b"".join(pictures))


if __name__ == "__main__":
    main()
