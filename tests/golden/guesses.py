"""Makes tiny random models with a layer for multi-token prediction, and the reference's guesses.

    python3 -m venv v && v/bin/pip install llama-cpp-python numpy gguf
    v/bin/python tests/golden/guesses.py tests/golden/guesses

As tiny.py: weights and caches are F32. The model reads the tokens t(i) = (7 i + 3) mod vocabulary; its layer that guesses
reads t(i + 1) with what the model's final norm gave at i. NAME.logits holds what this gives: (63, vocabulary) little-endian
f32. Ours has to agree within 1e-3 (`tests/guesses.rs`).
"""

import ctypes
import sys
from pathlib import Path

import llama_cpp
import numpy as np
from tiny import POSITIONS, RMS, VOCAB, Tiny

LIBRARY = llama_cpp.llama_cpp._lib


def with_guesses(model, *, own=()):
    """Adds what the last layer, which guesses, has beside an ordinary one; `own` parts are not the model's."""
    b, d = f"blk.{model.layers - 1}.nextn.", model.d
    model.matrix(b + "eh_proj", d, 2 * d)
    for norm in ("enorm", "hnorm", *(["shared_head_norm"] if "norm" in own else [])):
        model.norm(b + norm)
    if "embedding" in own:
        model.matrix(b + "embed_tokens", VOCAB, d)
    if "head" in own:
        model.matrix(b + "shared_head_head", VOCAB, d)
    return model


def models():
    net = {"ssm__conv_kernel": 4, "ssm__inner_size": 24, "ssm__state_size": 6, "ssm__time_step_rank": 4,
           "ssm__group_count": 2, "rope__dimension_count": 4, "rope__freq_base": 1e4,
           "rope__dimension_sections": [1, 1, 0, 0], "nextn_predict_layers": 1}
    qwen = {"ffn_norm": "post_attention_norm", "qk": True}
    experts = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 8}
    kinds = ["delta", "attention gated", "attention gated"]
    yield with_guesses(Tiny("qwen35", head=8, layers=3, **RMS, **net, full_attention_interval=2).hybrid(
        kinds, tied=True, **qwen))
    yield with_guesses(Tiny("qwen35moe", head=8, layers=3, **RMS, **net, **experts, full_attention_interval=2,
                            expert_shared_feed_forward_length=8).hybrid(
        kinds, moe=(4, 8), shared=8, shared_gate=True, **qwen), own=("norm", "embedding", "head"))
    told = {"expert_count": 6, "expert_used_count": 2, "expert_feed_forward_length": 8, "expert_shared_count": 1,
            "leading_dense_block_count": 1, "expert_gating_func": 2, "expert_weights_norm": True,
            "expert_weights_scale": 1.7, "nextn_predict_layers": 1}
    first = {"moe": (6, 8), "moe_dense": 1, "shared": 8, "choice_bias": True}
    yield with_guesses(Tiny("glm4moe", head=8, layers=3, **RMS, **told, rope__dimension_count=4).build(
        norms=("attn_norm", "post_attention_norm"), qkv_bias=True, qk="head", **first), own=("norm",))
    latent = {"attention__kv_lora_rank": 10, "rope__dimension_count": 8, "attention__q_lora_rank": 9,
              "attention__key_length": 18, "attention__value_length": 10, "attention__key_length_mla": 14,
              "attention__value_length_mla": 7}
    yield with_guesses(Tiny("deepseek2", heads=3, kv=1, layers=3, **RMS, **told, **latent).build(
        latent={"rank": 10, "turned": 8, "key": 14, "value": 7, "q_rank": 9, "absorbed": True}, **first), own=("norm", "head"))


def context(model, kind):
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_threads, params.n_threads_batch = 512, 512, 512, 1, 1
    params.type_k = params.type_v = 0
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.ctx_type = kind
    return llama_cpp.llama_init_from_model(model, params)


def decode(context, tokens, hidden=None):
    n = len(tokens)
    batch = llama_cpp.llama_batch_init(n, 0, 1)
    batch.n_tokens = n
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
        batch.seq_id[i][0] = 0
    if hidden is not None:
        hidden = np.ascontiguousarray(hidden, dtype=np.float32)
        batch.embd = hidden.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    assert llama_cpp.llama_decode(context, batch) == 0
    rows = llama_cpp.llama_get_logits(context)
    return np.ctypeslib.as_array(rows, (n, VOCAB)).copy()


def guesses(path, width):
    params = llama_cpp.llama_model_default_params()
    params.load_mtp = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    # These functions are exported, though only for the reference's own programs.
    keep = LIBRARY["_Z26llama_set_embeddings_nextnP13llama_contextbb"]
    keep.argtypes = [ctypes.c_void_p, ctypes.c_bool, ctypes.c_bool]
    kept = LIBRARY["_Z26llama_get_embeddings_nextnP13llama_context"]
    kept.argtypes, kept.restype = [ctypes.c_void_p], ctypes.POINTER(ctypes.c_float)
    tokens = [(7 * i + 3) % VOCAB for i in range(POSITIONS)]
    whole = context(model, 0)
    keep(whole, True, False)
    decode(whole, tokens)
    hidden = np.ctypeslib.as_array(kept(whole), (POSITIONS, width)).copy()
    return decode(context(model, llama_cpp.LLAMA_CONTEXT_TYPE_MTP), tokens[1:], hidden[:-1])


def main(out):
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    out.mkdir(exist_ok=True)
    for model in models():
        path = out / f"{model.name}.gguf"
        model.write(path)
        values = guesses(path, model.d).astype("<f4")
        assert np.isfinite(values).all()
        (out / f"{model.name}.logits").write_bytes(values.tobytes())
        print(model.name, path.stat().st_size, float(values.std()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
