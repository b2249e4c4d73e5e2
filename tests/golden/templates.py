"""Makes the goldens of chat templates: what Hugging Face's way of rendering gives for each case.

    python3 -m venv v && v/bin/pip install jinja2==3.1.6 gguf==0.19.0
    v/bin/python tests/golden/templates.py models tests/golden/templates.json [FOLDER...]

The templates are those in tests/golden/templates/ (see its README for where they come from), those inside the models in
models/, and those of further folders (llama.cpp's models/templates/ when this was last run), of which only digests
are kept. The settings are those of
`transformers.utils.chat_template_utils`: an immutable sandbox with trimmed blocks, loop controls, the `generation` tag,
and its `tojson`, `raise_exception` and `strftime_now`. Each output is kept as a SHA-256 of its UTF-8; a refusal is kept
as its message, and any other failure as `null`. To see the texts themselves, set TEXTS to a folder.
"""

import hashlib
import json
import os
import sys
from datetime import datetime
from pathlib import Path

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime(2026, 7, 5, 14, 3, 9)
BOS, EOS = "<|bos|>", "<|eos|>"


class Generation(Extension):
    """`{% generation %}…{% endgeneration %}`, which marks answers for training and leaves them as they are."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("keep"), [], [], body).set_lineno(line)

    def keep(self, caller):
        return caller()


class Refused(jinja2.exceptions.TemplateError):
    pass


def refuse(message):
    raise Refused(message)


def to_json(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def compiled(source):
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = to_json
    # Joined with a text, markupsafe's "safe" strings turn its quotes into HTML: no model was trained on that, and
    # llama.cpp leaves them alone too.
    env.filters["safe"] = str
    env.globals["raise_exception"] = refuse
    env.globals["strftime_now"] = NOW.strftime
    return env.from_string(source)


def system(text="You are a helpful assistant.\nBe brief."):
    return {"role": "system", "content": text}


def user(text="What's the weather in Málaga & Tōkyō? <b>\"now\"</b>"):
    return {"role": "user", "content": text}


def assistant(text="It is 21 °C there.", **more):
    return {"role": "assistant", "content": text} | more


def call(name, arguments, number=1):
    return {"id": f"call0000{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def result(text, number=1, name="get_weather"):
    return {"role": "tool", "content": text, "tool_call_id": f"call0000{number}", "name": name}


TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather",
        "description": "Current weather: température in °C & “wind”.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "The city's name"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": "integer", "minimum": 1},
                "where": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}}},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["city"],
        },
    }},
    {"type": "function", "function": {
        "name": "add",
        "description": "Adds two numbers",
        "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}, "required": ["a", "b"]},
    }},
]
WEATHER = {"city": "Málaga", "days": 2, "where": {"lat": 36.72, "lon": -4.0}, "tags": ["a", "b's"], "now": True, "unit": None}
ROUND = [user(), assistant("", tool_calls=[call("get_weather", WEATHER)]), result('{"temp": 21.5, "sky": "claro"}')]
DOCUMENTS = [
    {"title": "Candles", "text": "A tealight burns for four hours.", "doc_id": 1, "content": "A tealight burns for four hours."},
    {"title": "Wax", "text": "Paraffin or “bee's” wax.", "doc_id": 2, "content": "Paraffin or “bee's” wax."},
]
CASES = {
    "plain": {"messages": [user()]},
    "system": {"messages": [system(), user()]},
    "turns": {"messages": [system(), user("  Hi \n"), assistant(" Hello!\n\n"), user("And\r\nnow?"), assistant("<b>ok</b>"), user()]},
    "no generation prompt": {"messages": [user(), assistant()], "add_generation_prompt": False},
    "two users": {"messages": [user(), user("Again.")]},
    "tools": {"messages": [user()], "tools": TOOLS},
    "tools and system": {"messages": [system(), user()], "tools": TOOLS},
    "tool result": {"messages": ROUND, "tools": TOOLS},
    "tool result, no tools": {"messages": ROUND},
    "tool result, then on": {"messages": [system(), *ROUND, assistant(), user("And tomorrow?")], "tools": TOOLS},
    "two calls": {"messages": [
        user(),
        assistant("I look.", tool_calls=[call("get_weather", {"city": "Tōkyō"}), call("add", {"a": 1, "b": 2.5}, 2)]),
        result("rain"), result("3.5", 2, "add"),
    ], "tools": TOOLS},
    "arguments as text": {"messages": [
        user(), assistant("", tool_calls=[call("get_weather", json.dumps(WEATHER, ensure_ascii=False))]), result("rain"),
    ], "tools": TOOLS},
    "thinking on": {"messages": [system(), user()], "variables": {"enable_thinking": True, "thinking": True}},
    "thinking off": {"messages": [system(), user()], "variables": {"enable_thinking": False, "thinking": False}},
    "low effort": {"messages": [user()], "variables": {"reasoning_effort": "low"}},
    "thoughts": {"messages": [user(), assistant(reasoning_content="Hm.\nMálaga…"), user("Sure?")]},
    "thoughts and tags": {"messages": [user(), assistant("<think>\nHm.\n</think>\n\nIt is warm."), user("Sure?")]},
    "thoughts and a call": {"messages": [
        user(), assistant("", reasoning_content="I need the weather.", tool_calls=[call("get_weather", {"city": "Málaga"})]), result("rain"),
    ], "tools": TOOLS},
    "documents": {"messages": [user()], "documents": DOCUMENTS},
}


def render(template, case):
    values = {"messages": case["messages"], "tools": case.get("tools"), "documents": case.get("documents")}
    values |= {"add_generation_prompt": case.get("add_generation_prompt", True), "bos_token": BOS, "eos_token": EOS}
    values |= {"date_string": NOW.strftime("%d %b %Y"), "datetime": NOW.strftime("%b %d %Y")}
    return template.render(**values, **case.get("variables", {}))


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def golden(name, source):
    template, out, texts = compiled(source), {}, os.environ.get("TEXTS")
    for case, inputs in CASES.items():
        try:
            text = render(template, inputs)
            out[case] = sha256(text)
        except Refused as refusal:
            text = out[case] = f"refused: {refusal}"
        except Exception as error:
            text, out[case] = f"failed: {error!r}", None
        if texts:
            folder = Path(texts, name)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / case).write_bytes(text.encode())
    return {"sha256": sha256(source), "cases": out}


def templates(models, folders):
    import gguf

    for folder in [Path(__file__).with_name("templates"), *folders]:
        for path in sorted(folder.glob("*.jinja")):
            yield path.stem, path.read_bytes().decode()
    for path in sorted(models.glob("*.gguf")):
        field = gguf.GGUFReader(path).get_field("tokenizer.chat_template")
        if field:
            yield path.name, field.contents()


def main(models, out, folders):
    found = {}
    for name, source in templates(models, folders):
        found.setdefault(name, golden(name, source))
    now = NOW.strftime("%Y-%m-%d %H:%M:%S")
    document = {"reference": f"jinja2 {jinja2.__version__}", "now": now, "bos": BOS, "eos": EOS, "cases": CASES, "templates": found}
    out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(len(found), "templates,", len(CASES), "cases")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(folder) for folder in sys.argv[3:]])
