"""Makes the reference's prompts for the chat templates that have names.

    python3 -m venv v && v/bin/pip install llama-cpp-python==0.3.36
    v/bin/python tests/golden/builtin.py tests/golden/builtin.json

Each name of `llama_chat_builtin_templates` with each conversation, as `llama_chat_apply_template` writes it, with and
without the beginning of an answer.
"""

import ctypes
import json
import sys
from pathlib import Path

import llama_cpp


def conversation(*texts):
    return [{"role": role, "content": content} for role, content in texts]


CASES = {
    "plain": conversation(("user", "Hé?")),
    "turns": conversation(("system", " Be <b>. \n"), ("user", "  Hi\n"), ("assistant", " Yo!\n\n"), ("user", "{{ x }}")),
    "answered": conversation(("user", "1"), ("assistant", " 2 "), ("user", "3"), ("assistant", "4\n")),
    "system late": conversation(("user", "a"), ("system", "b"), ("user", "c")),
    "tool": conversation(("user", "a"), ("assistant", "b"), ("tool", " c "), ("assistant_tool_call", "d"), ("function", "e")),
}


def names():
    count = llama_cpp.llama_chat_builtin_templates(None, 0)
    out = (ctypes.c_char_p * count)()
    llama_cpp.llama_chat_builtin_templates(out, count)
    return sorted(name.decode() for name in out)


def apply(name, messages, begin):
    chat = (llama_cpp.llama_chat_message * len(messages))()
    for slot, message in zip(chat, messages):
        slot.role, slot.content = message["role"].encode(), message["content"].encode()
    buffer = ctypes.create_string_buffer(1 << 16)
    size = llama_cpp.llama_chat_apply_template(name.encode(), chat, len(messages), begin, buffer, len(buffer))
    assert 0 <= size <= len(buffer), name
    return buffer.raw[:size].decode()


def main(out):
    prompts = {
        name: {case: [apply(name, messages, begin) for begin in (False, True)] for case, messages in CASES.items()}
        for name in names()
    }
    golden = {"reference": f"llama-cpp-python {llama_cpp.__version__}", "cases": CASES, "prompts": prompts}
    out.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
    print(len(prompts), "names")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
