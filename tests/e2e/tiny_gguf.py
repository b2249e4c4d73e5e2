"""Gives the tiny models of `tests/golden/tiny` a vocabulary of letters and a chat template, so that programs can talk to
them: they have every kind of layer, and answer nonsense at once.

Enters: a tiny model. Leaves: a file with 40 tokens, one for each letter, and ChatML. Knows nothing of layers.
"""

from __future__ import annotations

import string
import struct
from pathlib import Path

from split_gguf import after_metadata, after_string, aligned

FOLDER = Path(__file__).resolve().parents[1] / "golden/tiny"
STRING, UINT32, INT32, ARRAY = 8, 4, 5, 9
NORMAL, CONTROL = 1, 3
# As GPT-2 writes the bytes of a space and of a line's end.
TOKENS = [*string.ascii_lowercase, *"0123456", "Ġ", "Ċ", ".", ",", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, values: list[bytes]) -> bytes:
    return struct.pack("<IQ", kind, len(values)) + b"".join(values)


def vocabulary() -> list[bytes]:
    kinds = [CONTROL if token.startswith("<|") else NORMAL for token in TOKENS]
    number = lambda token: struct.pack("<I", TOKENS.index(token))  # noqa: E731
    return [
        key("tokenizer.ggml.model", STRING, text("gpt2")),
        key("tokenizer.ggml.pre", STRING, text("gpt-2")),
        key("tokenizer.ggml.tokens", ARRAY, array(STRING, [text(token) for token in TOKENS])),
        key("tokenizer.ggml.token_type", ARRAY, array(INT32, [struct.pack("<i", kind) for kind in kinds])),
        key("tokenizer.ggml.merges", ARRAY, array(STRING, [])),
        key("tokenizer.ggml.eos_token_id", UINT32, number("<|im_end|>")),
        key("tokenizer.chat_template", STRING, text(TEMPLATE)),
    ]


def talking(name: str, folder: Path) -> Path:
    """The tiny model of that name with a vocabulary."""
    data = (FOLDER / f"{name}.gguf").read_bytes()
    magic, version, n_tensors, n_keys = struct.unpack_from("<4sIQQ", data)
    assert (magic, version, len(TOKENS)) == (b"GGUF", 3, 40)
    end = after_metadata(data, 24, n_keys)
    none = key("tokenizer.ggml.model", STRING, text("none"))
    metadata = data[24:end]
    assert metadata.count(none) == 1
    more = vocabulary()
    header = struct.pack("<4sIQQ", magic, version, n_tensors, n_keys - 1 + len(more))
    header += metadata.replace(none, b"") + b"".join(more)
    at = end
    for _ in range(n_tensors):
        at = after_string(data, at)
        at += 4 + 8 * struct.unpack_from("<I", data, at)[0] + 4 + 8
    header += data[end:at]
    path = folder / f"{name}.gguf"
    path.write_bytes(header + b"\0" * (aligned(len(header)) - len(header)) + data[aligned(at) :])
    return path
