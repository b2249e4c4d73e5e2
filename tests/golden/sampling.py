"""Makes sampling.json: what llama.cpp's samplers leave of random logits, one by one and in chains.

    python3 -m venv v && v/bin/pip install llama-cpp-python numpy
    v/bin/python tests/golden/sampling.py models/smollm2-135m-instruct-q4_1.gguf tests/golden/sampling.json

- `cases`: after the samplers of a case, how many tokens are left and the likeliest of them with their
  probabilities (tests/sampling.rs: the same tokens, probabilities within 1e-5). Tokens that a sampler leaves
  with a logit of −∞ count as gone. XTC is tested where it always acts (probability 1).
- `steps`: samplers that learn, over several tokens. The reference draws; ours is told what was drawn and must
  leave the same tokens at the next step.
- `dry`: the penalties of DRY on SmolLM2's vocabulary, with all the ways its tokens may hold a breaker.

The logits are normal numbers with a few likely ones, rounded to four digits; `scale` flattens them and `turn`
rotates them.
"""

import ctypes
import json
import sys
from pathlib import Path

import llama_cpp as lc
import numpy as np

COUNT = 1000
SHOWN = 24
DEFAULT = ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"]
# The reference's defaults (common_params_sampling).
DEFAULTS = {
    "temperature": 0.8, "dynatemp_range": 0.0, "dynatemp_exponent": 1.0, "top_k": 40, "top_p": 0.95, "min_p": 0.05,
    "top_n_sigma": -1.0, "typical_p": 1.0, "xtc_probability": 0.0, "xtc_threshold": 0.1, "min_keep": 0,
    "repeat_penalty": 1.0, "repeat_last_n": 64, "presence_penalty": 0.0, "frequency_penalty": 0.0, "mirostat": 0,
    "mirostat_tau": 5.0, "mirostat_eta": 0.1, "adaptive_target": -1.0, "adaptive_decay": 0.9, "dry_multiplier": 0.0,
    "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": 64,
}
# Tokens of the text, by their rank among the likeliest.
PAST = [0, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4, 3, 3, 8, 3, 2, 7, 9, 5]

