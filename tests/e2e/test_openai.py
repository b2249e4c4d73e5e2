"""What OpenAI's interface has beyond a plain chat, what clients of other servers send, and that streams stay alive."""

from __future__ import annotations

import json
import time

import openai
import pytest
from harness import read_all

HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        yield client


def complete(server, prompt, **more) -> dict:
    answer = server.post("/v1/completions", {"prompt": prompt, "max_tokens": 4, "temperature": 0} | more)
    assert answer.status == 200, answer.body
    return answer.json()


def tokens(server, text: str, **more) -> list[int]:
    return server.post("/tokenize", {"content": text} | more).json()["tokens"]


def streamed(server, prompt, **more) -> dict[int, dict]:
    """The choices of a streamed completion, put together."""
    whole = {}
    body = {"prompt": prompt, "max_tokens": 4, "temperature": 0} | more
    for event in server.events("/v1/completions", body):
        for choice in event["choices"]:
            one = whole.setdefault(choice["index"], {"text": "", "logprobs": {}})
            one["text"] += choice["text"]
            for name, values in (choice["logprobs"] or {}).items():
                one["logprobs"].setdefault(name, []).extend(values)
    return whole


# ---- models


def test_a_model_is_found_by_each_of_its_names(bundle, start):
    server = start(bundle, "-c", "128", "-a", "org/tiny model,second")
    (listed,) = server.get("/v1/models").json()["data"]
    assert listed["id"] == "org/tiny model"
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        assert client.models.retrieve("org/tiny model").id == listed["id"]
        for name in listed["aliases"]:
            assert client.models.retrieve(name).id == listed["id"]
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("gpt-99")
    assert listed["aliases"][:2] == ["org/tiny model", "second"]
    assert "smollm2" in listed["aliases"][2].lower(), "the weights' own name"
    assert server.get("/v1/models/org/tiny%20model").json() == listed
    assert server.get("/models/org%2ftiny%20model").json() == listed
    for text, meant in [("%E6%97%A5%20x+y", "日 x+y"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("%ff", "\ufffd"), ("%2541", "%41")]:
        assert f"`{meant}`" in server.get(f"/v1/models/{text}").json()["error"]["message"]
    error = caught.value.body
    assert (error["code"], error["param"], error["type"]) == ("model_not_found", "model", "invalid_request_error")
    assert "gpt-99" in error["message"]
    assert server.ask("DELETE", "/v1/models/second").status == 405


# ---- completions


def test_offsets_point_to_each_token_in_the_text_whole_and_streamed(server):
    # Characters of several tokens, before and behind plain ones.
    text = " 👩‍🚀 é ß日本"
    body = {"logprobs": 1, "max_tokens": 40, "grammar": "root ::= " + json.dumps(text, ensure_ascii=False)}
    choice = complete(server, "Say:", **body)["choices"][0]
    logprobs = choice["logprobs"]
    assert choice["text"] == text
    assert len(logprobs["tokens"]) > len(text), "characters are made of several tokens"
    assert logprobs["text_offset"] == sorted(logprobs["text_offset"])
    whole = [(token, at) for token, at in zip(logprobs["tokens"], logprobs["text_offset"]) if "\ufffd" not in token]
    assert whole and all(text[at:].startswith(token) for token, at in whole)
    assert streamed(server, "Say:", **body)[0]["logprobs"]["text_offset"] == logprobs["text_offset"]


def test_an_echo_has_the_log_probabilities_of_the_prompt(server):
    prompt = "One, two, three, é 👩 four,"
    generated = complete(server, prompt, logprobs=2, max_tokens=6)["choices"][0]
    both = prompt + generated["text"]
    # Tokens of a text that was generated need not be those that the same text is made of: ids are sure.
    ids = tokens(server, prompt) + tokens(server, generated["text"])
    for given in (both, ids):
        scored = complete(server, given, logprobs=2, max_tokens=0, echo=True)["choices"][0]
        assert (scored["text"], scored["finish_reason"]) == (both, "length")
        logprobs = scored["logprobs"]
        assert {len(values) for values in logprobs.values()} == {len(ids)}
        assert logprobs["token_logprobs"][0] is None and logprobs["top_logprobs"][0] is None
        n = len(generated["logprobs"]["tokens"])
        assert logprobs["tokens"][-n:] == generated["logprobs"]["tokens"]
        assert logprobs["token_logprobs"][-n:] == pytest.approx(generated["logprobs"]["token_logprobs"], abs=1e-4)
        assert logprobs["text_offset"][-n:] == [len(prompt) + at for at in generated["logprobs"]["text_offset"]]
        for token, at in zip(logprobs["tokens"], logprobs["text_offset"]):
            assert "\ufffd" in token or both[at:].startswith(token)


def test_an_echo_is_the_same_streamed_and_for_every_choice(server):
    body = {"logprobs": 1, "echo": True, "n": 2, "max_tokens": 3}
    whole = complete(server, "The sky is", **body)
    pieces = streamed(server, "The sky is", **body)
    assert len(whole["choices"]) == 2
    for choice in whole["choices"]:
        assert choice["text"].startswith("The sky is")
        assert pieces[choice["index"]] == {"text": choice["text"], "logprobs": choice["logprobs"]}
    assert whole["usage"]["prompt_tokens"] == len(tokens(server, "The sky is"))
    assert whole["usage"]["prompt_tokens_details"]["cached_tokens"] == 0, "what is scored is computed"


def test_a_special_token_in_a_prompt_is_part_of_its_echo(server):
    prompt = "<|im_start|>user\nHi"
    choice = complete(server, prompt, echo=True, logprobs=0, max_tokens=1)["choices"][0]
    assert choice["text"].startswith(prompt)
    assert choice["logprobs"]["tokens"][:2] == ["<|im_start|>", "user"]
    assert choice["logprobs"]["text_offset"][:2] == [0, 12]
    # The token itself is always among the likeliest.
    assert all(token in top for token, top in list(zip(choice["logprobs"]["tokens"], choice["logprobs"]["top_logprobs"]))[1:])


def test_tokens_of_a_stop_string_are_not_part_of_the_answer(server):
    body = {"logprobs": 0, "max_tokens": 20}
    text = complete(server, "One, two, three,", **body)["choices"][0]["text"]
    stop = text[8:12]
    choice = complete(server, "One, two, three,", stop=stop, **body)["choices"][0]
    assert choice["text"] == text[: text.index(stop)]
    logprobs = choice["logprobs"]
    assert logprobs["text_offset"][-1] < len(choice["text"]) <= len("".join(logprobs["tokens"]))
    assert streamed(server, "One, two, three,", stop=stop, **body)[0]["logprobs"] == logprobs


def test_several_prompts_are_answered_as_each_alone(server):
    texts = ["The capital of France is", "One, two, three,", "é"]
    alone = [complete(server, text) for text in texts]
    ids = [tokens(server, text) for text in texts]
    expected = [(index, answer["choices"][0]["text"]) for index, answer in enumerate(alone)]
    for prompt in (texts, ids, [texts[0], *ids[1:]]):
        answer = complete(server, prompt)
        assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == expected
    used = [answer["usage"] for answer in alone]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert answer["usage"][name] == sum(one[name] for one in used)
    assert {index: one["text"] for index, one in streamed(server, texts).items()} == dict(expected)
    # One prompt of ids and texts in turns.
    mixed = complete(server, [*ids[0][:2], "of France is"])["choices"]
    joined = complete(server, ids[0][:2] + tokens(server, "of France is"))["choices"]
    assert [choice["text"] for choice in mixed] == [joined[0]["text"]]


def test_several_answers_to_several_prompts_are_numbered_prompt_by_prompt(server):
    texts = ["The capital of France is", "One, two, three,"]
    body = {"n": 2, "max_tokens": 2, "temperature": 1.5, "seed": 11, "echo": True, "logprobs": 0}
    answer = complete(server, texts, **body)
    assert [choice["index"] for choice in answer["choices"]] == list(range(4))
    for index, choice in enumerate(answer["choices"]):
        assert choice["text"].startswith(texts[index // 2])
    alone = [choice["text"] for text in texts for choice in complete(server, text, **body)["choices"]]
    assert [choice["text"] for choice in answer["choices"]] == alone
    pieces = streamed(server, texts, **body)
    assert [pieces[index]["text"] for index in range(4)] == alone
    assert [pieces[index]["logprobs"] for index in range(4)] == [choice["logprobs"] for choice in answer["choices"]]


def test_the_best_of_several_answers_are_the_likeliest(server):
    body = {"temperature": 2, "top_k": 50, "seed": 5, "max_tokens": 6}
    mean = lambda choice: sum(choice["logprobs"]["token_logprobs"]) / len(choice["logprobs"]["token_logprobs"])
    all_five = complete(server, "My cat", n=5, logprobs=0, **body)
    best = sorted(all_five["choices"], key=mean, reverse=True)
    answer = complete(server, "My cat", n=2, best_of=5, **body)
    assert [choice["text"] for choice in answer["choices"]] == [choice["text"] for choice in best[:2]]
    assert [choice["logprobs"] for choice in answer["choices"]] == [None, None]
    assert answer["usage"]["completion_tokens"] == all_five["usage"]["completion_tokens"]
    for wrong in ({"n": 3, "best_of": 2}, {"n": 1, "best_of": 2, "stream": True}):
        assert server.post("/v1/completions", {"prompt": "x"} | wrong).error["param"] == "best_of"


@pytest.mark.parametrize("prompt", [None, [], [[]], "", ["a", 99999999], [["a", None]], {"text": "a"}, 5, [True], ["a", []], "x" * 40000])
def test_a_prompt_that_is_none_is_refused(server, prompt):
    answer = server.post("/v1/completions", {"prompt": prompt, "max_tokens": 1})
    assert answer.status == 400, answer.body
    assert "prompt" in answer.error["message"]


def test_a_text_has_the_bias_of_its_tokens(server):
    (the,) = tokens(server, " the")
    expected = complete(server, "In", logit_bias=[[the, 100]])["choices"][0]["text"]
    assert expected == " the" * 4
    for bias in ([[" the", 100]], {" the": 100}, {str(the): 100}):
        assert complete(server, "In", logit_bias=bias)["choices"][0]["text"] == expected
    first = complete(server, "The capital of France is")["choices"][0]["text"]
    for bias in ([[" Paris", False]], {" Paris": False}, {" Paris": -100}):
        assert "Paris" in first and "Paris" not in complete(server, "The capital of France is", logit_bias=bias)["choices"][0]["text"]


# ---- fields

DOCUMENTED = {
    "store": True,
    "metadata": {"a": "b"},
    "service_tier": "flex",
    "user": "me",
    "safety_identifier": "me",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"mode": "auto"},
    "verbosity": "low",
    "reasoning_effort": "minimal",
    "modalities": ["text"],
    "prediction": {"type": "content", "content": "Hello"},
    "parallel_tool_calls": False,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "response_format": {"type": "text"},
    "logit_bias": {},
    "stop": None,
    "a_field_of_next_year": None,
}


def test_what_openai_documents_is_taken_and_changes_nothing(server):
    plain = server.chat("Say hello.")["choices"]
    answer = server.post("/v1/chat/completions", {"messages": HELLO, "temperature": 0, "max_tokens": 16} | DOCUMENTED)
    assert answer.json()["choices"] == plain
    assert answer.json()["system_fingerprint"].startswith("tealight-")
    assert "x-ignored-fields" not in answer.headers


@pytest.mark.parametrize(
    "field", [{"audio": {"voice": "alloy", "format": "wav"}}, {"modalities": ["text", "audio"]}, {"web_search_options": {}}, {"moderation": {"model": "m"}}], ids=str
)
def test_what_cannot_be_done_is_refused(server, field):
    error = server.post("/v1/chat/completions", {"messages": HELLO, "max_tokens": 1} | field).error
    assert (error["type"], error["param"]) == ("invalid_request_error", next(iter(field)))


def test_null_is_as_good_as_no_field(server):
    names = ["temperature", "top_p", "n", "stream", "stop", "max_tokens", "logit_bias", "tools", "tool_choice", "response_format"]
    names += ["seed", "logprobs", "stream_options", "samplers", "json_schema", "grammar", "chat_template_kwargs", "render", "min_tokens"]
    names += ["repetition_penalty", "guided_json", "options", "functions", "audio", "anything"]
    answer = server.post("/v1/chat/completions", {"messages": HELLO, "max_completion_tokens": 1} | dict.fromkeys(names))
    assert answer.status == 200, answer.body
    assert "x-ignored-fields" not in answer.headers


ENDPOINTS = {
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": 1},
    "/v1/completions": {"prompt": "One,", "max_tokens": 1},
    "/v1/embeddings": {"input": "One"},
    "/embedding": {"input": "One"},
    "/apply-template": {"messages": HELLO},
    "/tokenize": {"content": "One"},
    "/detokenize": {"tokens": [1]},
    "/render": {"text": "One"},
}


@pytest.mark.parametrize("path", ENDPOINTS)
def test_unknown_fields_are_ignored_and_named(server, path):
    plain = server.post(path, ENDPOINTS[path])
    odd = server.post(path, ENDPOINTS[path] | {"quite_new": {"x": 1}, "a\r\nX-Evil: 1": 2, "nothing": None})
    assert (plain.status, odd.status) == (200, 200), odd.body
    assert odd.headers["x-ignored-fields"] == "quite_new, a??X-Evil??1"
    assert "x-evil" not in odd.headers and "x-ignored-fields" not in plain.headers


def test_unknown_fields_are_named_in_a_stream_and_told_once(bundle, start):
    server = start(bundle, "-c", "512")
    body = {"messages": HELLO, "max_tokens": 1, "stream": True, "temprature": 1, "\u001b[2Jx": 1}
    for _ in range(2):
        answer = server.post("/v1/chat/completions", body)
        assert answer.headers["x-ignored-fields"] == "temprature, ??2Jx"
        assert answer.body.endswith(b"data: [DONE]\n\n")
    assert server.log.count("`temprature`; did you mean `temperature`?") == 1
    assert "\u001b" not in server.log
    strict = start(bundle, "-c", "512", "--strict")
    error = strict.post("/v1/chat/completions", {"messages": HELLO, "temprature": 1}).error
    assert error["param"] == "temprature" and "`temperature`" in error["message"]
    assert strict.post("/v1/completions", {"prompt": "x", "max_tokens": 1, "repetition_penalty": 1, "new": None}).status == 200


def test_fields_of_other_servers_do_what_they_mean(server):
    never = {"max_tokens": 9, "temperature": 0, "prompt": "<|im_start|>user\nSay only: hi<|im_end|>\n<|im_start|>assistant\n"}
    ask = lambda **more: server.post("/v1/completions", never | more)
    assert ask(guided_choice=["left \"a\"", "left \"b\""]).json()["choices"][0]["text"].startswith('left "')
    assert json.loads(ask(guided_json='{"type": "integer", "minimum": 3, "maximum": 4}').json()["choices"][0]["text"]) in (3, 4)
    options = ask(max_tokens=None, options={"num_predict": 2, "num_ctx": 512, "num_gpu": 3})
    assert options.json()["usage"]["completion_tokens"] == 2
    assert options.headers["x-ignored-fields"] == "options.num_gpu"
    longer = ask(max_tokens=60, min_tokens=50).json()["usage"]
    assert longer["completion_tokens"] >= 50 > ask(max_tokens=60).json()["usage"]["completion_tokens"]
    both = ask(num_predict=1, max_tokens=2)
    assert both.json()["usage"]["completion_tokens"] == 2
    assert both.headers["x-ignored-fields"] == "num_predict"
    assert "`repetition_penalty`" in ask(repetition_penalty="x").error["message"]
    room = ask(max_tokens=None, num_ctx=30, ignore_eos=True).json()["usage"]
    assert room["total_tokens"] in (30, 31)


def test_functions_of_the_first_api_are_called_in_its_form(client):
    weather = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"]}}
    body = {"functions": [weather], "function_call": {"name": "weather"}, "messages": HELLO, "model": "any", "temperature": 0}
    choice = client.chat.completions.create(**body).choices[0]
    assert (choice.finish_reason, choice.message.tool_calls) == ("function_call", None)
    assert choice.message.function_call.name == "weather"
    assert json.loads(choice.message.function_call.arguments) == {"city": "Paris"}
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**body, stream=True)]
    calls = [chunk.delta.function_call for chunk in chunks if chunk.delta.function_call]
    assert "".join(call.name or "" for call in calls) == "weather"
    assert json.loads("".join(call.arguments or "" for call in calls)) == {"city": "Paris"}
    assert chunks[-1].finish_reason == "function_call"


