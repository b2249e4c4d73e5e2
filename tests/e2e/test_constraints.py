"""Answers that have to have a form: JSON schemas, grammars, expressions; by requests, as defaults, in the terminal."""

from __future__ import annotations

import json
import re
from typing import Literal

import jsonschema
import openai
import pydantic
import pytest
from harness import RUNTIME, SMOLLM2, run

QUESTION = [{"role": "user", "content": "Tell me about a person."}]
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=120) as client:
        yield client


def closed(properties: dict, **more) -> dict:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False} | more


WORD = {"type": "string", "maxLength": 12}
SCHEMAS = {
    "nested": closed({"name": WORD, "address": closed({"street": WORD, "town": closed({"name": WORD, "zip": {"type": "integer"}})})}),
    "arrays": closed({"rows": {"type": "array", "minItems": 2, "maxItems": 3, "items": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}}}),
    "enums": closed({"size": {"enum": ["small", "large", 3, None, {"a": [1]}]}, "kind": {"const": "person"}}),
    "numbers": closed(
        {
            "age": {"type": "integer", "minimum": 18, "maximum": 65},
            "below": {"type": "number", "exclusiveMinimum": -1.5, "exclusiveMaximum": 2.25},
            "price": {"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 100},
        }
    ),
    "references": {
        "$ref": "#/$defs/node",
        "$defs": {"node": closed({"value": {"type": "integer", "minimum": 0, "maximum": 9}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}})},
    },
    "choices": closed({"pet": {"anyOf": [closed({"cat": {"type": "boolean"}}), closed({"dog": {"enum": ["big", "small"]}}), {"type": "null"}]}}),
    "all of": {
        "type": "object",
        "allOf": [{"properties": {"a": {"type": "integer", "maximum": 9, "minimum": 0}}, "required": ["a"]}, {"properties": {"b": WORD}, "required": ["b"]}],
        "maxProperties": 2,
    },
    "formats": closed(
        {
            "day": {"type": "string", "format": "date"},
            "id": {"type": "string", "format": "uuid"},
            "host": {"type": "string", "format": "ipv4"},
        }
    ),
    "patterns": closed({"code": {"type": "string", "pattern": "^[A-Z]{2,3}-[0-9]{4}$"}, "part": {"type": "string", "pattern": "^a.{0,5}z$"}}),
    "a list": {"type": "array", "prefixItems": [{"type": "integer", "minimum": 1, "maximum": 3}], "items": {"enum": ["x", "y"]}, "minItems": 2, "maxItems": 4},
    "optional": {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "boolean"}}},
    "types": closed({"v": {"type": ["integer", "null"], "minimum": 0, "maximum": 99}}),
    "letters": closed({"name": {"enum": ['quote " backslash \\ slash /', "línea\nnueva", "火"]}}),
}


@pytest.mark.parametrize("temperature", [0, 2])
@pytest.mark.parametrize("name", SCHEMAS)
def test_every_answer_is_what_the_schema_describes(client, name, temperature):
    schema = SCHEMAS[name]
    form = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}}
    # Hot, without the limits that would keep a model reasonable.
    hot = {"top_k": 0, "min_p": 0, "top_p": 1} if temperature else {}
    answer = client.chat.completions.create(
        model="any", messages=QUESTION, temperature=temperature, max_tokens=200, n=2 if temperature else 1, seed=1,
        response_format=form, extra_body=hot,
    )  # fmt: skip
    for choice in answer.choices:
        # A list without an end may be cut off; all others come to theirs.
        if choice.finish_reason == "length" and name == "references":
            continue
        assert choice.finish_reason == "stop", choice
        value = json.loads(choice.message.content)
        jsonschema.validate(value, schema, format_checker=jsonschema.FormatChecker())


def test_the_client_parses_an_answer_into_a_class(client):
    class Person(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=20)
        age: int
        job: Literal["baker", "sailor"]

    answer = client.chat.completions.parse(model="any", messages=QUESTION, temperature=0, response_format=Person, max_tokens=100)
    person = answer.choices[0].message.parsed
    assert isinstance(person, Person) and person.job in ("baker", "sailor")


def test_json_object_gives_an_object(client):
    question = [{"role": "user", "content": 'Answer with the JSON {"yes": true}.'}]
    answer = client.chat.completions.create(
        model="any", messages=question, seed=1, n=6, max_tokens=60, response_format={"type": "json_object"}
    )
    # A small model may go on adding fields; the objects that end are objects.
    whole = [choice.message.content for choice in answer.choices if choice.finish_reason == "stop"]
    assert whole and all(isinstance(json.loads(text), dict) for text in whole)
    assert all(choice.message.content.startswith("{") for choice in answer.choices)


def test_a_stream_is_constrained_like_a_whole_answer(client):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMAS["nested"]}}
    common = {"model": "any", "messages": QUESTION, "temperature": 0, "max_tokens": 200, "response_format": form}
    whole = client.chat.completions.create(**common)
    text, reason, tokens = "", None, 0
    for chunk in client.chat.completions.create(**common, stream=True, stream_options={"include_usage": True}):
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    assert (text, reason) == (whole.choices[0].message.content, "stop")
    assert tokens == whole.usage.completion_tokens
    again = client.chat.completions.create(**common, logprobs=True, top_logprobs=1)
    assert again.choices[0].message.content == text, "what is certain is the same with and without its probabilities"
    assert len(again.choices[0].logprobs.content) == tokens


