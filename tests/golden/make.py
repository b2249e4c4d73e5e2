"""Makes the golden vectors of this folder with llama.cpp as the reference.

    python3 -m venv v && v/bin/pip install llama-cpp-python numpy
    v/bin/python tests/golden/make.py models tests/golden

For each real model: ten prompts, their token ids, and 64 greedily chosen tokens (end tokens do not
stop it) with the two largest logits at every step. Tolerance, in `tests/golden.rs`: the same token at
every step, or, at the first difference, two logits within 0.05 of each other in the reference.
Also the tokenization of a set of awkward strings, with special tokens parsed and not.

The reference runs with its defaults (f16 KV cache), on two threads, one token at a time after the prompt.
"""

import json
import sys
from pathlib import Path

import llama_cpp
import numpy as np

MODELS = {
    "smollm2-135m-instruct-q4_1": "chatml",
    "qwen2.5-coder-0.5b-instruct-q4_k_m": "chatml",
    "gemma-3-270m-q4_k_m": None,
}

PLAIN = [
    "The capital of France is",
    "Once upon a time, in a village by the sea, there lived an old clockmaker who",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
    "La receta tradicional de la tortilla de patatas lleva",
    "Water boils at 100 degrees Celsius at sea level because",
]
CHAT = [
    "What is a candle made of? Answer in two sentences.",
    "Write a Python function that reverses a string.",
    "Translate to Spanish: The house is small, but the garden is big.",
    "List three prime numbers larger than 100.",
    "Explain why the sky is blue to a child of six.",
]
STRINGS = [
    "",
    " ",
    "Hello, world!",
    "  two leading spaces and trailing  ",
    "tabs\tand\nnew lines\r\n\n\n  mixed   runs",
    "1234567890 3.14159 1,000,000 ١٢٣",
    "don't I'll WE'VE they'd",
    "naïve café Ångström e\u0301 combining",
    "日本語のテキスト 中文字符 한국어",
    "Привет, мир! שלום עולם مرحبا بالعالم",
    "👩‍👩‍👧‍👦 family 🏳️‍🌈 flag 🇪🇸",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * 2; } // loop",
    "<|im_start|>user\nHi<|im_end|>\n<start_of_turn>model\n<bos><eos></s><|endoftext|>",
    "https://example.com/a?b=c&d=%20#frag",
    "\u0000\u0001\u007f\u200b\ufeff\u00a0nbsp",
    "ﬀ ligature Ⅷ ½ ㎏ 𝒜 𐍈",
    "a" * 100 + "!" * 50,
    "$x^2 + y^2 = z^2$ \\frac{1}{2}",
    "SELECT * FROM t WHERE a='b' AND c<>\"d\";",
    "mixedCASEWords snake_case kebab-case CONSTANT_CASE x86_64",
]


def main(models: Path, out: Path) -> None:
    for name, chat in MODELS.items():
        llm = llama_cpp.Llama(str(models / f"{name}.gguf"), n_ctx=2048, n_threads=2, n_threads_batch=2, verbose=False)
        prompts = list(PLAIN)
        for text in CHAT:
            prompts.append(
                f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n" if chat == "chatml" else f"Question: {text}\nAnswer:"
            )
        golden = {
            "model": name,
            "reference": f"llama-cpp-python {llama_cpp.__version__}",
            "tokenize": [tokenization(llm, s) for s in STRINGS],
            "greedy": [greedy(llm, p) for p in prompts],
        }
        (out / f"{name}.json").write_text(json.dumps(golden, ensure_ascii=True, indent=None, separators=(",", ":")).replace("},{", "},\n{") + "\n")
        print(name)


def tokenization(llm: llama_cpp.Llama, text: str) -> dict:
    data = text.encode()
    return {
        "text": text,
        "special": llm.tokenize(data, add_bos=True, special=True),
        "plain": llm.tokenize(data, add_bos=False, special=False),
    }


def greedy(llm: llama_cpp.Llama, prompt: str, count: int = 64) -> dict:
    ids = llm.tokenize(prompt.encode(), add_bos=True, special=True)
    llm.reset()
    llm.eval(ids)
    chosen, top = [], []
    for _ in range(count):
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llm.ctx, -1), shape=(llm.n_vocab(),))
        best = np.argpartition(logits, -2)[-2:]
        best = best[np.argsort(-logits[best], kind="stable")]
        top.append([[int(i), round(float(logits[i]), 4)] for i in best])
        chosen.append(int(best[0]))
        llm.eval([int(best[0])])
    return {"prompt": prompt, "prompt_ids": ids, "tokens": chosen, "top2": top}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