def test_only_the_tools_that_are_allowed_are_offered(server):
    tool = lambda name: {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    allow = lambda mode, *names: {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [tool(name) for name in names]}}
    tools = [tool("first"), tool("second")]
    prompt = lambda **more: server.post("/apply-template", {"messages": HELLO} | more).json()["prompt"]
    assert prompt(tools=tools, tool_choice=allow("auto", "second")) == prompt(tools=tools[1:])
    body = {"messages": HELLO, "tools": tools, "temperature": 0, "tool_choice": allow("required", "second")}
    (call,) = server.post("/v1/chat/completions", body | {"parallel_tool_calls": False}).json()["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "second"
    for wrong in (allow("auto", "third"), allow("never", "first"), {"type": "allowed_tools"}):
        assert server.post("/v1/chat/completions", body | {"tool_choice": wrong}).error["param"] == "tool_choice"


# ---- streams


def test_a_stream_that_waits_for_its_turn_is_not_silent(bundle, start):
    server = start(bundle, "-c", "4096", "-np", "1")
    long = {"prompt": "Once", "max_tokens": 4000, "ignore_eos": True, "stream": True}
    waiting = {
        "/v1/chat/completions": {"messages": HELLO, "max_tokens": 2, "stream": True, "odd": 1},
        "/v1/completions": {"prompt": "One,", "max_tokens": 2, "stream": True},
    }

    def ask(path, body):
        connection = server.socket(20)
        data = json.dumps(body).encode()
        connection.sendall(b"POST %s HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(data), data))
        return connection

    first = ask("/v1/completions", long)
    first.recv(1)
    begin = time.monotonic()
    connections = [ask(path, body) for path, body in waiting.items()]
    heads = [connection.recv(65536) for connection in connections]
    assert time.monotonic() - begin < 15
    for head in heads:
        assert head.startswith(b"HTTP/1.0 200") and (head.endswith(b"\r\n\r\n") or head.endswith(b": still here\n\n")), head
    assert b"x-ignored-fields: odd" in heads[0].lower()
    first.close()
    for connection, head in zip(connections, heads):
        body = (head + read_all(connection)).split(b"\r\n\r\n", 1)[1]
        *events, end = body.removesuffix(b"\n\n").split(b"\n\n")
        assert (events[0], end) == (b": still here", b"data: [DONE]")
        assert all(json.loads(event.removeprefix(b"data: "))["choices"] for event in events if event != b": still here")
        connection.close()
