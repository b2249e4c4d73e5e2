"""Makes tiny random models of every family, and the reference's logits for them.

    python3 -m venv v && v/bin/pip install llama-cpp-python numpy gguf
    v/bin/python tests/golden/tiny.py tests/golden/tiny

Weights are F32 and the reference's cache is F32 without flash attention, so that nothing is rounded: ours
has to agree within 1e-3 at every one of 64 positions (`tests/families.rs`). Shapes are chosen for trouble:
grouped heads, widths that are no power of two, more layers than the window pattern, windows shorter than
the text, experts that are never used.

A file NAME.gguf has no vocabulary, only its size. NAME.logits holds (64, vocabulary) little-endian f32 for
the tokens (7 i + 3) mod vocabulary; where the file says `tiny.past`, so many of them come before the 64.
"""

import sys
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

POSITIONS = 64
VOCAB = 40


class Tiny:
    """One model: metadata beside the common ones, and tensors by name."""

    def __init__(self, arch, name=None, *, d=24, heads=4, kv=2, head=None, layers=3, ffn=36, past=0, **extra):
        self.arch, self.name = arch, name or arch
        self.d, self.heads, self.kv, self.layers, self.ffn = d, heads, kv, layers, ffn
        self.head = head or d // heads
        self.extra, self.past = extra, past
        self.tensors, self.halves, self.bare_keys = {}, set(), {}
        self.random = np.random.RandomState(sum(map(ord, self.name)))

    def matrix(self, name, rows, columns, bias=False, scale=1.2):
        self.tensors[f"{name}.weight"] = self.random.normal(0, scale / np.sqrt(columns), (rows, columns))
        if bias:
            self.tensors[f"{name}.bias"] = self.random.normal(0, 0.3, rows)

    def stack(self, name, count, rows, columns, bias=False, scale=1.2):
        self.tensors[f"{name}.weight"] = self.random.normal(0, scale / np.sqrt(columns), (count, rows, columns))
        if bias:
            self.tensors[f"{name}.bias"] = self.random.normal(0, 0.3, (count, rows))

    def norm(self, name, size=None, bias=False, mean=1.0):
        self.tensors[f"{name}.weight"] = self.random.normal(mean, 0.2 * mean, size or self.d)
        if bias:
            self.tensors[f"{name}.bias"] = self.random.normal(0, 0.2, size or self.d)

    def build(self, *, norms=("attn_norm", "ffn_norm"), qk=None, qkv_bias=False, fused_qkv=False, out_bias=False,
              ffn="gated", ffn_bias=False, norm_bias=False, tied=False, moe=None, moe_bias=False, moe_scale=1.2,
              moe_every=1, moe_dense=0, choice_bias=False, shared=None, shared_gate=False, sinks=False, latent=None,
              head_bias=False, positions=None, gelu_scale=0.25):
        d, q, k = self.d, self.heads * self.head, self.kv * self.head
        self.matrix("token_embd", VOCAB, d)
        self.norm("output_norm", bias=norm_bias)
        if not tied:
            self.matrix("output", VOCAB, d, head_bias)
        if positions:
            self.matrix("position_embd", positions, d)
        for i in range(self.layers):
            b = f"blk.{i}."
            for n in norms:
                gelu = self.arch.startswith("gemma") and n == "post_ffw_norm"
                self.norm(b + n, bias=norm_bias, mean=0.1 if gelu else 1.0)
            if latent:
                self.latent(b, **latent)
            elif fused_qkv:
                self.matrix(b + "attn_qkv", q + 2 * k, d, qkv_bias)
            else:
                self.matrix(b + "attn_q", q, d, qkv_bias)
                self.matrix(b + "attn_k", k, d, qkv_bias)
                self.matrix(b + "attn_v", k, d, qkv_bias)
            if qk == "each":
                self.tensors[b + "attn_q_norm.weight"] = self.random.normal(1, 0.2, (self.heads, self.head))
                self.tensors[b + "attn_k_norm.weight"] = self.random.normal(1, 0.2, (self.kv, self.head))
            elif qk:
                self.norm(b + "attn_q_norm", self.head if qk == "head" else q)
                self.norm(b + "attn_k_norm", self.head if qk == "head" else k)
            self.matrix(b + "attn_output", d, self.heads * latent["value"] if latent else q, out_bias)
            if sinks:
                self.tensors[b + "attn_sinks.weight"] = self.random.normal(0, 2, self.heads)
            if moe and i >= moe_dense and (i + 1) % moe_every == 0:
                count, width = moe
                self.matrix(b + "ffn_gate_inp", count, d, moe_bias)
                if choice_bias:
                    self.tensors[b + "exp_probs_b.bias"] = self.random.normal(0, 0.3, count)
                self.stack(b + "ffn_gate_exps", count, width, d, moe_bias, moe_scale)
                self.stack(b + "ffn_up_exps", count, width, d, moe_bias, moe_scale)
                self.stack(b + "ffn_down_exps", count, d, width, moe_bias)
                if shared:
                    if shared_gate:
                        self.tensors[b + "ffn_gate_inp_shexp.weight"] = self.random.normal(0, 0.2, d)
                    self.matrix(b + "ffn_gate_shexp", shared, d)
                    self.matrix(b + "ffn_up_shexp", shared, d)
                    self.matrix(b + "ffn_down_shexp", d, shared)
                continue
            if ffn == "gated":
                self.matrix(b + "ffn_gate", self.ffn, d)
            self.matrix(b + "ffn_up", self.ffn * (2 if ffn == "fused" else 1), d, ffn_bias)
            # The reference looks GELU up in a table of f16, which is off by up to 2^-11: what follows it
            # (here, or the norm above) is made small enough for that to stay below the tolerance.
            small = self.arch.startswith("gemma") or ffn == "plain"
            self.matrix(b + "ffn_down", d, self.ffn, ffn_bias, scale=gelu_scale if small else 1.2)
        return self

    def gemma4(self, *, window_head, kvs, shared=0, per_layer=0, moe=None, keys_as_values=False):
        """Gemma 4: a window in all layers but each third."""
        d, n = self.d, self.layers
        windowed = [i % 3 != 2 for i in range(n)]
        ffns = [self.ffn * (2 if i >= n - shared else 1) for i in range(n)]
        self.extra.update({
            "attention.sliding_window_pattern": windowed, "attention.head_count_kv": kvs, "feed_forward_length": ffns,
            "attention.shared_kv_layers": shared, "embedding_length_per_layer_input": per_layer,
            "attention.key_length_swa": window_head, "attention.value_length_swa": window_head,
            "rope.dimension_count_swa": window_head,
        })
        self.matrix("token_embd", VOCAB, d)
        self.norm("output_norm")
        half = self.head // 2
        self.tensors["rope_freqs.weight"] = np.where(np.arange(half) < half // 2, 1.0, 1e30)
        if per_layer:
            self.matrix("per_layer_token_embd", VOCAB, n * per_layer)
            self.matrix("per_layer_model_proj", n * per_layer, d)
            self.norm("per_layer_proj_norm", per_layer)
        for i in range(n):
            b = f"blk.{i}."
            head = window_head if windowed[i] else self.head
            q, k = self.heads * head, kvs[i] * head
            for name in POST:
                self.norm(b + name, mean=0.1 if name == "post_ffw_norm" else 1.0)
            self.matrix(b + "attn_q", q, d)
            self.norm(b + "attn_q_norm", head, mean=0.5)
            # Files may hold keys and values that are not used.
            if i < n - shared or i == n - 1:
                self.matrix(b + "attn_k", k, d)
                self.norm(b + "attn_k_norm", head, mean=0.5)
                if windowed[i] or not keys_as_values:
                    self.matrix(b + "attn_v", k, d)
            self.matrix(b + "attn_output", d, q)
            self.matrix(b + "ffn_gate", ffns[i], d)
            self.matrix(b + "ffn_up", ffns[i], d)
            self.matrix(b + "ffn_down", d, ffns[i])
            self.tensors[b + "layer_output_scale.weight"] = self.random.uniform(0.6, 1.2, 1)
            if per_layer:
                self.matrix(b + "inp_gate", per_layer, d)
                self.matrix(b + "proj", d, per_layer)
                self.norm(b + "post_norm", mean=0.1)
            if moe:
                count, width = moe
                self.matrix(b + "ffn_gate_inp", count, d)
                self.tensors[b + "ffn_gate_inp.scale"] = self.random.normal(4, 1, d)
                for name in ("pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"):
                    self.norm(b + name)
                self.stack(b + "ffn_gate_up_exps", count, 2 * width, d)
                self.stack(b + "ffn_down_exps", count, d, width)
                self.tensors[b + "ffn_down_exps.scale"] = self.random.uniform(0.5, 1.5, count)
        return self

    def gemma3n(self):
        """Gemma 3n: the reference fixes the number of streams, the rank of LAuReL and the width of layers' inputs."""
        d, n, streams, rank, width = self.d, self.layers, 4, 64, 256
        q, k = self.heads * self.head, self.kv * self.head
        self.matrix("token_embd", VOCAB, d)
        self.norm("output_norm")
        self.stack("altup_proj", streams - 1, d, d)
        self.stack("altup_unembd_proj", streams - 1, d, d)
        self.matrix("per_layer_token_embd", VOCAB, n * width)
        self.halves.add("per_layer_token_embd.weight")
        self.matrix("per_layer_model_proj", n * width, d)
        self.norm("per_layer_proj_norm", width)
        for i in range(n):
            b = f"blk.{i}."
            for name in POST:
                self.norm(b + name, mean=0.1 if name == "post_ffw_norm" else 1.0)
            self.matrix(b + "attn_q", q, d)
            self.matrix(b + "attn_k", k, d)
            self.matrix(b + "attn_v", k, d)
            self.norm(b + "attn_q_norm", self.head, mean=0.5)
            self.norm(b + "attn_k_norm", self.head, mean=0.5)
            self.matrix(b + "attn_output", d, q)
            self.matrix(b + "ffn_gate", self.ffn, d)
            self.matrix(b + "ffn_up", self.ffn, d)
            self.matrix(b + "ffn_down", d, self.ffn)
            self.matrix(b + "inp_gate", width, d)
            self.matrix(b + "proj", d, width)
            self.norm(b + "post_norm", mean=0.1)
            self.matrix(b + "altup_correct_coef", streams, streams, scale=0.5)
            self.norm(b + "altup_correct_scale")
            self.matrix(b + "altup_predict_coef", streams * streams, streams, scale=0.5)
            self.matrix(b + "altup_router", streams, d, scale=20)
            self.norm(b + "altup_router_norm")
            self.matrix(b + "laurel_l", rank, d)
            self.matrix(b + "laurel_r", d, rank)
            self.norm(b + "laurel_post_norm")
        return self

    def latent(self, b, *, rank, turned, key, value, q_rank=None, absorbed=False):
        """Multi-head latent attention, in the form of new files (absorbed) or of old ones."""
        heads, fixed = self.heads, key - turned
        if q_rank:
            self.matrix(b + "attn_q_a", q_rank, self.d)
            self.norm(b + "attn_q_a_norm", q_rank)
            self.matrix(b + "attn_q_b", heads * key, q_rank)
        else:
            self.matrix(b + "attn_q", heads * key, self.d)
        self.matrix(b + "attn_kv_a_mqa", rank + turned, self.d)
        self.norm(b + "attn_kv_a_norm", rank)
        if absorbed:
            self.stack(b + "attn_k_b", heads, rank, fixed)
            self.stack(b + "attn_v_b", heads, value, rank)
        else:
            self.matrix(b + "attn_kv_b", heads * (fixed + value), rank)

    def hybrid(self, kinds, *, ffn_norm="ffn_norm", final="output_norm", ffn="gated", moe=None, moe_dense=0,
               choice_bias=False, shared=None, shared_gate=False, narrow=None, qk=False, tied=False, grouped=True):
        """Layers of several kinds: each has a mixer, and a feed-forward layer unless it is "alone"."""
        d = self.d
        self.matrix("token_embd", VOCAB, d)
        self.norm(final)
        if not tied:
            self.matrix("output", VOCAB, d)
        for i, kind in enumerate(kinds):
            b = f"blk.{i}."
            self.norm(b + "attn_norm")
            for part in kind.split("+"):
                getattr(self, part.split()[0])(b, *part.split()[1:])
            if "attention" in kind and qk:
                self.norm(b + "attn_q_norm", self.head)
                self.norm(b + "attn_k_norm", self.head)
            if "mamba2" in kind and grouped:
                ssm = self.ssm()
                self.tensors[b + "ssm_norm.weight"] = self.random.normal(
                    1, 0.2, (ssm["group_count"], ssm["inner_size"] // ssm["group_count"]))
            if ffn_norm and kind != "feed":
                bare = self.arch == "falcon-h1"  # whose converter leaves the ending out
                self.norm(b + ffn_norm)
                if bare:
                    self.tensors[b + ffn_norm] = self.tensors.pop(b + ffn_norm + ".weight")
            if not ffn_norm and kind != "feed":
                continue
            if moe and i >= moe_dense:
                count, width = moe
                inside = narrow or d
                self.matrix(b + "ffn_gate_inp", count, d)
                if choice_bias:
                    self.tensors[b + "exp_probs_b.bias"] = self.random.normal(0, 0.3, count)
                if narrow:
                    self.matrix(b + "ffn_latent_down", narrow, d)
                    self.matrix(b + "ffn_latent_up", d, narrow)
                if ffn == "gated":
                    self.stack(b + "ffn_gate_exps", count, width, inside)
                self.stack(b + "ffn_up_exps", count, width, inside)
                self.stack(b + "ffn_down_exps", count, inside, width)
                if shared:
                    if shared_gate:
                        self.tensors[b + "ffn_gate_inp_shexp.weight"] = self.random.normal(0, 0.2, d)
                    if ffn == "gated":
                        self.matrix(b + "ffn_gate_shexp", shared, d)
                    self.matrix(b + "ffn_up_shexp", shared, d)
                    self.matrix(b + "ffn_down_shexp", d, shared)
                continue
            width = self.ffn[i] if isinstance(self.ffn, list) else self.ffn
            if ffn == "gated":
                self.matrix(b + "ffn_gate", width, d)
            self.matrix(b + "ffn_up", width * (2 if ffn == "fused" else 1), d)
            self.matrix(b + "ffn_down", d, width)
        return self

    def ssm(self):
        return {key[5:]: value for key, value in self.extra.items() if key.startswith("ssm__")}

    def feed(self, b):
        """A layer without a mixer."""

    def attention(self, b, gated=""):
        q, k = self.heads * self.head, max(self.kv if isinstance(self.kv, list) else [self.kv]) * self.head
        self.matrix(b + "attn_q", q * (2 if gated else 1), self.d)
        self.matrix(b + "attn_k", k, self.d)
        self.matrix(b + "attn_v", k, self.d)
        self.matrix(b + "attn_output", self.d, q)

    def delta(self, b, form="apart"):
        ssm = self.ssm()
        heads, keys, dim = ssm["time_step_rank"], ssm["group_count"], ssm["state_size"]
        values = heads * dim
        width = 2 * keys * dim + values
        if form == "old":
            self.matrix(b + "ssm_in", width + values, self.d)
        else:
            self.matrix(b + "attn_qkv", width, self.d)
            self.matrix(b + "attn_gate", values, self.d)
        if form == "apart":
            self.matrix(b + "ssm_alpha", heads, self.d)
            self.matrix(b + "ssm_beta", heads, self.d)
        else:
            self.matrix(b + "ssm_ba", 2 * heads, self.d)
        self.recurrence(b, width, heads)
        self.norm(b + "ssm_norm", dim)
        self.matrix(b + "ssm_out", self.d, values)

    def mamba2(self, b, bias=""):
        ssm = self.ssm()
        heads, inner = ssm["time_step_rank"], ssm["inner_size"]
        width = inner + 2 * ssm["group_count"] * ssm["state_size"]
        self.matrix(b + "ssm_in", inner + width + heads, self.d)
        self.recurrence(b, width, heads)
        self.tensors[b + "ssm_a"] = self.tensors[b + "ssm_a"].reshape(heads, 1)
        self.tensors[b + "ssm_d"] = self.random.normal(1, 0.3, (heads, 1))
        self.tensors[b + "ssm_conv1d.bias"] = self.random.normal(0, 0.3, width)
        self.matrix(b + "ssm_out", self.d, inner)

    def mamba1(self, b, norms=""):
        ssm = self.ssm()
        inner, state, rank = ssm["inner_size"], ssm["state_size"], ssm["time_step_rank"]
        self.matrix(b + "ssm_in", 2 * inner, self.d)
        self.matrix(b + "ssm_conv1d", inner, ssm["conv_kernel"], True)
        self.matrix(b + "ssm_x", rank + 2 * state, inner)
        self.matrix(b + "ssm_dt", inner, rank, True)
        self.tensors[b + "ssm_a"] = -self.random.uniform(0.1, 1.5, (inner, state))
        self.tensors[b + "ssm_d"] = self.random.normal(1, 0.3, inner)
        self.matrix(b + "ssm_out", self.d, inner)
        if norms:
            self.norm(b + "ssm_dt_norm", rank)
            self.norm(b + "ssm_b_norm", state)
            self.norm(b + "ssm_c_norm", state)

    def plamo(self, b):
        ssm = self.ssm()
        heads, inner, state, rank = ssm["time_step_rank"], ssm["inner_size"], ssm["state_size"], 64
        self.matrix(b + "ssm_in", 2 * inner, self.d)
        self.recurrence(b, inner, heads)
        self.tensors[b + "ssm_d"] = self.random.normal(1, 0.3, heads)
        self.matrix(b + "ssm_x", 2 * state + rank, inner)
        self.matrix(b + "ssm_dt", heads, rank, scale=0.5)
        self.matrix(b + "ssm_out", self.d, inner)
        for name, size in (("dt", rank), ("b", state), ("c", state)):  # whose converter leaves the ending out
            self.tensors[f"{b}ssm_{name}_norm"] = self.random.normal(1, 0.2, size)

    def fused(self, b):
        """Attention whose projections are one tensor, with norms for each head."""
        q, k = self.heads * self.head, max(self.kv) * self.head
        self.matrix(b + "attn_qkv", q + 2 * k, self.d)
        self.tensors[b + "attn_q_norm.weight"] = self.random.normal(1, 0.2, (self.heads, self.head))
        self.tensors[b + "attn_k_norm.weight"] = self.random.normal(1, 0.2, (max(self.kv), self.head))
        self.matrix(b + "attn_output", self.d, q)

    def kda(self, b, rank=""):
        """Kimi's delta attention; alphas and the gate come through a short vector, or directly."""
        dim, taps = self.extra["kda__head_dim"], self.extra["ssm__conv_kernel"]
        inner = self.heads * dim
        for part in "qkv":
            self.matrix(b + f"attn_{part}", inner, self.d)
            shape = (inner, 1, taps) if rank else (1, inner, 1, taps)
            self.tensors[f"{b}ssm_conv1d_{part}.weight"] = self.random.normal(0, 0.5, shape)
        for part in "fg":
            if rank:
                self.matrix(b + f"ssm_{part}_a", dim, self.d)
                self.matrix(b + f"ssm_{part}_b", inner, dim)
            else:
                self.matrix(b + f"ssm_{part}_a", inner, self.d)
        self.matrix(b + "ssm_beta", self.heads, self.d)
        self.tensors[b + "ssm_dt.bias"] = self.random.normal(-1, 0.7, inner)
        rates = self.random.uniform(0.1, 1.5, (self.heads, 1))
        self.tensors[b + "ssm_a"] = -rates if rank else rates
        self.norm(b + "ssm_norm", dim)
        self.matrix(b + "attn_output", self.d, inner)

    def mla(self, b, gated=""):
        self.latent(b, rank=10, turned=8, key=14, value=7, absorbed=True)
        if gated:
            self.matrix(b + "attn_gate", self.heads, self.d)
        self.matrix(b + "attn_output", self.d, self.heads * 7)

    def lightning(self, b):
        inner = self.heads * self.head
        self.matrix(b + "attn_qkv", 3 * inner, self.d)
        self.matrix(b + "attn_gate", inner, self.d)
        self.norm(b + "attn_norm_2", inner)
        self.matrix(b + "attn_output", self.d, inner)

    def rwkv(self, version, *, converted=False, kv=None, gate=True, apart=False):
        """RWKV, or a model with attention converted to it: `kv` rows of keys and values."""
        d, dim, extra = self.d, self.extra["wkv__head_size"], 5
        self.matrix("token_embd", VOCAB, d)
        self.matrix("output", VOCAB, d)
        self.norm("output_norm", bias=not converted)
        if not converted:
            self.norm("token_embd_norm", bias=True)
        for i in range(self.layers):
            b = f"blk.{i}."
            t = b + "time_mix_"
            vector = lambda name, mean=0.5, by=0.3, shape=d: self.tensors.__setitem__(  # noqa: E731
                f"{t}{name}.weight", self.random.normal(mean, by, shape))
            self.norm(b + "attn_norm", bias=not converted)
            if version == 6:
                self.matrix(t + "w1", 5 * extra, d)
                self.stack(t + "w2", 5, d, extra, scale=0.3)
                vector("lerp_x", shape=(1, 1, d))
                if apart:
                    for part in "wkvrg":
                        vector(f"lerp_{part}", shape=(1, 1, d))
                else:
                    vector("lerp_fused", shape=(5, 1, 1, d))
                vector("decay", -1, 0.7)
                self.matrix(t + "decay_w1", extra, d)
                self.matrix(t + "decay_w2", d, extra)
                if not converted:
                    vector("first", 0.3, 0.3, (d // dim, dim))
                self.matrix(t + "gate", d, d)
            else:
                vector("lerp_fused", shape=(6 if gate else 5, 1, 1, d))
                for part, rank in (("w", 4), ("a", 5), ("v", 3 if i else 5)):
                    vector(f"{part}0", -0.5, 0.5)
                    self.matrix(f"{t}{part}1", rank, d)
                    self.matrix(f"{t}{part}2", d, rank)
                if gate:
                    self.matrix(t + "g1", 6, d)
                    self.matrix(t + "g2", d, 6)
                vector("k_k", 0.8)
                vector("k_a", 0.8)
                vector("r_k", 0.0)
            self.matrix(t + "receptance", d, d, converted and version == 6)
            self.matrix(t + "key", kv or d, d, converted and version == 6)
            self.matrix(t + "value", kv or d, d, converted and version == 6)
            self.matrix(t + "output", d, d)
            if not converted:
                self.norm(t + "ln", bias=True)
                self.norm(b + "attn_norm_2", bias=True)
                c = b + "channel_mix_"
                for part in "kr" if version == 6 else "k":
                    self.tensors[f"{c}lerp_{part}.weight"] = self.random.normal(0.5, 0.3, (1, 1, d))
                self.matrix(c + "key", self.ffn, d)
                self.matrix(c + "value", d, self.ffn)
                if version == 6:
                    self.matrix(c + "receptance", d, d)
                continue
            self.norm(b + "ffn_norm")
            self.matrix(b + "ffn_gate", self.ffn, d)
            self.matrix(b + "ffn_up", self.ffn, d)
            self.matrix(b + "ffn_down", d, self.ffn)
        return self

    def recurrence(self, b, width, heads):
        self.matrix(b + "ssm_conv1d", width, self.ssm()["conv_kernel"])
        self.tensors[b + "ssm_dt.bias"] = self.random.normal(-1, 0.7, heads)
        self.tensors[b + "ssm_a"] = -self.random.uniform(0.1, 1.5, heads)

    def short(self, b):
        self.matrix(b + "shortconv.in_proj", 3 * self.d, self.d)
        self.matrix(b + "shortconv.conv", self.d, self.extra["shortconv__l_cache"])
        self.matrix(b + "shortconv.out_proj", self.d, self.d)

    def write(self, path):
        w = gguf.GGUFWriter(path, self.arch)
        keys = {
            "vocab_size": VOCAB, "context_length": 512, "embedding_length": self.d, "block_count": self.layers,
            "feed_forward_length": self.ffn, "attention.head_count": self.heads, "attention.head_count_kv": self.kv,
            "attention.key_length": self.head, "attention.value_length": self.head, "rope.dimension_count": self.head,
        }
        keys.update((key.replace("__", "."), value) for key, value in self.extra.items())
        for key, value in keys.items():
            key = f"{self.arch}.{key}"
            if isinstance(value, bool):
                w.add_bool(key, value)
            elif isinstance(value, int):
                w.add_uint32(key, value)
            elif isinstance(value, str):
                w.add_string(key, value)
            elif isinstance(value, list):
                w.add_array(key, value)
            else:
                w.add_float32(key, value)
        for key, values in self.bare_keys.items():
            w.add_array(key, values)
        if self.past:
            w.add_uint32("tiny.past", self.past)
        self.vocabulary(w)
        for name, values in self.tensors.items():
            kind = np.float16 if name in self.halves else np.float32
            w.add_tensor(name, np.ascontiguousarray(values, dtype=kind))
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()

    def vocabulary(self, w):
        w.add_string("tokenizer.ggml.model", "none")


RMS = {"attention__layer_norm_rms_epsilon": 1e-5}
LN = {"attention__layer_norm_epsilon": 1e-5}
POST = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")


def models():
    yield Tiny("llama", **RMS).build()
    yield Tiny("llama", "llama-linear", kv=1, heads=3, **RMS, rope__scaling__type="linear", rope__scaling__factor=2.0,
               rope__freq_base=5000.0).build(tied=True)
    factors = Tiny("llama", "llama-factors", **RMS).build()
    factors.tensors["rope_freqs.weight"] = np.array([1.0, 2.5, 8.0])
    yield factors
    # Pairs that turn often, seldom and in between within the 40 positions before the stretching.
    yarn = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0, "rope__scaling__original_context_length": 40,
            "rope__freq_base": 50.0}
    yield Tiny("llama", "llama-yarn", head=16, layers=2, **RMS, **yarn, rope__scaling__attn_factor=1.1).build()
    yield Tiny("llama", "mixtral", ffn=20, **RMS, expert_count=5, expert_used_count=2).build(moe=(5, 20))
    yield Tiny("qwen2", **RMS, rope__freq_base=1e6).build(qkv_bias=True)
    yield Tiny("qwen2moe", **RMS, expert_count=6, expert_used_count=2, expert_feed_forward_length=20,
               expert_shared_feed_forward_length=28).build(qkv_bias=True, moe=(6, 20), shared=28, shared_gate=True)
    yield Tiny("qwen3", head=8, **RMS).build(qk="head", tied=True)
    yield Tiny("qwen3moe", head=8, **RMS, expert_count=8, expert_used_count=2, expert_feed_forward_length=16).build(
        qk="head", moe=(8, 16))
    mla = {"attention__kv_lora_rank": 10, "rope__dimension_count": 8, "expert_count": 6, "expert_used_count": 2,
           "expert_feed_forward_length": 8, "expert_shared_count": 1, "leading_dense_block_count": 1}
    absorbed = {"attention__q_lora_rank": 9, "attention__key_length": 18, "attention__value_length": 10,
                "attention__key_length_mla": 14, "attention__value_length_mla": 7}
    shape = {"rank": 10, "turned": 8, "key": 14, "value": 7}
    # 27 layers tell the reference that queries come without a latent vector of their own.
    yield Tiny("deepseek2", "deepseek2-lite", d=8, heads=2, kv=2, layers=27, ffn=12, **RMS, **mla, **yarn,
               rope__scaling__yarn_log_multiplier=0.0707, attention__key_length=14, attention__value_length=7).build(
        latent=shape, moe=(6, 8), moe_dense=1, shared=8)
    yield Tiny("deepseek2", heads=3, kv=1, layers=4, **RMS, **mla, **yarn, **absorbed, expert_gating_func=2,
               expert_weights_norm=True, expert_weights_scale=2.5, expert_group_count=3, expert_group_used_count=2,
               nextn_predict_layers=1).build(
        latent={**shape, "q_rank": 9, "absorbed": True}, moe=(6, 8), moe_dense=1, shared=8, choice_bias=True)
    yield Tiny("mistral4", kv=1, **RMS, **mla, **yarn, **absorbed, rope__scaling__yarn_log_multiplier=0.1,
               attention__temperature_scale=0.2, attention__temperature_length=25).build(
        latent={**shape, "q_rank": 9, "absorbed": True}, moe=(6, 8), moe_dense=1, shared=8)
    yield Tiny("gemma", head=8, **RMS).build(tied=True)
    yield Tiny("gemma2", head=8, layers=5, **RMS, attn_logit_softcapping=5.0, final_logit_softcapping=3.0,
               attention__sliding_window=9).build(tied=True, norms=POST)
    yield Tiny("gemma3", head=8, layers=8, **RMS, rope__freq_base=1e6, attention__sliding_window=9).build(
        tied=True, norms=POST, qk="head")
    four = {**RMS, "rope__freq_base": 1e5, "attention__sliding_window": 9, "final_logit_softcapping": 4.0}
    yield Tiny("gemma4", head=12, heads=2, layers=6, ffn=20, **four).gemma4(
        window_head=8, kvs=[2, 2, 1, 2, 2, 1], shared=3, per_layer=6)
    yield Tiny("gemma4", "gemma4-experts", head=12, heads=4, layers=4, ffn=20, **four, expert_count=5,
               expert_used_count=2, expert_feed_forward_length=8).gemma4(
        window_head=8, kvs=[2, 2, 1, 2], moe=(5, 8), keys_as_values=True)
    # Gates and ups are large enough to be clamped.
    yield Tiny("gpt-oss", head=8, kv=1, layers=5, **RMS, **yarn, attention__sliding_window=9, expert_count=6,
               expert_used_count=2, expert_feed_forward_length=12).build(
        norms=("attn_norm", "post_attention_norm"), qkv_bias=True, out_bias=True, sinks=True, moe=(6, 12),
        moe_bias=True, moe_scale=5)
    yield Tiny("granite", **RMS, embedding_scale=3.0, residual_scale=0.3, logit_scale=2.0, attention__scale=0.2).build()
    yield Tiny("glm4", **RMS).build(norms=POST, qkv_bias=True, ffn="fused")
    # Its chunks and temperatures are of 8192 positions, whatever the file says.
    yield Tiny("llama4", d=16, heads=2, kv=1, head=8, layers=5, past=8170, **RMS, expert_count=5, expert_used_count=1,
               expert_feed_forward_length=12, interleave_moe_layer_step=2).build(moe=(5, 12), moe_every=2, shared=12)
    yield Tiny("mistral3", head=16, layers=2, **RMS, **yarn, rope__scaling__yarn_beta_fast=8.0,
               rope__scaling__yarn_beta_slow=0.5, rope__scaling__yarn_log_multiplier=0.7,
               attention__temperature_scale=0.4).build()
    yield Tiny("olmo2", **RMS).build(norms=("post_attention_norm", "post_ffw_norm"), qk="all")
    yield Tiny("olmo2", "olmo3", layers=5, **RMS, **yarn, attention__sliding_window=9).build(
        norms=("post_attention_norm", "post_ffw_norm"), qk="all")
    yield Tiny("olmoe", kv=4, ffn=20, **RMS, expert_count=6, expert_used_count=3).build(qk="all", moe=(6, 20))
    yield Tiny("phi3", **RMS, rope__scaling__original_context_length=512).build(fused_qkv=True, ffn="fused")
    for name, original in (("phi3-short", 512), ("phi3-long", 40)):
        long = Tiny("phi3", name, layers=2, **RMS, rope__scaling__type="longrope", rope__scaling__attn_factor=1.19,
                    rope__scaling__original_context_length=original).build(fused_qkv=True, ffn="fused")
        long.tensors["rope_factors_short.weight"] = np.array([1.0, 1.1, 1.3])
        long.tensors["rope_factors_long.weight"] = np.array([1.2, 3.0, 20.0])
        yield long
    yield Tiny("smollm3", layers=6, **RMS).build(tied=True)
    yield Tiny("stablelm", **LN, use_parallel_residual=False).build(norm_bias=True, qkv_bias=True)
    yield Tiny("stablelm", "stablelm-parallel", **LN, use_parallel_residual=True).build(
        norms=("attn_norm",), qk="each", norm_bias=True)
    yield Tiny("starcoder2", **LN).build(norm_bias=True, qkv_bias=True, out_bias=True, ffn="plain", ffn_bias=True)
    yield from more()
    yield from hybrids()
    yield from keyed()
    yield from small()
    yield from streams()


def streams():
    yield Tiny("gemma3n", d=8, head=8, heads=2, kv=1, layers=2, ffn=20, **RMS, rope__freq_base=1e6,
               attention__sliding_window=9, attention__sliding_window_pattern=[True, False]).gemma3n()


def hybrids():
    """Layers whose past is a state of fixed size, beside those with attention."""
    net = {"ssm__conv_kernel": 4, "ssm__inner_size": 24, "ssm__state_size": 6, "ssm__time_step_rank": 4,
           "ssm__group_count": 2, "rope__dimension_count": 4, "rope__freq_base": 1e4}
    qwen = {"ffn_norm": "post_attention_norm", "qk": True}
    sections = {"rope__dimension_sections": [1, 1, 0, 0]}
    experts = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 10}
    yield Tiny("qwen35", head=8, layers=4, **RMS, **net, **sections).hybrid(
        ["delta", "delta", "delta", "attention gated"], tied=True, **qwen)
    yield Tiny("qwen35moe", head=8, layers=3, **RMS, **net, **sections, **experts, full_attention_interval=2,
               expert_shared_feed_forward_length=12).hybrid(
        ["delta", "attention gated", "delta"], moe=(4, 10), shared=12, shared_gate=True, **qwen)
    for name, form in (("qwen3next", "woven"), ("qwen3next-old", "old")):
        yield Tiny("qwen3next", name, head=8, layers=3, **RMS, **net, **experts, full_attention_interval=3,
                   expert_shared_feed_forward_length=12).hybrid(
            [f"delta {form}", f"delta {form}", "attention gated"], moe=(4, 10), shared=12, shared_gate=True, **qwen)
    short = {"shortconv__l_cache": 3}
    yield Tiny("lfm2", kv=[0, 2, 0], **RMS, **short).hybrid(
        ["short", "attention", "short"], final="token_embd_norm", qk=True, tied=True)
    yield Tiny("lfm2moe", kv=[0, 2, 0], **RMS, **short, **experts, leading_dense_block_count=1, expert_gating_func=2).hybrid(
        ["short", "attention", "short"], final="token_embd_norm", qk=True, tied=True, moe=(4, 10), moe_dense=1,
        choice_bias=True)
    mamba = {"ssm__conv_kernel": 4, "ssm__inner_size": 48, "ssm__state_size": 10, "ssm__time_step_rank": 6,
             "ssm__group_count": 2}
    granite = {"embedding_scale": 3.0, "residual_scale": 0.3, "logit_scale": 2.0, "attention__scale": 0.2}
    yield Tiny("granitehybrid", kv=[0, 2, 0], **RMS, **mamba, **granite).hybrid(["mamba2", "attention", "mamba2"])
    yield Tiny("granitehybrid", "granitehybrid-experts", kv=[0, 2], layers=2, ffn=10, **RMS, **mamba, **granite,
               expert_count=6, expert_used_count=2, expert_shared_feed_forward_length=12,
               rope__scaling__finetuned=False).hybrid(["mamba2", "attention"], moe=(6, 10), shared=12)
    yield Tiny("falcon-h1", layers=2, **RMS, **mamba).hybrid(["attention+mamba2"] * 2, grouped=False, tied=True)
    old = {"ssm__conv_kernel": 4, "ssm__inner_size": 48, "ssm__state_size": 5, "ssm__time_step_rank": 3}
    bare = {"heads": 0, "kv": 0, "head": 1, "layers": 2, "ffn": 0}
    yield Tiny("mamba", **bare, **RMS, **old).hybrid(["mamba1"] * 2, ffn_norm=None, tied=True)
    yield Tiny("mamba", "falcon-mamba", **bare, **RMS, **old, ssm__dt_b_c_rms=True).hybrid(["mamba1"] * 2, ffn_norm=None)
    yield Tiny("mamba2", **bare, **RMS, **mamba).hybrid(["mamba2"] * 2, ffn_norm=None, tied=True)
    yield Tiny("jamba", kv=[0, 2, 0], ffn=10, **RMS, **old, expert_count=4, expert_used_count=2).hybrid(
        ["mamba1 norms", "attention", "mamba1 norms"], moe=(4, 10), moe_dense=1)
    nemotron = {"ffn_norm": None, "ffn": "plain"}
    yield Tiny("nemotron_h", kv=[0, 0, 2, 0], layers=4, ffn=[0, 36, 0, 0], **LN, **mamba).hybrid(
        ["mamba2", "feed", "attention", "mamba2"], **nemotron)
    yield Tiny("nemotron_h_moe", kv=[0, 0, 2, 0], layers=4, ffn=[0, 10, 0, 0], **RMS, **LN, **mamba, expert_count=6,
               expert_used_count=2, expert_feed_forward_length=10, expert_shared_feed_forward_length=12,
               expert_shared_count=1, expert_weights_norm=True, expert_weights_scale=2.5, moe_latent_size=16).hybrid(
        ["mamba2", "feed", "attention", "mamba2"], moe=(6, 10), shared=12, choice_bias=True, narrow=16, **nemotron)


def keyed():
    """States each of whose key elements forgets at a rate of its own, and what goes with them."""
    shared = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 8, "expert_shared_count": 1,
              "leading_dense_block_count": 1, "expert_gating_func": 2, "expert_weights_scale": 1.7}
    latent = {"attention__kv_lora_rank": 10, "rope__dimension_count": 8, "attention__key_length": 18,
              "attention__value_length": 10, "attention__key_length_mla": 14, "attention__value_length_mla": 7,
              "ssm__conv_kernel": 4, "kda__head_dim": 6}
    first = {"moe": (4, 8), "moe_dense": 1, "shared": 8, "choice_bias": True}
    yield Tiny("kimi-linear", heads=3, kv=[0, 1, 0], **RMS, **latent, **shared).hybrid(
        ["kda narrow", "mla", "kda narrow"], **first)
    yield Tiny("bailingmoe3", heads=3, kv=[0, 1, 0], **RMS, **latent, **shared, kda__safe_gate=True,
               kda__gate_lower_bound=-5.0, expert_weights_norm=True).hybrid(["kda", "mla gated", "kda"], **first)
    yield Tiny("minimax-01", heads=3, kv=3, layers=3, ffn=8, **RMS, rope__dimension_count=4, residual_scale=1.5,
               full_attention_interval=2, expert_count=4, expert_used_count=2).hybrid(
        ["lightning", "attention", "lightning"], moe=(4, 8))
    plamo = Tiny("plamo2", kv=[0, 2, 0], ffn=20, **RMS, ssm__conv_kernel=4, ssm__inner_size=32, ssm__state_size=6,
                 ssm__time_step_rank=4, ssm__group_count=0).hybrid(["plamo", "fused", "plamo"], ffn="fused", tied=True)
    for i in range(3):
        for name in ("post_attention_norm", "post_ffw_norm"):
            plamo.tensors[f"blk.{i}.{name}"] = plamo.random.normal(1, 0.2, plamo.d)
    yield plamo
    old = {"heads": 0, "kv": 0, "head": 1, "layers": 2, "wkv__head_size": 8}
    six = {"time_mix_extra_dim": 5, "time_decay_extra_dim": 5}
    yield Tiny("rwkv6", **old, **LN, **six, token_shift_count=2, rescale_every_n_layers=2).rwkv(6)
    yield Tiny("rwkv6", "rwkv6-apart", **old, **LN, **six, token_shift_count=2).rwkv(6, apart=True)
    grouped = {**old, "d": 32, "kv": 2}
    yield Tiny("rwkv6qwen2", **grouped, **RMS, **six, token_shift_count=1).rwkv(6, converted=True, kv=16)
    ranks = {"attention__decay_lora_rank": 4, "attention__iclr_lora_rank": 5,
             "attention__value_residual_mix_lora_rank": 3}
    gates = {**ranks, "attention__gate_lora_rank": 6}
    # The reference takes heads in steps of 32 elements, or 64 with AVX-512 (so it has to be built without that).
    old.update(d=32, wkv__head_size=32, ffn=30)
    yield Tiny("rwkv7", **old, **LN, **gates, token_shift_count=2).rwkv(7)
    yield Tiny("arwkv7", **old, **RMS, **gates, token_shift_count=1).rwkv(7, converted=True)
    yield Tiny("arwkv7", "arwkv7-ungated", **old, **RMS, **ranks, token_shift_count=1).rwkv(
        7, converted=True, gate=False)


def small():
    """Families each with something of its own."""
    experts = {**RMS, "expert_count": 4, "expert_used_count": 2}
    apertus = Tiny("apertus", head=8, layers=2, **RMS).build(qk="head", ffn="plain", gelu_scale=0.6)
    for key, values in (("alpha_n", [0.7, 0.9]), ("alpha_p", [0.8, 0.5]), ("beta", [0.5, 0.4]), ("eps", [-1e-6, -1e-6])):
        apertus.bare_keys[f"xielu.{key}"] = values
    yield apertus
    bitnet = Tiny("bitnet", layers=2, **RMS).build(tied=True)
    for i in range(2):
        bitnet.norm(f"blk.{i}.attn_sub_norm")
        bitnet.norm(f"blk.{i}.ffn_sub_norm", bitnet.ffn)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            bitnet.tensors[f"blk.{i}.{part}.scale"] = bitnet.random.uniform(0.6, 1.5, 1)
    yield bitnet
    grok = Tiny("grok", layers=2, head=6, **experts, expert_feed_forward_length=8, embedding_scale=1.5,
                final_logit_softcapping=4.0, attention__output_scale=0.3).build(
        norms=("attn_norm", "attn_output_norm", "ffn_norm", "layer_output_norm"), moe=(4, 8))
    one = Tiny("grok", "grok-dense", layers=2, head=6, ffn=8, **experts, expert_feed_forward_length=8).build(
        norms=("attn_norm", "attn_output_norm", "ffn_norm", "post_ffw_norm"), moe=(4, 8))
    for i in range(2):
        one.matrix(f"blk.{i}.ffn_gate", 8, one.d)
        one.matrix(f"blk.{i}.ffn_up", 8, one.d)
        one.matrix(f"blk.{i}.ffn_down", one.d, 8)
    # Small, for GELU's sake.
    for model, name in ((grok, "layer_output_norm"), (one, "post_ffw_norm")):
        for i in range(2):
            model.tensors[f"blk.{i}.{name}.weight"] *= 0.1
        yield model
    yield Tiny("mpt", heads=3, kv=3, layers=2, **LN, attention__max_alibi_bias=8.0, attention__clamp_kqv=1.5).build(
        fused_qkv=True, ffn="plain", tied=True, gelu_scale=0.1)
    yield Tiny("mpt", "mpt-biased", heads=4, kv=4, layers=2, **LN, attention__max_alibi_bias=4.0).build(
        fused_qkv=True, qkv_bias=True, norm_bias=True, out_bias=True, ffn="plain", ffn_bias=True, tied=True, gelu_scale=0.1)
    yield Tiny("plm", heads=3, kv=3, head=14, layers=2, **RMS, attention__kv_lora_rank=10, rope__dimension_count=8,
               attention__value_length=7).build(
        latent={"rank": 10, "turned": 8, "key": 14, "value": 7}, ffn="plain", tied=True, gelu_scale=1.2)
    # Its windows are of 4096 positions, whatever the file says.
    yield Tiny("smallthinker", d=16, heads=2, kv=1, head=8, layers=5, ffn=8, past=4080, **experts, expert_gating_func=2,
               expert_feed_forward_length=8, attention__sliding_window=9).build(moe=(4, 8))
    yield Tiny("smallthinker", "smallthinker-whole", ffn=8, layers=2, head=6, **experts, expert_gating_func=1,
               expert_feed_forward_length=8).build(moe=(4, 8), tied=True)


def more():
    """Families that differ little from those above; two layers show it."""
    half = {"rope__dimension_count": 4}
    plain = {"norm_bias": True, "qkv_bias": True, "out_bias": True, "ffn": "plain", "ffn_bias": True}
    yield Tiny("arcee", layers=2, **RMS).build(ffn="plain")
    yield Tiny("chatglm", heads=3, kv=1, layers=2, **RMS, **half).build(fused_qkv=True, qkv_bias=True, ffn="fused")
    yield Tiny("cohere2", layers=5, **LN, attention__sliding_window=9, logit_scale=0.25).build(
        norms=("attn_norm",), tied=True)
    yield Tiny("command-r", layers=2, **LN, logit_scale=0.25).build(norms=("attn_norm",), tied=True)
    yield Tiny("ernie4_5", head=8, layers=2, **RMS).build(tied=True)
    yield Tiny("exaone", layers=2, **RMS).build()
    # 64 layers tell the reference that there are windows.
    yield Tiny("exaone4", d=8, heads=2, kv=1, head=4, layers=64, ffn=10, **RMS, attention__sliding_window=9).build(
        norms=("post_attention_norm", "post_ffw_norm"), qk="head", tied=True)
    yield Tiny("exaone4", "exaone4-small", layers=2, **RMS).build(
        norms=("post_attention_norm", "post_ffw_norm"), qk="head")
    yield Tiny("falcon", kv=1, layers=2, **LN).build(
        norms=("attn_norm",), norm_bias=True, fused_qkv=True, ffn="plain", tied=True, gelu_scale=0.1)
    yield Tiny("glm4", "glm4-image", layers=2, **RMS, rope__dimension_sections=[1, 1, 1, 0]).build(
        norms=POST, ffn="fused")
    yield Tiny("gpt2", kv=4, layers=2, **LN, context_length=80).build(fused_qkv=True, tied=True, positions=80, **plain)
    yield Tiny("starcoder", kv=1, layers=2, **LN, context_length=80).build(
        fused_qkv=True, tied=True, positions=80, **plain)
    for name, parallel in (("gptneox", True), ("gptneox-sequential", False)):
        yield Tiny("gptneox", name, kv=4, layers=2, **LN, use_parallel_residual=parallel).build(fused_qkv=True, **plain)
    yield Tiny("hunyuan-dense", head=8, layers=2, **RMS, rope__scaling__alpha=50.0).build(qk="head", tied=True)
    yield Tiny("internlm2", layers=2, **RMS).build()
    yield Tiny("minicpm", layers=2, **RMS).build(tied=True)
    yield Tiny("nemotron", head=8, heads=3, kv=1, layers=2, **LN, **half).build(norm_bias=True, ffn="plain")
    yield Tiny("orion", layers=2, **LN).build(norm_bias=True)
    yield Tiny("phi2", heads=3, kv=3, layers=2, **LN, **half).build(norms=("attn_norm",), head_bias=True, **plain)
    # The reference does not read this family's epsilon (it has 0), so a negligible one.
    yield Tiny("qwen2vl", layers=2, attention__layer_norm_rms_epsilon=1e-9,
               rope__dimension_sections=[1, 1, 1, 0]).build(qkv_bias=True)
    yield Tiny("qwen3vl", head=8, layers=2, **RMS, rope__dimension_sections=[2, 1, 1, 0]).build(qk="head", tied=True)
    yield Tiny("seed_oss", head=8, layers=2, **RMS).build(norms=("attn_norm", "post_attention_norm"), qkv_bias=True)

    moe = {**RMS, "expert_count": 6, "expert_used_count": 2, "expert_feed_forward_length": 8}
    shared = {**moe, "expert_shared_count": 1, "leading_dense_block_count": 1}
    told = {**shared, "expert_gating_func": 2, "expert_weights_norm": True, "expert_weights_scale": 1.7}
    groups = {"expert_group_count": 2, "expert_group_used_count": 1}
    first = {"moe": (6, 8), "moe_dense": 1, "shared": 8}
    yield Tiny("bailingmoe", layers=2, **moe, expert_shared_count=1, expert_weights_norm=True).build(
        moe=(6, 8), shared=8)
    yield Tiny("bailingmoe2", layers=2, **told, **groups).build(fused_qkv=True, qk="head", choice_bias=True, **first)
    yield Tiny("deepseek", layers=2, **shared, expert_weights_scale=1.7).build(**first)
    yield Tiny("dots1", kv=4, head=8, layers=2, **told).build(qk="head", choice_bias=True, **first)
    yield Tiny("ernie4_5-moe", layers=2, **shared, expert_shared_feed_forward_length=8,
               interleave_moe_layer_step=1).build(choice_bias=True, **first)
    yield Tiny("glm4moe", head=8, layers=3, **told, **half, nextn_predict_layers=1).build(
        norms=("attn_norm", "post_attention_norm"), qkv_bias=True, qk="head", choice_bias=True, **first)
    yield Tiny("granitemoe", ffn=8, layers=2, **moe, expert_shared_feed_forward_length=10, embedding_scale=3.0,
               residual_scale=0.3, logit_scale=2.0, attention__scale=0.2).build(moe=(6, 8), shared=10)
    yield Tiny("hunyuan-moe", head=8, ffn=8, layers=2, **moe, expert_shared_feed_forward_length=10).build(
        qk="head", moe=(6, 8), shared=10)
    yield Tiny("minimax-m2", head=8, ffn=8, layers=2, **moe, **half, expert_gating_func=2).build(
        qk="all", moe=(6, 8), choice_bias=True)
    phimoe = Tiny("phimoe", ffn=8, layers=2, **moe, rope__scaling__type="longrope", rope__scaling__attn_factor=1.19,
                  rope__scaling__original_context_length=40).build(
        norm_bias=True, qkv_bias=True, out_bias=True, head_bias=True, moe=(6, 8))
    phimoe.tensors["rope_factors_short.weight"] = np.array([1.0, 1.1, 1.3])
    phimoe.tensors["rope_factors_long.weight"] = np.array([1.2, 3.0, 20.0])
    yield phimoe
    yield Tiny("qwen3vlmoe", head=8, layers=2, **moe, rope__dimension_sections=[2, 1, 1, 0]).build(
        qk="head", moe=(6, 8))


def logits(path, past=0):
    n = past + POSITIONS
    # The wrapper's own defaults would overrule what a file says of YaRN.
    llm = llama_cpp.Llama(str(path), n_ctx=max(512, n), n_threads=1, n_threads_batch=1, verbose=False, logits_all=True,
                          type_k=0, type_v=0, flash_attn=False, yarn_beta_fast=-1.0, yarn_beta_slow=-1.0,
                          yarn_attn_factor=-1.0)
    llm.eval([(7 * i + 3) % VOCAB for i in range(n)])
    return np.array(llm.scores[past:n], dtype="<f4")


def main(out):
    out.mkdir(exist_ok=True)
    for model in models():
        if len(sys.argv) > 2 and model.name not in sys.argv[2:]:
            continue
        path = out / f"{model.name}.gguf"
        model.write(path)
        values = logits(path, model.past)
        assert np.isfinite(values).all()
        (out / f"{model.name}.logits").write_bytes(values.tobytes())
        print(model.name, path.stat().st_size, float(values.std()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
