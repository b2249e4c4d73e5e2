"""Makes the golden vectors of this folder with llama.cpp as the reference.

    python3 -m venv v && v/bin/pip install llama-cpp-python numpy
    v/bin/python tests/golden/make.py models tests/golden [MODEL…]

For each real model, with the reference's defaults (f16 KV cache) on two threads, one token at a time
after the prompt:

- `tokenize`: ids of awkward strings, special tokens parsed and not.
- `greedy`: the ten of the candidate prompts whose 64 greedily chosen tokens (end tokens do not stop it)
  keep the largest smallest lead over the second choice. Ours must choose the same 64, or differ first at
  a lead below 0.05.
- `natural`: ten ordinary prompts, 64 tokens each, whatever their leads.

Why the two sets: both programs round activations to 8 bits, and one element rounded the other way moves
everything after it, so the *order of additions* alone moves a logit by 0.2 on average and 2 at most (the
reference against itself in F32, or our scalar against our vector kernels; on weights dequantized to F32,
where nothing is rounded, we and the reference differ by 0.0001 on SmolLM2). A tie in the natural set is
thus broken by chance on either side; there the test feeds the reference's tokens and looks at each step.
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
# Texts whose continuation a small model is sure of: lists that repeat, counting, copying.
SURE = [
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,",
    "red green blue red green blue red green blue red green blue red green blue red green blue",
    "one two three four one two three four one two three four one two three four",
    "A B C D E F G H A B C D E F G H A B C D E F G H A B C D E F G H A B C D",
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday Monday Tuesday Wednesday Thursday Friday Saturday Sunday Monday Tuesday Wednesday",
    "the cat sat on the mat. the cat sat on the mat. the cat sat on the mat. the cat sat on the mat.",
    "0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1",
    "uno dos tres cuatro cinco uno dos tres cuatro cinco uno dos tres cuatro cinco uno dos tres",
    "x = 1\nx = 1\nx = 1\nx = 1\nx = 1\nx = 1\nx = 1\nx = 1\nx = 1\nx = 1\nx = 1\n",
    "apple, pear, plum, apple, pear, plum, apple, pear, plum, apple, pear, plum, apple,",
    "January February March April May June July August September October November December January February March April May June July August September October November December January February",
    "do re mi fa sol la si do re mi fa sol la si do re mi fa sol la si do re mi",
    "100 99 98 97 96 95 94 93 92 91 90 89 88 87 86 85 84 83 82 81 80 79 78 77 76 75 74 73",
    "for i in range(10):\n    print(i)\nfor i in range(10):\n    print(i)\nfor i in range(10):\n    print(i)\nfor i in range(10):\n    print(i)\n",
    "tick tock tick tock tick tock tick tock tick tock tick tock tick tock tick tock",
    "<li>item</li>\n<li>item</li>\n<li>item</li>\n<li>item</li>\n<li>item</li>\n<li>item</li>\n",
    "el perro come y el gato duerme, el perro come y el gato duerme, el perro come y el gato duerme, el perro come",
    "ababababababababababababababababababababababababab",
    "Row, row, row your boat, gently down the stream. Row, row, row your boat, gently down the stream. Row, row, row your boat,",
    "{\"a\": 1, \"b\": 2}\n{\"a\": 1, \"b\": 2}\n{\"a\": 1, \"b\": 2}\n{\"a\": 1, \"b\": 2}\n{\"a\": 1,",
    "north east south west north east south west north east south west north east south west north",
    "2 4 6 8 10 12 14 16 18 20 22 24 26 28 30 32 34 36 38 40 42 44 46 48 50 52 54 56",
    "ping pong ping pong ping pong ping pong ping pong ping pong ping pong",
    "5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95, 100, 105, 110,",
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


def main(models: Path, out: Path, only: list[str]) -> None:
    for name, chat in MODELS.items():
        if only and name not in only:
            continue
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
            "greedy": sorted((greedy(llm, p) for p in [*SURE, *(4 * (p + "\n") + p for p in SURE)]), key=lambda g: -smallest_lead(g))[:10],
            "natural": [greedy(llm, p) for p in prompts],
        }
        (out / f"{name}.json").write_text(json.dumps(golden, ensure_ascii=True, indent=None, separators=(",", ":")).replace("},{", "},\n{") + "\n")
        print(name, [round(smallest_lead(g), 2) for g in golden["greedy"]])


def smallest_lead(g: dict) -> float:
    return min(first[1] - second[1] for first, second in g["top2"])


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
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
