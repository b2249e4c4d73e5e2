"""Makes the reference's tokens for every pre-tokenizer, on a corpus assembled for trouble.

    python3 -m venv v && v/bin/pip install llama-cpp-python numpy gguf
    v/bin/python tests/golden/pretokenize.py models tests/golden/pretokenize.json

The vocabulary and merges are those of the real Qwen2.5 model, with another `tokenizer.ggml.pre`: the
pre-tokenizer alone decides the difference. Of each name's ids over the corpus one digest is kept (SHA-256
of the ids as little-endian u32, a line's ids followed by 2^32 - 1), with that of each hundred lines, so that
a difference can be found. The corpus is made here and written beside, since the test reads it.
"""

import hashlib
import json
import random
import struct
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp

NAMES = ["gpt-2", "smollm", "qwen2", "qwen35", "llama-bpe", "glm4", "dbrx", "gpt-4o", "tekken", "seed-coder", "deepseek-v3",
         "deepseek-coder", "falcon", "default"]
LINES = 5000
SCRIPTS = [
    "the quick brown fox's don't WE'LL I've o'clock naïve Straße",
    "el niño comió ñandú; ¿qué? ¡sí!",
    "Привет мир как дела", "γειά σου Κόσμε", "שלום עולם", "مرحبا بالعالم ١٢٣", "नमस्ते दुनिया १२३", "สวัสดีชาวโลก",
    "你好世界，今天天气很好。", "こんにちは世界カタカナ", "안녕하세요 세계", "Xin chào thế giới", "e\u0301a\u0308o\u0302\u0323", "ﬀﬁ Ⅷ ½ ² ㎏ 𝒜𝓑 𐍈",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇪🇸 👍🏽 😀", "for(int i=0;i<n;++i){a[i]+=b[i]*2;}", "x_1 = foo.bar(baz)['k'] // comment", "<div class=\"a\">&amp;</div>",
    "$x^2+y_1=\\frac{1}{2}$", "1234567890 3.14 1,000,000 0xFF 1e-9 ²³", "https://a.b/c?d=e&f=%20#g", "CamelCaseWords HTTPServer iPhone15Pro",
    "\u00a0\u2003\u3000\u200b\ufeff", "\u0000\u0001\u001f\u007f\u0085\u2028", "a  b   c    d\t\te\t f", "\r\n\n\r \n \n\n  \n", "...!!!???---___***~~~```",
    "'s 't 're 'S 'LL ''s", "ǅ ǈ Ǆ ſ İ ı ẞ ß",
]


def corpus() -> list[str]:
    """Lines of pieces of the scripts, joined by nothing, spaces or line breaks, always the same."""
    rng = random.Random(20260101)
    glue = ["", "", " ", " ", "  ", "   ", "\n", "\n\n", "\t", " \n", "\r\n", "'", "-", "."]
    lines = list(SCRIPTS)
    while len(lines) < LINES:
        parts = []
        for _ in range(rng.randint(1, 9)):
            text = rng.choice(SCRIPTS)
            start = rng.randrange(len(text))
            parts += [text[start:start + rng.randint(1, 12)], rng.choice(glue)]
        lines.append("".join(parts))
    return lines


def digest(rows: list[list[int]]) -> str:
    h = hashlib.sha256()
    for row in rows:
        h.update(struct.pack(f"<{len(row) + 1}I", *row, 2**32 - 1))
    return h.hexdigest()


def with_pre(source: Path, target: Path, pre: str) -> None:
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "qwen2")
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        value = pre if key == "tokenizer.ggml.pre" else field.contents()
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(key, value)
        else:
            writer.add_key_value(key, value, field.types[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def main(models: Path, out: Path) -> None:
    lines = corpus()
    golden = {"reference": f"llama-cpp-python {llama_cpp.__version__}", "names": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            path = Path(folder) / "vocab.gguf"
            with_pre(models / "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", path, name)
            llm = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
            rows = [llm.tokenize(line.encode(), add_bos=False, special=False) for line in lines]
            golden["names"][name] = [digest(rows[i:i + 100]) for i in range(0, len(rows), 100)]
            if len(sys.argv) > 3:
                Path(sys.argv[3]).mkdir(exist_ok=True)
                (Path(sys.argv[3]) / f"{name}.json").write_text(json.dumps(rows))
            print(name, sum(map(len, rows)))
    out.write_text(json.dumps(golden, indent=1) + "\n")
    out.with_name("corpus.json").write_text(json.dumps(lines, ensure_ascii=True, indent=0) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
