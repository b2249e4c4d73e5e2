"""Models in published shapes with random weights in Q4_K_M's mix of types: for speed, not for words.

Enters: the name of a shape. Leaves: a GGUF file. Families whose real files can't be had everywhere have to be fast as
well. Knows nothing of programs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from random_blocks import SCALES_AT, blocks

RMS = {"attention.layer_norm_rms_epsilon": 1e-6}


def every(n: int, of: int, other: str, at: set[int] | None = None) -> list[str]:
    """Layers of attention among others: each `of`-th, or those whose indices are in `at`."""
    return ["attention" if (i in at if at else (i + 1) % of == 0) else other for i in range(n)]


SHAPES = {
    "qwen3.5-0.8b": dict(
        arch="qwen35", d=1024, ffn=3584, heads=8, kv=2, head=256, vocab=248_320, rope=64, gated=True,
        norm="post_attention_norm", layers=every(24, 4, "delta"),
        ssm=dict(conv_kernel=4, inner_size=2048, state_size=128, time_step_rank=16, group_count=16),
        more={"rope.dimension_sections": [11, 11, 10, 0]},
    ),
    "lfm2.5-350m": dict(
        arch="lfm2", d=1024, ffn=4608, heads=16, kv=8, head=64, vocab=65_536, final="token_embd_norm",
        layers=every(16, 0, "short", {2, 5, 8, 10, 12, 14}), more={"shortconv.l_cache": 3},
    ),
    "lfm2.5-1.2b": dict(
        arch="lfm2", d=2048, ffn=8192, heads=32, kv=8, head=64, vocab=65_536, final="token_embd_norm",
        layers=every(16, 0, "short", {2, 5, 8, 10, 12, 14}), more={"shortconv.l_cache": 3},
    ),
    "granite-4-h-350m": dict(
        arch="granitehybrid", d=768, ffn=2048, heads=12, kv=4, head=64, vocab=100_352,
        layers=every(32, 0, "mamba2", {10, 13, 17, 27}),
        ssm=dict(conv_kernel=4, inner_size=1536, state_size=128, time_step_rank=48, group_count=1),
        more={"rope.scaling.finetuned": False},
    ),
    "granite-4-h-1b": dict(
        arch="granitehybrid", d=1536, ffn=4096, heads=12, kv=4, head=128, vocab=100_352,
        layers=every(40, 0, "mamba2", {5, 15, 25, 35}),
        ssm=dict(conv_kernel=4, inner_size=3072, state_size=128, time_step_rank=48, group_count=1),
        more={"rope.scaling.finetuned": False},
    ),
    "falcon-h1-0.5b": dict(
        arch="falcon-h1", d=1024, ffn=2048, heads=8, kv=2, head=64, vocab=32_784, layers=["attention+mamba2"] * 36,
        ssm=dict(conv_kernel=4, inner_size=1536, state_size=128, time_step_rank=24, group_count=1),
    ),
    # Nemotron 3 Nano, of whose 52 layers and 128 experts these are enough to see how fast they are.
    "nemotron-3-nano-cut": dict(
        arch="nemotron_h_moe", d=2688, ffn=1856, heads=32, kv=2, head=128, vocab=131_072, norm=None,
        layers=["mamba2", "experts", "mamba2", "experts", "mamba2", "attention", "experts", "mamba2"],
        ssm=dict(conv_kernel=4, inner_size=4096, state_size=128, time_step_rank=64, group_count=8),
        more={"expert_count": 32, "expert_used_count": 6, "expert_feed_forward_length": 1856,
              "expert_shared_feed_forward_length": 3712, "expert_shared_count": 1, "expert_weights_norm": True,
              "expert_weights_scale": 2.5, "attention.layer_norm_epsilon": 1e-5},
    ),
}  # fmt: skip


# Deviation of the elements of random blocks whose scales are 1. Products have to be of ordinary size: numbers below the
# least normal one, which sigmoids of thousands give, take an Intel processor a hundred times as long as others.
SPREAD = {"Q4_K": 250, "Q6_K": 1360, "Q5_0": 9.2, "Q8_0": 74}


class Model:
    def __init__(self, path: Path, arch: str, layers: int) -> None:
        self.w, self.layers = GGUFWriter(path, arch), layers
        self.random = np.random.default_rng(1)

    def matrix(self, name: str, rows: int, columns: int, kind: str = "Q4_K", count: int = 0) -> None:
        """Rows that are no whole super-blocks have the types that `llama-quantize` falls back to."""
        if columns % 256:
            kind = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}[kind]
        dtype = GGMLQuantizationType[kind]
        elements, size = GGML_QUANT_SIZES[dtype]
        shape = (count, rows) if count else (rows,)
        data = blocks(kind, int(np.prod(shape)) * columns // elements, self.random)
        scale = np.array([columns**-0.5 / SPREAD[kind]], "<f2").view(np.uint8)
        for at in SCALES_AT[kind]:
            data[:, at : at + 2] = scale
        self.w.add_tensor(f"{name}.weight", data.reshape(*shape, columns // elements * size), raw_dtype=dtype)

    def vector(self, name: str, *shape: int, mean: float = 1.0) -> None:
        self.w.add_tensor(name, self.random.normal(mean, 0.1, shape).astype(np.float32))

    def more(self, layer: int) -> str:
        """The type of tensors that Q4_K_M keeps more bits of, in half of the layers."""
        eighth = self.layers // 8
        return "Q6_K" if layer < eighth or layer >= 7 * eighth or (layer - eighth) % 3 == 2 else "Q4_K"


def write(name: str, path: Path) -> None:
    """Writes the model of that shape."""
    shape = SHAPES[name]
    d, ffn, heads, kv, head = (shape[key] for key in ("d", "ffn", "heads", "kv", "head"))
    kinds, ssm, vocab = shape["layers"], shape.get("ssm", {}), shape["vocab"]
    m = Model(path, shape["arch"], len(kinds))
    uniform = not any(kind in ("mamba2", "short", "experts") for kind in kinds)
    keys = {
        "context_length": 8192, "embedding_length": d, "block_count": len(kinds), "attention.head_count": heads,
        "attention.head_count_kv": kv if uniform else [kv if "attention" in kind else 0 for kind in kinds],
        "feed_forward_length": [ffn if kind == "experts" else 0 for kind in kinds] if "experts" in kinds else ffn,
        "attention.key_length": head, "attention.value_length": head, "rope.dimension_count": shape.get("rope", head),
        "vocab_size": vocab, "rope.freq_base": 1e6, **RMS, **{f"ssm.{key}": value for key, value in ssm.items()},
        **shape.get("more", {}),
    }  # fmt: skip
    for key, value in keys.items():
        kind = {bool: m.w.add_bool, int: m.w.add_uint32, float: m.w.add_float32, list: m.w.add_array}[type(value)]
        kind(f"{shape['arch']}.{key}", value)
    m.w.add_tokenizer_model("gpt2")
    m.w.add_tokenizer_pre("gpt-2")
    m.w.add_token_list([f"t{i}" for i in range(vocab)])
    m.w.add_token_types([1] * vocab)
    m.w.add_token_merges(["t 0"])
    m.w.add_eos_token_id(0)
    m.matrix("token_embd", vocab, d, "Q6_K")
    m.vector(f"{shape.get('final', 'output_norm')}.weight", d)
    for i, kind in enumerate(kinds):
        layer(m, f"blk.{i}.", i, kind, shape)
    m.w.write_header_to_file()
    m.w.write_kv_data_to_file()
    m.w.write_tensors_to_file()
    m.w.close()


def layer(m: Model, b: str, index: int, kind: str, shape: dict) -> None:
    d, ffn, heads, kv, head = (shape[key] for key in ("d", "ffn", "heads", "kv", "head"))
    ssm = shape.get("ssm", {})
    m.vector(b + "attn_norm.weight", d)
    if "attention" in kind:
        m.matrix(b + "attn_q", heads * head * (2 if shape.get("gated") else 1), d)
        m.matrix(b + "attn_k", kv * head, d)
        m.matrix(b + "attn_v", kv * head, d, m.more(index))
        m.matrix(b + "attn_output", d, heads * head)
        if shape["arch"] in ("qwen35", "lfm2"):
            m.vector(b + "attn_q_norm.weight", head)
            m.vector(b + "attn_k_norm.weight", head)
    if "mamba2" in kind or kind == "delta":
        inner, state, groups, rank = (ssm[key] for key in ("inner_size", "state_size", "group_count", "time_step_rank"))
        width = inner + 2 * groups * state
        m.vector(b + "ssm_conv1d.weight", width, ssm["conv_kernel"], mean=0)
        m.vector(b + "ssm_dt.bias", rank, mean=-1)
        m.matrix(b + "ssm_out", d, inner)
    if "mamba2" in kind:
        m.matrix(b + "ssm_in", inner + width + rank, d)
        m.vector(b + "ssm_conv1d.bias", width, mean=0)
        m.vector(b + "ssm_a", rank, 1, mean=-1)
        m.vector(b + "ssm_d", rank, 1)
        if shape["arch"] != "falcon-h1":
            m.vector(b + "ssm_norm.weight", groups, inner // groups)
    if kind == "delta":
        m.matrix(b + "attn_qkv", width, d)
        m.matrix(b + "attn_gate", inner, d)
        m.matrix(b + "ssm_alpha", rank, d)
        m.matrix(b + "ssm_beta", rank, d)
        m.vector(b + "ssm_a", rank, mean=-1)
        m.vector(b + "ssm_norm.weight", state)
    if kind == "short":
        m.matrix(b + "shortconv.in_proj", 3 * d, d)
        m.vector(b + "shortconv.conv.weight", d, shape["more"]["shortconv.l_cache"], mean=0)
        m.matrix(b + "shortconv.out_proj", d, d)
    if kind == "experts":
        count, width = (shape["more"][f"expert_{key}"] for key in ("count", "feed_forward_length"))
        shared = shape["more"]["expert_shared_feed_forward_length"]
        m.vector(b + "ffn_gate_inp.weight", count, d, mean=0)
        m.vector(b + "exp_probs_b.bias", count, mean=0)
        m.matrix(b + "ffn_up_exps", width, d, count=count)
        m.matrix(b + "ffn_down_exps", d, width, m.more(index), count=count)
        m.matrix(b + "ffn_up_shexp", shared, d)
        m.matrix(b + "ffn_down_shexp", d, shared, m.more(index))
    norm = shape.get("norm", "ffn_norm")
    if norm:
        m.vector(b + norm + ("" if shape["arch"] == "falcon-h1" else ".weight"), d)
        m.matrix(b + "ffn_gate", ffn, d)
        m.matrix(b + "ffn_up", ffn, d)
        m.matrix(b + "ffn_down", d, ffn, m.more(index))
