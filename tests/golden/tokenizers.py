"""Makes the reference's tokens for every tokenizer, on six thousand lines assembled for trouble.

    python3 -m venv v && v/bin/pip install llama-cpp-python numpy gguf
    v/bin/python tests/golden/tokenizers.py models tests/golden [tiny|real|pre…]

The lines are put together from the pieces in `corpus.json` by a small generator that the test repeats
(`tests/tokenizers.rs`). They are tokenized

- with every pre-tokenizer, on the vocabulary and merges of the real Qwen2.5 with another `tokenizer.ggml.pre`:
  the pre-tokenizer alone decides the difference;
- with the real SmolLM2 and Gemma 3;
- with tiny vocabularies made here (`tokenizers/*.gguf`) for what no real model at hand has: SentencePiece with
  and without the space before a text, without byte tokens, with equal scores; byte-pair merging on plain text;
  WordPiece with and without case; unigrams with and without a map of replacements; RWKV's and PLaMo's;

each with control tokens read and not. `tokenizers.json` holds, for each hundred lines, the first eight digits of
the SHA-256 of their ids as little-endian u32, each line's followed by 2^32 - 1.
"""

import hashlib
import json
import struct
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp

LINES = 6000
GROUP = 100
QWEN = "qwen2.5-coder-0.5b-instruct-q4_k_m"
REAL = ["smollm2-135m-instruct-q4_1", "gemma-3-270m-q4_k_m"]
# One of each group of names that mean the same.
NAMES = """gpt-2 smollm qwen2 qwen35 ufakzeka laguna llama-bpe glm4 dbrx minicpm5 jais-2 gpt-4o granite-embed-multi-97m
tekken tiny_aya youtu kimi-k2 exaone-moe seed-coder bailingmoe deepseek-v3 spark2_5 afmoe deepseek-llm deepseek-coder bloom
viking superbpe chameleon falcon default""".split()


class Random:
    """xorshift64*: the same numbers in the test."""

    def __init__(self, state):
        self.state = state

    def below(self, n):
        x = self.state
        x ^= x >> 12
        x ^= x << 25 & 0xFFFFFFFFFFFFFFFF
        x ^= x >> 27
        self.state = x
        return (x * 0x2545F4914F6CDD1D >> 33 & 0x7FFFFFFF) % n


def corpus(pieces, glue):
    """The pieces, then lines of parts of them and of glue."""
    random = Random(20260101)
    lines = list(pieces)
    while len(lines) < LINES:
        line = ""
        for _ in range(1 + random.below(9)):
            piece = pieces[random.below(len(pieces))]
            start = random.below(len(piece))
            line += piece[start : start + 1 + random.below(14)]
            line += glue[random.below(len(glue))]
        lines.append(line)
    return lines


def digests(rows):
    out = []
    for start in range(0, len(rows), GROUP):
        h = hashlib.sha256()
        for row in rows[start : start + GROUP]:
            h.update(struct.pack(f"<{len(row) + 1}I", *row, 2**32 - 1))
        out.append(h.hexdigest()[:8])
    return " ".join(out)


def tokenize(path, lines):
    llm = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    ids = lambda line, **how: llm.tokenize(line.encode(), **how)
    return {
        "plain": digests([ids(line, add_bos=False, special=False) for line in lines]),
        "special": digests([ids(line, add_bos=True, special=True) for line in lines]),
    }


def with_pre(source, target, pre):
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


# ---- tiny vocabularies

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPACE = "\u2581"


class Vocabulary:
    """Tokens with their types and scores."""

    def __init__(self, model, **keys):
        self.model, self.keys = model, keys
        self.tokens, self.types, self.scores = [], [], []
        self.merges = []

    def add(self, text, kind=NORMAL, score=0.0):
        if text not in self.tokens:
            self.tokens.append(text)
            self.types.append(kind)
            self.scores.append(score)
        return self

    def write(self, path):
        w = gguf.GGUFWriter(path, "llama")
        w.add_context_length(64)
        w.add_embedding_length(8)
        w.add_block_count(1)
        w.add_feed_forward_length(8)
        w.add_head_count(1)
        w.add_layer_norm_rms_eps(1e-5)
        w.add_tokenizer_model(self.model)
        w.add_token_list(self.tokens)
        w.add_token_types(self.types)
        if self.model != "bert":
            w.add_token_scores(self.scores)
        if self.merges:
            w.add_token_merges(self.merges)
        for key, value in self.keys.items():
            key = f"tokenizer.ggml.{key.replace('__', '.')}"
            if isinstance(value, bool):
                w.add_bool(key, value)
            elif isinstance(value, str):
                w.add_string(key, value)
            elif isinstance(value, bytes):
                w.add_array(key, value)
            else:
                w.add_uint32(key, value)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.close()