ONE = [
    ("top_k", {"top_k": 1}), ("top_k", {"top_k": 40}), ("top_k", {"top_k": 129}), ("top_k", {"top_k": 5000}),
    ("top_p", {"top_p": 0.0}), ("top_p", {"top_p": 0.5}), ("top_p", {"top_p": 0.95}), ("top_p", {"top_p": 0.3, "min_keep": 7}),
    ("top_p", {"top_p": 0.9, "scale": 0.1}),
    ("min_p", {"min_p": 0.05}), ("min_p", {"min_p": 0.3}), ("min_p", {"min_p": 0.3, "min_keep": 12}), ("min_p", {"min_p": 1.0}),
    ("typ_p", {"typical_p": 0.2}), ("typ_p", {"typical_p": 0.9}), ("typ_p", {"typical_p": 0.1, "min_keep": 9}),
    ("typ_p", {"typical_p": 0.5, "scale": 0.1}), ("typ_p", {"typical_p": 0.0}),
    ("top_n_sigma", {"top_n_sigma": 1.0}), ("top_n_sigma", {"top_n_sigma": 3.0}),
    ("xtc", {"xtc_probability": 1.0}), ("xtc", {"xtc_probability": 1.0, "xtc_threshold": 0.02}),
    ("xtc", {"xtc_probability": 1.0, "xtc_threshold": 0.5}), ("xtc", {"xtc_probability": 1.0, "xtc_threshold": 0.02, "min_keep": 998}),
    ("temperature", {"temperature": 0.3}), ("temperature", {"temperature": 2.0}), ("temperature", {"temperature": 0.0}),
    ("temperature", {"temperature": 0.8, "dynatemp_range": 0.5}),
    ("temperature", {"temperature": 0.4, "dynatemp_range": 0.6, "dynatemp_exponent": 2.5}),
    ("temperature", {"temperature": 0.0, "dynatemp_range": 1.0, "dynatemp_exponent": 0.5}),
    ("penalties", {"repeat_penalty": 1.3}), ("penalties", {"repeat_penalty": 1.1, "repeat_last_n": 5}),
    ("penalties", {"presence_penalty": 0.7, "frequency_penalty": 0.3}), ("penalties", {"frequency_penalty": -1.5, "repeat_last_n": 20}),
    ("penalties", {"repeat_penalty": 1.3, "repeat_last_n": 0}),
]
CHAINS = [
    {},
    {"temperature": 1.5, "top_k": 0, "top_p": 0.9},
    {"top_k": 0, "min_p": 0.0, "top_p": 0.99, "scale": 0.2},
    {"typical_p": 0.6, "temperature": 1.2, "min_p": 0.01},
    {"top_n_sigma": 2.0, "temperature": 2.0, "top_p": 1.0},
    {"xtc_probability": 1.0, "xtc_threshold": 0.05},
    {"repeat_penalty": 1.2, "presence_penalty": 0.5, "dynatemp_range": 0.5, "min_keep": 3},
    {"temperature": 0.0}, {"temperature": 0.0, "repeat_penalty": 1.8, "repeat_last_n": 40},
    {"temperature": 0.0, "xtc_probability": 1.0, "xtc_threshold": 0.05},
    {"samplers": ["temperature", "top_p", "top_k"], "temperature": 2.0},
    {"samplers": ["top_k", "penalties", "min_p"], "repeat_penalty": 3.0, "top_k": 12},
    {"samplers": ["min_p", "xtc", "typ_p", "temperature"], "xtc_probability": 1.0, "typical_p": 0.8},
    {"samplers": ["top_p", "temperature", "top_p"], "top_p": 0.8},
]
STEPS = [
    {"mirostat": 1}, {"mirostat": 1, "mirostat_tau": 2.0, "mirostat_eta": 0.5, "temperature": 1.3},
    {"mirostat": 2}, {"mirostat": 2, "mirostat_tau": 1.5, "mirostat_eta": 0.6, "temperature": 0.9},
    {"samplers": ["top_k", "adaptive_p"], "adaptive_target": 0.4, "top_k": 20},
    {"samplers": ["min_p", "temperature", "adaptive_p"], "adaptive_target": 0.1, "adaptive_decay": 0.5, "min_p": 0.02},
]
DRY = [
    ("one two three four. one two three four. one two three", {"dry_multiplier": 0.8}, ["\n", ":", '"', "*"]),
    ("red green blue red green blue red green blue red green", {"dry_multiplier": 1.0, "dry_base": 1.2}, ["\n"]),
    ("the cat sat\nthe cat sat\nthe cat", {"dry_multiplier": 0.8}, ["\n"]),
    ("the cat sat\nthe cat sat\nthe cat", {"dry_multiplier": 0.8}, []),
    ("aa bb aa bb aa bb aa bb aa bb aa bb aa bb aa", {"dry_multiplier": 2.0, "dry_base": 1.75, "dry_allowed_length": 4, "dry_penalty_last_n": 9}, ["\n"]),
    ("he came home late</end>I said hello there. Then he came home late</end>I said hello", {"dry_multiplier": 1.5}, ["</end>", "zz"]),
    ("he came home late</end>I said hello there. Then he came home late</end>I said hello", {"dry_multiplier": 1.5}, ["zz"]),
    ("x = x = x = x = x = x = x = x = x = x =", {"dry_multiplier": 0.5, "dry_allowed_length": 1}, [" ="]),
]


def main(model, path):
    lc.llama_backend_init()
    random = np.random.RandomState(7)
    logits = random.normal(-2, 2.5, COUNT)
    logits[random.choice(COUNT, 12, replace=False)] += 7
    logits = [round(float(x), 4) for x in logits]
    ranked = np.argsort(logits)[::-1]
    PAST[:] = [int(ranked[rank]) for rank in PAST]
    cases = [one(logits, {"samplers": [name], **settings}) for name, settings in ONE]
    cases += [one(logits, settings) for settings in CHAINS]
    steps = [several(logits, settings) for settings in STEPS]
    params = lc.llama_model_default_params()
    params.vocab_only = True
    vocab = lc.llama_model_get_vocab(lc.llama_model_load_from_file(model.encode(), params))
    out = {"logits": logits, "cases": cases, "steps": steps, "dry": [dry(vocab, *case) for case in DRY]}
    rows = lambda key: ",\n".join(json.dumps(x) for x in out[key])
    parts = [f'"logits": {json.dumps(logits)}'] + [f'"{key}": [\n{rows(key)}\n]' for key in ("cases", "steps", "dry")]
    Path(path).write_text("{" + ",\n".join(parts) + "}\n")


def turned(logits, settings, turn=0):
    scaled = np.array(logits, np.float32) * np.float32(settings.get("scale", 1.0))
    return np.roll(scaled, -turn)


