"""Makes grammar.json: which tokens llama.cpp's grammars allow, step by step.

    python3 -m venv v && v/bin/pip install llama-cpp-python
    v/bin/python tests/golden/grammar.py models/smollm2-135m-instruct-q4_1.gguf tests/golden/grammar.json

Each text is followed token by token. At each step stand the tokens that may come next: their ids where there are
few, else their number and a hash (FNV-1a, 64 bits, over the ids ascending as four bytes each, the lowest first);
and whether the text may end. Control tokens are left out: the reference takes them for the text of their names.
`tests/constraints.rs` compares; where ours knows the next token for certain it has to be one of these.
"""

import ctypes
import json
import sys
from pathlib import Path

import llama_cpp as lc

LISTED = 40

JSON = r"""
root    ::= value
value   ::= (object | array | text | number | "true" | "false" | "null") gap
object  ::= "{" gap (pair ("," gap pair)*)? "}"
pair    ::= text gap ":" gap value
array   ::= "[" gap (value ("," gap value)*)? "]"
text    ::= "\"" ([^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\""
number  ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
gap     ::= ("\n" | " ")*
"""

CASES = [
    (JSON, '{"name": "Anna \\"the\\" Great", "ages": [1, -2.5e3, 40],\n "ok": true, "\u00fc": null}'),
    (JSON, '[[[]], {}, "caf\u00e9 \u2615 \\u00e9", false]'),
    ('root ::= ("- " [^\\n]{1,60} "\\n"){2,4}', "- red apples\n- green pears\n- blue\n"),
    ('root ::= sum\nsum ::= term ([-+*/] term)*\nterm ::= [0-9]+ | "(" sum ")"', "12+(3*44)-5/(6)"),
    ("root ::= [0-9]{4} \"-\" (\"0\" [1-9] | \"1\" [0-2]) \"-\" [0-3] [0-9]", "1987-12-31"),
    ('root ::= ("yes" | "no" | "not sure") "."?', "not sure."),
    ('root ::= [\u0430-\u044f\u0410-\u042f ]+ [.!?]', "\u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440!"),
    ('root ::= [a-z]+ " " [a-z]+ "@" [a-z]+ ("." [a-z]+)+', "mail anna@example.org.uk"),
    ('root ::= "I am " .* "!"', "I am what I am! Yes!"),
    ('root ::= ("a" | "ab" | "abc")* "c"', "ababcabcc"),
    ('root ::= "<b>" [^<]* "</b>" | "<i>" root "</i>"', "<i><b>bold and leaning</b></i>"),
]


def main(model, path):
    params = lc.llama_model_default_params()
    params.vocab_only = True
    vocab = lc.llama_model_get_vocab(lc.llama_model_load_from_file(model.encode(), params))
    cases = [json.dumps(case(vocab, *c)) for c in CASES]
    Path(path).write_text("[\n" + ",\n".join(cases) + "\n]\n")


def case(vocab, grammar, text):
    raw = text.encode()
    ids = (lc.llama_token * 1000)()
    count = lc.llama_tokenize(vocab, raw, len(raw), ids, 1000, False, False)
    tokens = [int(ids[i]) for i in range(count)]
    sampler = lc.llama_sampler_init_grammar(vocab, grammar.encode(), b"root")
    assert sampler, grammar
    steps = []
    for token in [*tokens, None]:
        allowed, ends = after(vocab, sampler)
        listed = {"ids": allowed} if len(allowed) <= LISTED else {"count": len(allowed), "hash": fnv(allowed)}
        steps.append(listed | {"ends": ends})
        if token is not None:
            assert token in allowed, (grammar, text, token)
            lc.llama_sampler_accept(sampler, token)
    return {"grammar": grammar, "text": text, "tokens": tokens, "steps": steps}


def after(vocab, sampler):
    count = lc.llama_vocab_n_tokens(vocab)
    data = (lc.llama_token_data * count)(*[lc.llama_token_data(i, 0.0, 0.0) for i in range(count)])
    array = lc.llama_token_data_array(ctypes.cast(data, lc.llama_token_data_p), count, -1, False)
    lc.llama_sampler_apply(sampler, ctypes.byref(array))
    left = [data[i].id for i in range(count) if data[i].logit == 0.0]
    ends = any(lc.llama_vocab_is_eog(vocab, i) for i in left)
    control = lambda i: lc.llama_vocab_is_control(vocab, i) or lc.llama_vocab_is_eog(vocab, i)
    return [i for i in left if not control(i)], ends


def fnv(ids):
    value = 0xCBF29CE484222325
    for byte in b"".join(i.to_bytes(4, "little") for i in ids):
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return f"{value:016x}"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