def frequent(lines, count, longest=7):
    """The most frequent parts of words, longest first among equals, the same each time."""
    counts = {}
    for line in lines:
        text = line.replace(" ", SPACE)
        for start in range(len(text)):
            for end in range(start + 2, min(start + longest, len(text)) + 1):
                part = text[start:end]
                if "\n" not in part and "\r" not in part and "<" not in part:
                    counts[part] = counts.get(part, 0) + 1
    return sorted(counts, key=lambda part: (-counts[part] * len(part), part))[:count]


def spm(lines, *, byte_tokens=True, **keys):
    v = Vocabulary("llama", bos_token_id=1, eos_token_id=2, unknown_token_id=0, **keys)
    v.add("<unk>", UNKNOWN).add("<s>", CONTROL).add("</s>", CONTROL).add("<|tool|>", CONTROL)
    v.add("<tag>", USER).add("\n\n", USER).add("    ", USER).add("[unused0]", UNUSED, -3.0)
    if byte_tokens:
        for byte in range(256):
            v.add(f"<0x{byte:02X}>", BYTE)
    parts = frequent(lines, 350)
    # Each character of a part is a token, and of those without bytes every one: the reference ends the
    # process at a byte that has no token.
    for c in sorted(set("".join(parts if byte_tokens else lines).replace(" ", SPACE))):
        v.add(c, NORMAL, -1000.0)
    # Longer parts need their halves to be reached; five in a row have the same score.
    for rank, part in enumerate(sorted(parts, key=len)):
        v.add(part, NORMAL, -float(rank // 5))
    return v


def raw_bpe(lines, model, **keys):
    v = Vocabulary(model, bos_token_id=1, eos_token_id=2, unknown_token_id=0, **keys)
    v.add("<unk>", UNKNOWN).add("<bos>", CONTROL).add("<eos>", CONTROL).add("<|tool|>", CONTROL).add("<tag>", USER)
    for byte in range(256):
        v.add(f"<0x{byte:02X}>", BYTE)
    parts = frequent(lines, 300)
    for c in sorted(set("".join(parts))):
        v.add(c)
    for n in (1, 2, 3):
        v.add("\n" * n)
    for part in sorted(parts, key=lambda part: (len(part), part)):
        # Merged from the longest beginning that is a token.
        for cut in range(len(part) - 1, 0, -1):
            if part[:cut] in v.tokens and part[cut:] in v.tokens:
                v.add(part)
                v.merges.append(f"{part[:cut]} {part[cut:]}")
                break
    return v


def wpm(lines, **keys):
    v = Vocabulary("bert", bos_token_id=2, seperator_token_id=3, unknown_token_id=1, padding_token_id=0, **keys)
    v.add("[PAD]", CONTROL).add("[UNK]", UNKNOWN).add("[CLS]", CONTROL).add("[SEP]", CONTROL).add("[MASK]", CONTROL)
    v.add("<tag>", USER)
    lower = [line.lower() for line in lines]
    for part in frequent(lines, 150) + frequent(lower, 250):
        v.add(part)
        v.add(part.removeprefix(SPACE))
    for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHI0123456789.,!?'-_<>|[](){}你好世界天気こんпривет":
        v.add(SPACE + c).add(c)
    return v


def rwkv(lines, **keys):
    """Tokens are bytes with escapes; not all bytes are tokens, and some tokens are parts of characters."""
    v = Vocabulary("rwkv", bos_token_id=0, eos_token_id=0, unknown_token_id=1, **keys)
    v.add("<rwkv:end>", CONTROL).add("<rwkv:unknown>", UNKNOWN)
    for byte in range(256):
        special = {9: "\\t", 10: "\\n", 13: "\\r", 92: "\\\\", 39: "\\'"}
        v.add(special.get(byte, chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}"))
    for part in frequent(lines, 400):
        v.add(part.replace(SPACE, " ").replace("\\", "\\\\"))
    v.add("\\n\\n").add("\\xe4\\xbd").add("\\xf0\\x9f").add("<tag>", USER).add("<|tool|>", USER)
    return v


def plamo2(lines, **keys):
    v = Vocabulary("plamo2", bos_token_id=1, eos_token_id=2, unknown_token_id=0, padding_token_id=3, **keys)
    v.add("<|plamo:unk|>", UNKNOWN, -1000.0).add("<|plamo:bos|>", CONTROL).add("<|plamo:eos|>", CONTROL)
    v.add("<|plamo:pad|>", CONTROL)
    for byte in range(256):
        v.add(f"<0x{byte:02X}>", BYTE)
    parts = [part.replace(SPACE, " ") for part in frequent(lines, 500)]
    for rank, part in enumerate(parts):
        v.add(part, NORMAL, -4.0 - float(rank // 3) / 16)
    for rank, c in enumerate(sorted(set("".join(parts)))):
        v.add(c, NORMAL, -9.0 - rank / 64)
    return v.add("<tag>", USER, -1.0)


def ugm(lines, **keys):
    v = Vocabulary("t5", eos_token_id=1, unknown_token_id=2, padding_token_id=0, **keys)
    v.add("<pad>", CONTROL).add("</s>", CONTROL).add("<unk>", UNKNOWN).add("<tag>", USER).add("<|tool|>", CONTROL)
    v.add("[unused0]", UNUSED, -2.0).add("naïve", USER)
    parts = frequent(lines, 400)
    for rank, part in enumerate(parts):
        v.add(part, NORMAL, -4.0 - float(rank // 3) / 16)
    for rank, c in enumerate(sorted(set("".join(parts)))):
        v.add(c, NORMAL, -9.0 - rank / 64)
    return v


def replacements(pairs):
    """SentencePiece's map of replacements: a double array of the keys, and the texts they lead to."""
    texts, places = b"", {}
    for text in pairs.values():
        if text not in places:
            places[text] = len(texts)
            texts += text.encode() + b"\0"
    trie = {}
    for key, text in pairs.items():
        node = trie
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[0] = places[text]
    units, used = {0: 0}, {0}
    queue = [(0, trie)]
    while queue:
        at, node = queue.pop(0)
        # The children of a node stand at base ^ label.
        base = next(b for b in range(256, 1 << 21) if not used & {b ^ label for label in node} and b not in used)
        used |= {base ^ label for label in node} | {base}
        units[at] = units.get(at, 0) | (at ^ base) << 10 | (0 in node) << 8
        for label, child in sorted(node.items()):
            if label == 0:
                units[base] = child | 1 << 31
            else:
                units[base ^ label] = label
                queue.append((base ^ label, child))
    # A node that nothing leads to has a label that no byte is.
    array = [units.get(at, 1 << 31) for at in range((max(units) | 255) + 1)]
    data = struct.pack(f"<{len(array)}I", *array)
    return struct.pack("<I", len(data)) + data + texts


REPLACED = {"ﬁ": "fi", "ﬀ": "ff", "½": "1/2", "Ⅷ": "VIII", "\u00a0": " ", "\u3000": " ", "\t": " ", "\n": " ", "é": "e", "e\u0301": "é",
            "１": "1", "Ａ": "A", "…": "...", "\u200b": "", "ñ": "n", "ñandú": "bird"}


def made(lines):
    yield "spm-prefix", spm(lines, add_space_prefix=True)
    yield "spm-no-prefix", spm(lines, add_space_prefix=False, add_bos_token=False, add_eos_token=True)
    yield "spm-no-bytes", spm(lines, byte_tokens=False, add_space_prefix=True)
    yield "gemma4", raw_bpe(lines, "gemma4")
    yield "sarvam-moe", raw_bpe(lines, "gpt2", pre="sarvam-moe", add_eos_token=True)
    yield "wpm-uncased", wpm(lines)
    yield "wpm-cased", wpm(lines, normalizer__lowercase=False, normalizer__strip_accents=False)
    yield "rwkv", rwkv(lines)
    yield "plamo2", plamo2(lines, add_bos_token=True)
    yield "ugm", ugm(lines, add_space_prefix=True, remove_extra_whitespaces=True, precompiled_charsmap=replacements(REPLACED))
    yield "ugm-plain", ugm(lines, add_space_prefix=True, add_bos_token=True, bos_token_id=4)


def main(models, out, only):
    parts = json.loads((out / "corpus.json").read_text())
    lines = corpus(parts["pieces"], parts["glue"])
    path = out / "tokenizers.json"
    golden = json.loads(path.read_text()) if path.exists() else {}
    golden["reference"] = f"llama-cpp-python {llama_cpp.__version__}"
    for section, vocabularies in (("tiny", tiny), ("real", real), ("pre", pre)):
        if only and section not in only:
            continue
        golden[section] = {}
        with tempfile.TemporaryDirectory() as folder:
            for name, vocabulary in vocabularies(lines, models, out / "tokenizers", Path(folder)):
                golden[section][name] = tokenize(vocabulary, lines)
                print(section, name, flush=True)
        path.write_text(json.dumps(dict(sorted(golden.items())), indent=1) + "\n")


def tiny(lines, _models, out, _folder):
    out.mkdir(exist_ok=True)
    for name, vocabulary in made(lines):
        path = out / f"{name}.gguf"
        vocabulary.write(path)
        yield name, path


def real(_lines, models, _out, _folder):
    return ((name, models / f"{name}.gguf") for name in REAL)


def pre(_lines, models, _out, folder):
    path = folder / "vocab.gguf"
    for name in NAMES:
        with_pre(models / f"{QWEN}.gguf", path, name)
        yield name, path


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
