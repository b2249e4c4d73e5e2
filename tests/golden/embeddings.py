"""Makes tiny random embedding models, and the reference's embeddings by them and by the real SmolLM2.

    python3 -m venv v && v/bin/pip install llama-cpp-python numpy gguf
    v/bin/python tests/golden/embeddings.py models tests/golden

The tiny models are F32 (`tiny.py` says why), with WordPiece vocabularies where the family has them.
`embeddings/NAME.f32` holds little-endian f32 rows for the tokens (7 i + 3) mod vocabulary: one for each of 40
positions, then their mean, the first and the last, each as the reference pools them (`tests/embeddings.rs`).

`embeddings/NAME.scores` holds the little-endian f32 scores of a classification head for the same tokens.

`embeddings.json` holds embeddings of texts, made to length 1: by the tiny models as their files pool, and by
SmolLM2, whose file does not say how, as mean and last.
"""

import json
import sys
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from tiny import LN, POST, RMS, Tiny

POSITIONS = 40
NONE, MEAN, CLS, LAST, RANK = range(5)
SPACE = "\u2581"
REAL = "smollm2-135m-instruct-q4_1"
TEXTS = ["A candle burns.", "¿Qué es una vela? Cera y mecha!", "", "wax " * 30, "unaffordable, naïve: 你好"]


def wordpiece():
    words = "a the an is candle wax wick light burn what que una vela cera y es mecha un ##s ##ing ##ed ##able ##afford ##ive".split()
    signs = ".,:;!?¿¡'-"
    texts = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    texts += [w.removeprefix("##") if w.startswith("##") else SPACE + w for w in words]
    texts += [SPACE + c for c in signs + "你好"]
    texts += [mark + c for c in "abcdefghijklmnopqrstuvwxyz" for mark in (SPACE, "")]
    return list(dict.fromkeys(texts))


class Bert(Tiny):
    """Norms on the sums, types of tokens, and a vocabulary."""

    def __init__(self, arch, name=None, **more):
        super().__init__(arch, name, attention__causal=False, **LN, **more)
        self.texts = wordpiece()

    def build(self, *, gated, positions, bias, fused, moe=None):
        d = self.d
        self.matrix("token_embd", len(self.texts), d)
        self.matrix("token_types", 2, d)
        self.norm("token_embd_norm", bias=True)
        if positions:
            self.matrix("position_embd", self.extra["context_length"], d)
        for i in range(self.layers):
            b = f"blk.{i}."
            if fused:
                self.matrix(b + "attn_qkv", 3 * d, d, bias)
            else:
                for part in "qkv":
                    self.matrix(b + f"attn_{part}", d, d, bias)
            self.matrix(b + "attn_output", d, d, bias)
            self.norm(b + "attn_output_norm", bias=True)
            if moe and i % 2:
                self.matrix(b + "ffn_gate_inp", moe, d)
                self.stack(b + "ffn_up_exps", moe, self.ffn, d)
                self.stack(b + "ffn_down_exps", moe, d, self.ffn, scale=0.25)
                self.norm(b + "layer_output_norm", bias=True)
                continue
            self.matrix(b + "ffn_up", self.ffn, d, bias)
            if gated:
                self.matrix(b + "ffn_gate", self.ffn, d)
            # Small, for GELU's sake.
            self.matrix(b + "ffn_down", d, self.ffn, bias, scale=1.2 if gated else 0.25)
            self.norm(b + "layer_output_norm", bias=True)
        return self

    def vocabulary(self, w):
        w.add_tokenizer_model("bert")
        w.add_token_list(self.texts)
        w.add_token_types([gguf.TokenType.CONTROL if t.startswith("[") else gguf.TokenType.NORMAL for t in self.texts])
        w.add_token_type_count(2)
        for name, id in (("bos", 2), ("seperator", 3), ("unknown", 1), ("padding", 0)):
            w.add_uint32(f"tokenizer.ggml.{name}_token_id", id)