def chain(settings):
    """The samplers as common_sampler_init puts them together, but for the last one, which draws."""
    s = DEFAULTS | {"samplers": DEFAULT} | settings
    keep = s["min_keep"]
    if s["mirostat"]:
        last = {1: lambda: lc.llama_sampler_init_mirostat(COUNT, 5, s["mirostat_tau"], s["mirostat_eta"], 100),
                2: lambda: lc.llama_sampler_init_mirostat_v2(5, s["mirostat_tau"], s["mirostat_eta"])}
        return [lc.llama_sampler_init_temp(s["temperature"]), last[s["mirostat"]]()]
    make = {
        "penalties": lambda: lc.llama_sampler_init_penalties(
            COUNT, s["repeat_last_n"], s["repeat_penalty"], s["frequency_penalty"], s["presence_penalty"]),
        "top_n_sigma": lambda: lc.llama_sampler_init_top_n_sigma(s["top_n_sigma"]),
        "top_k": lambda: lc.llama_sampler_init_top_k(s["top_k"]),
        "typ_p": lambda: lc.llama_sampler_init_typical(s["typical_p"], keep),
        "top_p": lambda: lc.llama_sampler_init_top_p(s["top_p"], keep),
        "min_p": lambda: lc.llama_sampler_init_min_p(s["min_p"], keep),
        "xtc": lambda: lc.llama_sampler_init_xtc(s["xtc_probability"], s["xtc_threshold"], keep, 5),
        "temperature": lambda: lc.llama_sampler_init_temp_ext(s["temperature"], s["dynatemp_range"], s["dynatemp_exponent"]),
        "adaptive_p": lambda: lc.llama_sampler_init_adaptive_p(s["adaptive_target"], s["adaptive_decay"], 5),
    }
    return [make[name]() for name in s["samplers"] if name in make]


def apply(samplers, logits):
    data = (lc.llama_token_data * len(logits))(*[lc.llama_token_data(i, float(x), 0.0) for i, x in enumerate(logits)])
    array = lc.llama_token_data_array(ctypes.cast(data, lc.llama_token_data_p), len(logits), -1, False)
    for sampler in samplers:
        lc.llama_sampler_apply(sampler, ctypes.byref(array))
    left = [(array.data[i].id, array.data[i].logit) for i in range(array.size)]
    chosen = array.data[array.selected].id if array.selected >= 0 else None
    return [(i, x) for i, x in left if np.isfinite(x)], chosen


def shown(left):
    x = np.array([x for _, x in left], np.float64)
    p = np.exp(x - x.max())
    p /= p.sum()
    order = sorted(zip([i for i, _ in left], p), key=lambda pair: (-pair[1], pair[0]))
    return {"count": len(left), "left": [[i, float(f"{q:.7g}")] for i, q in order[:SHOWN]]}


def one(logits, settings):
    samplers = chain(settings)
    for token in PAST:
        for sampler in samplers:
            lc.llama_sampler_accept(sampler, token)
    return {"settings": settings, "past": PAST} | shown(apply(samplers, turned(logits, settings))[0])


def several(logits, settings):
    samplers, steps = chain(settings), []
    for step in range(12):
        left, chosen = apply(samplers, turned(logits, settings, step * 83))
        for sampler in samplers:
            lc.llama_sampler_accept(sampler, chosen)
        steps.append({"turn": step * 83, "chosen": chosen} | shown(left))
    return {"settings": settings, "steps": steps}


def dry(vocab, text, settings, breakers):
    s = DEFAULTS | settings
    raw = text.encode()
    ids = (lc.llama_token * 1000)()
    count = lc.llama_tokenize(vocab, raw, len(raw), ids, 1000, False, False)
    texts = (ctypes.c_char_p * max(len(breakers), 1))(*[b.encode() for b in breakers])
    sampler = lc.llama_sampler_init_dry(
        vocab, s["dry_multiplier"], s["dry_base"], s["dry_allowed_length"], s["dry_penalty_last_n"], texts, len(breakers))
    past = [int(ids[i]) for i in range(count)]
    for token in past:
        lc.llama_sampler_accept(sampler, token)
    left, _ = apply([sampler], np.zeros(lc.llama_vocab_n_tokens(vocab)))
    changed = [[i, float(f"{x:.7g}")] for i, x in left if x != 0]
    return {"text": text, "settings": settings, "breakers": breakers, "past": past, "changed": changed}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
