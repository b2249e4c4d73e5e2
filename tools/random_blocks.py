"""A model with the shapes of another and random blocks of one type: for speed, not for words.

Enters: a GGUF file, a storage type. Leaves: a GGUF file whose matrices, but for the table of words, have that type. Most
types are in few files that can be had; all of them have to be fast. Scales are small and sane, since what a processor
does with infinities and with numbers below the smallest normal one takes longer; all other bits are random, so that
codebooks are read everywhere.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader

SCALE = np.frombuffer(np.float16(0.002).tobytes(), np.uint8)
# Where the half-precision scales of a block lie: the second of two is that of the minima.
SCALES_AT = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0], "IQ4_XS": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0],
    "TQ1_0": [52], "TQ2_0": [64], "MXFP4": [], "IQ1_M": [],
}  # fmt: skip


def blocks(name: str, count: int, random: np.random.Generator) -> np.ndarray:
    """So many blocks of a type, (count, bytes)."""
    size = GGML_QUANT_SIZES[GGMLQuantizationType[name]][1]
    out = random.integers(0, 256, (count, size), np.uint8)
    for at in SCALES_AT[name]:
        out[:, at : at + 2] = SCALE
    if name == "MXFP4":
        out[:, 0] = 118  # an exponent: 2⁻⁹
    if name == "IQ1_M":  # four bits of the scale at the end of each of four words
        bits = int.from_bytes(SCALE.tobytes(), "little")
        for word in range(4):
            high = out[:, 49 + 2 * word]
            high[:] = high & 0x0F | (bits >> 4 * word & 15) << 4
    return out


def write(source: Path, name: str, target: Path) -> None:
    """Writes the model. Matrices whose rows are not whole blocks of the type stay as they are."""
    kind = GGMLQuantizationType[name]
    columns, size = GGML_QUANT_SIZES[kind]
    reader = GGUFReader(source)
    random = np.random.default_rng(1)

    def changed(tensor) -> bool:
        words = tensor.name in ("token_embd.weight", "output.weight")
        return len(tensor.shape) == 2 and not words and tensor.shape[0] % columns == 0

    infos, offset, places = b"", 0, []
    for tensor in reader.tensors:
        new = changed(tensor)
        length = int(tensor.n_elements) // columns * size if new else int(tensor.n_bytes)
        encoded = tensor.name.encode()
        infos += struct.pack("<Q", len(encoded)) + encoded + struct.pack("<I", len(tensor.shape))
        infos += struct.pack(f"<{len(tensor.shape)}Q", *map(int, tensor.shape))
        infos += struct.pack("<IQ", kind if new else tensor.tensor_type, offset)
        places.append((offset, length, new, tensor))
        offset = -(-(offset + length) // reader.alignment) * reader.alignment
    raw = source.read_bytes()[: int(reader.tensors[0].field.offset)]  # the head and all keys stay
    with target.open("wb") as file:
        file.write(raw + infos)
        begin = -(-file.tell() // reader.alignment) * reader.alignment
        for at, length, new, tensor in places:
            file.seek(begin + at)
            file.write(blocks(name, length // size, random) if new else tensor.data.tobytes())