def models():
    yield Bert("bert", heads=3, kv=3, layers=2, context_length=48, pooling_type=MEAN).build(
        gated=False, positions=True, bias=True, fused=False)
    judge = Bert("bert", "bert-cls", heads=2, kv=2, layers=2, context_length=40, pooling_type=CLS,
                 classifier__output_labels=["no", "yes"]).build(gated=False, positions=True, bias=True, fused=True)
    judge.matrix("cls", judge.d, judge.d, True)
    judge.matrix("cls.output", 2, judge.d, True)
    yield judge
    jina = Bert("jina-bert-v2", heads=3, kv=3, layers=2, context_length=48, pooling_type=MEAN).build(
        gated=True, positions=False, bias=True, fused=False)
    jina.matrix("cls", 1, jina.d, True)
    for i in range(2):  # small, for GELU's sake
        jina.tensors[f"blk.{i}.ffn_down.weight"] *= 0.2
        jina.norm(f"blk.{i}.attn_q_norm", bias=True)
        jina.norm(f"blk.{i}.attn_k_norm", bias=True)
        jina.norm(f"blk.{i}.attn_norm_2", bias=True)
        del jina.tensors[f"blk.{i}.ffn_up.bias"]
    yield jina
    yield Bert("nomic-bert", heads=3, kv=3, layers=2, context_length=48, rope__freq_base=1000.0, pooling_type=MEAN).build(
        gated=True, positions=False, bias=False, fused=True)
    yield Bert("nomic-bert-moe", heads=3, kv=3, layers=2, context_length=48, rope__freq_base=1000.0, pooling_type=MEAN,
               moe_every_n_layers=2, expert_count=4, expert_used_count=2).build(
        gated=False, positions=False, bias=True, fused=True, moe=4)
    modern = Tiny("modern-bert", heads=3, kv=3, layers=4, **LN, attention__causal=False, pooling_type=MEAN,
                  classifier_pooling="mean", attention__sliding_window=11, rope__freq_base=1e5, rope__freq_base_swa=1e3).build(
        fused_qkv=True, ffn="fused", tied=True, gelu_scale=0.25)
    modern.norm("token_embd_norm")
    del modern.tensors["blk.0.attn_norm.weight"]
    for i in range(4):  # small, for GELU's sake
        modern.tensors[f"blk.{i}.ffn_down.weight"] *= 0.2
    modern.matrix("cls", modern.d, modern.d, scale=0.5)
    modern.norm("cls.norm")
    modern.matrix("cls.output", 1, modern.d, True, scale=0.5)
    yield modern
    gemma = Tiny("gemma-embedding", head=8, layers=3, **RMS, pooling_type=MEAN, attention__sliding_window=11,
                 attention__sliding_window_pattern=[True, True, False], rope__freq_base=1e6, dense_2_feat_in=24,
                 dense_2_feat_out=36, dense_3_feat_in=36, dense_3_feat_out=24).build(tied=True, norms=POST, qk="head")
    gemma.matrix("dense_2", 36, 24)
    gemma.matrix("dense_3", 24, 36)
    yield gemma
    qwen = Tiny("qwen3", "qwen3-embedding", head=8, layers=2, **RMS, pooling_type=LAST,
                classifier__output_labels=["yes", "no"]).build(qk="head", tied=True)
    qwen.matrix("cls.output", 2, qwen.d)
    yield qwen


def ids(llm):
    return [(7 * i + 3) % llm.n_vocab() for i in range(POSITIONS)]


def load(path, pooling):
    return llama_cpp.Llama(str(path), embedding=True, pooling_type=pooling, n_ctx=512, n_batch=512, n_ubatch=512, n_threads=2,
                           n_threads_batch=2, type_k=0, type_v=0, flash_attn=False, verbose=False)


def read_all(path, pooling):
    llm = load(path, pooling)
    llm._batch.reset()
    llm._batch.add_sequence(ids(llm), 0, True)
    llm._ctx.kv_cache_clear()
    llm._ctx.decode(llm._batch)
    return llm


def scores(path, count):
    llm = read_all(path, RANK)
    found = llama_cpp.llama_get_embeddings_seq(llm._ctx.ctx, 0)
    return np.ctypeslib.as_array(found, shape=(count,)).astype("<f4").copy()


def rows(path):
    out = []
    for pooling in (NONE, MEAN, CLS, LAST):
        llm = read_all(path, pooling)
        count = POSITIONS if pooling == NONE else 1
        read = llama_cpp.llama_get_embeddings if pooling == NONE else lambda c: llama_cpp.llama_get_embeddings_seq(c, 0)
        out.append(np.ctypeslib.as_array(read(llm._ctx.ctx), shape=(count, llm.n_embd())).copy())
    return np.concatenate(out).astype("<f4")


def texts(path, pooling):
    llm = load(path, pooling)
    return [[round(x, 7) for x in llm.embed(text, normalize=True, truncate=False)] for text in TEXTS if text or pooling in (MEAN, CLS)]


def main(real, out):
    folder = out / "embeddings"
    folder.mkdir(exist_ok=True)
    golden = {"reference": f"llama-cpp-python {llama_cpp.__version__}", "texts": TEXTS}
    for model in models():
        path = folder / f"{model.name}.gguf"
        model.write(path)
        labels = len(model.extra.get("classifier__output_labels", [0]))
        if {"cls.weight", "cls.output.weight"} & set(model.tensors):
            path.with_suffix(".scores").write_bytes(scores(path, labels).tobytes())
        values = rows(path)
        assert np.isfinite(values).all()
        path.with_suffix(".f32").write_bytes(values.tobytes())
        print(model.name, path.stat().st_size, float(values.std()))
        if isinstance(model, Bert):
            golden[model.name] = texts(path, model.extra["pooling_type"])
    words = [t for t in TEXTS if t]
    for name, pooling in (("mean", MEAN), ("last", LAST)):
        llm = load(real / f"{REAL}.gguf", pooling)
        golden[f"{REAL}-{name}"] = [[round(x, 5) for x in llm.embed(t, normalize=True)] for t in words]
    (out / "embeddings.json").write_text(json.dumps(golden, separators=(",", ":")).replace("]],", "]],\n") + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