@pytest.mark.parametrize(
    ("field", "pattern"),
    [
        ({"grammar": 'root ::= ("yes" | "no") "!"{1,3}'}, "(yes|no)!{1,3}"),
        ({"grammar": '%llguidance {}\nstart: "<" WORD ">"\nWORD: /[a-z]{1,5}/'}, "<[a-z]{1,5}>"),
        ({"regex": "[A-C]{3}-[0-9]{1,9}x"}, "[A-C]{3}-[0-9]{1,9}x"),
        ({"lark": 'start: A B\nA: "a"{2}\nB: /[0-9]{2}/'}, "aa[0-9]{2}"),
        ({"json_schema": {"type": "array", "items": {"const": 7}, "minItems": 1, "maxItems": 3}}, r"\[7(, 7){0,2}\]"),
        ({"response_format": {"type": "json_object", "schema": {"const": {"a": 1}}}}, r'\{"a": 1\}'),
        ({"response_format": {"type": "text"}, "grammar": ""}, "(?s).*"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_other_fields_constrain_too(client, field, pattern):
    for temperature in (0, 2):
        common = {"model": "any", "temperature": temperature, "max_tokens": 40, "extra_body": field}
        answer = client.completions.create(prompt="I say", **common).choices[0]
        assert re.fullmatch(pattern, answer.text), answer
        answer = client.chat.completions.create(messages=QUESTION, **common).choices[0]
        assert re.fullmatch(pattern, answer.message.content), answer


IDS = [9007199254740993, -9223372036854775808, 123456789012345678901234567890]


@pytest.mark.parametrize("number", IDS)
def test_integers_keep_their_digits_from_the_request_to_the_answer(server, number):
    schema = {"type": "object", "properties": {"id": {"const": number}}, "required": ["id"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = {"messages": QUESTION, "max_tokens": 80, "temperature": 0}
    answer = server.post(CHAT, body | {"response_format": form}).json()["choices"][0]["message"]
    assert json.loads(answer["content"]) == {"id": number}
    tool = {"type": "function", "function": {"name": "look", "parameters": schema}}
    answer = server.post(CHAT, body | {"tools": [tool], "tool_choice": "required"}).json()["choices"][0]["message"]
    assert json.loads(answer["tool_calls"][0]["function"]["arguments"]) == {"id": number}


CALLABLE = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"enum": ["Rome", "Oslo"]}}, "required": ["at"]}}}
YES = {"type": "json_schema", "json_schema": {"name": "r", "schema": {"type": "object", "properties": {"answer": {"enum": ["yes", "no"]}}, "required": ["answer"], "additionalProperties": False}}}


def test_a_call_stays_possible_beside_an_answer_that_has_a_form(server):
    def ask(**more):
        return server.post(CHAT, {"messages": QUESTION, "tools": [CALLABLE], "response_format": YES, "max_tokens": 60, "temperature": 0, "seed": 1} | more)

    # This model's template knows no functions: calls are bare JSON, whose first key a bias can ask for.
    ids = lambda text: {str(id): 100 for id in server.post("/tokenize", {"content": text}).json()["tokens"]}
    content = ask(logit_bias=ids("answer")).json()["choices"][0]
    assert json.loads(content["message"]["content"])["answer"] in ("yes", "no") and content["finish_reason"] == "stop"
    call = ask(logit_bias=ids("name")).json()["choices"][0]
    assert call["finish_reason"] == "tool_calls", call
    function = call["message"]["tool_calls"][0]["function"]
    assert function["name"] == "look" and json.loads(function["arguments"])["at"] in ("Rome", "Oslo")
    # Where a call is asked for, the form of other answers does not matter; where none may come, only it does.
    assert ask(tool_choice="required").json()["choices"][0]["finish_reason"] == "tool_calls"
    assert "tool_calls" not in ask(tool_choice="none").json()["choices"][0]["message"]
    # What is no JSON says what the model writes, calls included.
    call = r'{"name": "look", "arguments": {"at": "Oslo"}}'
    for field in ({"grammar": "root ::= " + json.dumps(call)}, {"regex": re.escape(call)}):
        answer = server.post(CHAT, {"messages": QUESTION, "tools": [CALLABLE]} | field).json()["choices"][0]
        assert answer["message"]["tool_calls"][0]["function"]["name"] == "look", answer
        refused = server.post(CHAT, {"messages": QUESTION, "tools": [CALLABLE], "tool_choice": "required"} | field)
        assert refused.status == 400 and "tool_choice" in refused.error["message"], refused.error
    form = {"type": "json_schema", "json_schema": {"name": "r", "schema": {"type": "objec"}}}
    refused = ask(response_format=form)
    assert refused.error["param"] == "response_format" and refused.error["message"].startswith("JSON schema: #/type")
    wrong = CALLABLE | {"function": {"name": "f", "parameters": {"type": "objec"}}}
    refused = ask(tools=[wrong])
    assert refused.error["param"] == "tools" and 'parameters of "f": #/type' in refused.error["message"]


@pytest.mark.parametrize("function", [{"name": "now"}, {"name": "now", "parameters": None}])
def test_a_function_without_parameters_is_called_with_none(server, function):
    body = {"messages": QUESTION, "tools": [{"type": "function", "function": function}], "tool_choice": "required", "max_tokens": 60}
    call = server.post(CHAT, body | {"temperature": 2, "seed": 3}).json()["choices"][0]["message"]["tool_calls"][0]["function"]
    assert (call["name"], call["arguments"]) == ("now", "{}")


def test_a_cut_and_a_stop_string_end_as_always(client):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMAS["nested"]}}
    common = {"model": "any", "messages": QUESTION, "temperature": 0, "response_format": form}
    cut = client.chat.completions.create(**common, max_tokens=3).choices[0]
    assert cut.finish_reason == "length" and cut.message.content.startswith('{"name":')
    stopped = client.chat.completions.create(**common, max_tokens=300, stop='", "address').choices[0]
    assert stopped.finish_reason == "stop" and "address" not in stopped.message.content


WRONG = [
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "strin"}}}}, '#/type: found "strin"'),
    ({"json_schema": {"properties": {"a": {"items": {"uniqueItems": True}}}}}, "#/properties/a/items: `uniqueItems`"),
    ({"json_schema": {"properties": {"a": {"type": "string", "pattern": "(a"}}}}, "#/properties/a/pattern: "),
    ({"json_schema": {"$ref": "#/$defs/missing"}}, "missing"),
    ({"json_schema": {"$ref": "https://example.com/schema"}}, "#/$ref"),
    ({"json_schema": {"type": "integer", "minimum": 2, "maximum": 1}}, "minimum"),
    ({"json_schema": [1]}, "json_schema"),
    ({"grammar": 'root ::= "a"\n\nb ::= ['}, "line 3"),
    ({"grammar": "root ::= missing"}, "missing"),
    ({"grammar": 5}, "grammar"),
    ({"regex": "a(b"}, "unclosed group"),
    ({"lark": "start: missing"}, "missing"),
    ({"lark": 'start: "a" start'}, "grammar"),
    ({"grammar": 'root ::= "a"', "regex": "a"}, "cannot be combined"),
    ({"regex": "a" * 200_000}, "200000 bytes"),
    ({"json_schema": {"multipleOf": 999_983}}, "multipleOf"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("field", "named"), WRONG, ids=[str(field)[:50] for field, _ in WRONG])
def test_what_cannot_be_followed_is_a_bad_request_that_names_the_place(server, field, named, stream):
    answer = server.post(CHAT, {"messages": QUESTION, "max_tokens": 5, "stream": stream} | field)
    assert answer.status == 400
    assert named in answer.error["message"], answer.error
    assert answer.error["param"]
    assert "panic" not in answer.error["message"]


def test_a_server_has_a_default_that_requests_replace(bundle, start):
    server = start(bundle, "-c", "256", "--grammar", 'root ::= "only this"')
    body = {"messages": QUESTION, "max_tokens": 20, "temperature": 0}
    content = lambda **more: server.post(CHAT, body | more).json()["choices"][0]["message"]["content"]
    assert content() == "only this"
    assert content(regex="or that") == "or that"
    assert content(response_format={"type": "text"}) != "only this"


def test_the_terminal_follows_schemas_and_grammars(tmp_path):
    line = [RUNTIME, "-m", SMOLLM2, "-p", "A person:", "-n", "100", "--temp", "2", "-c", "256"]
    schema = json.dumps(SCHEMAS["nested"])
    jsonschema.validate(json.loads(run(*line, "-j", schema).stdout), SCHEMAS["nested"])
    (tmp_path / "schema.json").write_text(schema)
    jsonschema.validate(json.loads(run(*line, "-jf", tmp_path / "schema.json").stdout), SCHEMAS["nested"])
    (tmp_path / "grammar.gbnf").write_text('root ::= [a-c]{4} # four letters\n')
    assert re.fullmatch("[a-c]{4}\n", run(*line, "--grammar-file", tmp_path / "grammar.gbnf").stdout)
    chat = run(RUNTIME, "chat", "-m", SMOLLM2, "-c", "256", "--grammar", 'root ::= "ja" | "nein"', input="Yes or no?\n").stdout
    assert chat.strip() in ("ja", "nein")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--grammar", "root ::= ["], "line 1"),
        (["--json-schema", "{nope"], "--json-schema"),
        (["--json-schema", '{"type": "strin"}'], "#/type"),
        (["--grammar-file", "/does/not/exist"], "--grammar-file"),
    ],
)
def test_a_wrong_flag_is_named(flags, named):
    done = run(RUNTIME, "-m", SMOLLM2, "-p", "x", "-c", "128", *flags, ok=False)
    assert done.returncode != 0 and named in done.stderr, done.stderr
