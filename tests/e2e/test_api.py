"""The API as its clients see it: the `openai` package first, then what is said on the wire."""

from __future__ import annotations

import json
import time

import openai
import pytest
from harness import CONTEXT

QUESTION = [{"role": "user", "content": "Name three fruits and say a few words about each."}]


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def greedy(client) -> str:
    """What the model says to QUESTION when nothing is left to chance."""
    answer = client.chat.completions.create(model="any", messages=QUESTION, temperature=0, max_tokens=40)
    text = answer.choices[0].message.content
    assert len(text) > 60
    return text


def words(server, text: str, **how) -> list[int]:
    return server.post("/tokenize", {"content": text} | how).json()["tokens"]


def never_end(server) -> dict:
    """Forbids the tokens that end an answer, the way any OpenAI client can."""
    (end,) = words(server, "<|im_end|>", parse_special=True)
    (eos,) = words(server, "<|endoftext|>", parse_special=True)
    return {"logit_bias": {str(end): -100, str(eos): -100}}


# ---- chat with the openai package


def test_the_openai_client_streams_a_chat(client, greedy):
    stream = client.chat.completions.create(model="any", messages=QUESTION, temperature=0, max_tokens=40, stream=True)
    chunks = list(stream)
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert choices[0].delta.role == "assistant"
    assert "".join(choice.delta.content or "" for choice in choices) == greedy
    assert sum(bool(choice.delta.content) for choice in choices) > 10, "tokens come one by one"
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["length"]
    assert choices[-1].finish_reason == "length"


def test_the_openai_client_gets_a_whole_chat_answer(client):
    before = time.time()
    answer = client.chat.completions.create(
        model="any", messages=[{"role": "user", "content": "Say hello."}], temperature=0, max_completion_tokens=100
    )
    assert answer.object == "chat.completion"
    assert before - 1 <= answer.created <= time.time() + 1
    choice = answer.choices[0]
    assert (choice.index, choice.message.role, choice.finish_reason) == (0, "assistant", "stop")
    assert choice.message.content and "<|" not in choice.message.content
    usage = answer.usage
    assert usage.prompt_tokens > 5 and 0 < usage.completion_tokens < 100
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_max_tokens_is_kept_to_the_token(client):
    answer = client.chat.completions.create(model="any", messages=QUESTION, temperature=0, max_tokens=7)
    assert answer.usage.completion_tokens == 7
    assert answer.choices[0].finish_reason == "length"


def test_usage_is_streamed_only_when_asked(client):
    def stream(**more):
        return list(client.chat.completions.create(model="any", messages=QUESTION, max_tokens=4, stream=True, **more))

    assert all(chunk.usage is None for chunk in stream())
    *others, last = stream(stream_options={"include_usage": True})
    assert all(chunk.usage is None for chunk in others)
    assert last.choices == []
    assert last.usage.completion_tokens == 4
    assert last.usage.total_tokens == last.usage.prompt_tokens + 4


def test_stop_ends_the_text_before_the_stop_string(client, greedy):
    # The middle of the answer, cut inside words, so that it is made of several tokens and parts of tokens.
    stop = greedy[25:34]
    expected = greedy[: greedy.index(stop)]
    common = {"model": "any", "messages": QUESTION, "temperature": 0, "max_tokens": 40}
    whole = client.chat.completions.create(**common, stop=stop).choices[0]
    assert (whole.message.content, whole.finish_reason) == (expected, "stop")
    several = client.chat.completions.create(**common, stop=["never said", stop]).choices[0]
    assert several.message.content == expected
    shown, reasons = "", []
    for chunk in client.chat.completions.create(**common, stop=stop, stream=True):
        for choice in chunk.choices:
            shown += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
            assert expected.startswith(shown), "no part of the stop string is ever shown"
    assert (shown, reasons) == (expected, ["stop"])


def test_the_same_seed_gives_the_same_text(client):
    def text(seed):
        answer = client.chat.completions.create(
            model="any", messages=QUESTION, temperature=1.3, top_p=1, max_tokens=24, seed=seed
        )
        return answer.choices[0].message.content

    first = text(7)
    assert text(7) == first
    assert any(text(seed) != first for seed in (8, 9, 10)), "another seed gives another text"


def test_logprobs_describe_the_text(client):
    answer = client.chat.completions.create(
        model="any", messages=QUESTION, temperature=0, max_tokens=12, logprobs=True, top_logprobs=3
    )
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == 12
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == answer.choices[0].message.content
    for token in tokens:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        tops = [top.logprob for top in token.top_logprobs]
        assert tops == sorted(tops, reverse=True)
        # Greedy: what was chosen is the likeliest.
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, tops[0])


def test_streamed_logprobs_are_those_of_the_whole_answer(client):
    common = {"model": "any", "messages": QUESTION, "temperature": 0, "max_tokens": 8, "logprobs": True}
    whole = client.chat.completions.create(**common).choices[0].logprobs.content
    streamed = []
    for chunk in client.chat.completions.create(**common, stream=True):
        for choice in chunk.choices:
            streamed += choice.logprobs.content if choice.logprobs else []
    assert [token.token for token in streamed] == [token.token for token in whole]
    assert [token.logprob for token in streamed] == pytest.approx([token.logprob for token in whole], abs=1e-4)


def test_completions_continue_a_text_streaming_and_not(client):
    common = {"model": "any", "prompt": "The capital of France is", "temperature": 0, "max_tokens": 8}
    whole = client.completions.create(**common)
    assert whole.object == "text_completion"
    assert "Paris" in whole.choices[0].text
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 8
    streamed = "".join(chunk.choices[0].text for chunk in client.completions.create(**common, stream=True) if chunk.choices)
    assert streamed == whole.choices[0].text


def test_completions_give_logprobs_in_their_own_form(client):
    answer = client.completions.create(model="any", prompt="One, two,", temperature=0, max_tokens=5, logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == 5
    assert "".join(logprobs.tokens) == answer.choices[0].text
    assert all(len(top) == 2 and token in top for token, top in zip(logprobs.tokens, logprobs.top_logprobs))


def test_content_may_be_a_list_of_text_parts(client, greedy):
    parts = [{"type": "text", "text": "Name three fruits and say "}, {"type": "text", "text": "a few words about each."}]
    answer = client.chat.completions.create(
        model="any", messages=[{"role": "user", "content": parts}], temperature=0, max_tokens=40
    )
    assert answer.choices[0].message.content == greedy


def test_models_are_listed_and_any_name_is_served(client):
    (model,) = client.models.list().data
    assert model.object == "model" and model.id
    answer = client.chat.completions.create(model="gpt-4o", messages=QUESTION, max_tokens=1)
    assert answer.model


def test_a_logit_bias_forbids_tokens(client, server):
    prompt = "The capital of France is"
    (paris,) = words(server, " Paris", add_special=False)
    answer = client.completions.create(model="any", prompt=prompt, temperature=0, max_tokens=4, logit_bias={str(paris): -100})
    assert " Paris" not in answer.choices[0].text


# ---- what is refused

WRONG = [
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": -1}, "temperature"),
    ({"top_p": 7}, "top_p"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"stop": [1]}, "stop"),
    ({"stream": "yes"}, "stream"),
    ({"n": 0}, "n"),
    ({"n": 9}, "n"),
    ({"n": 2, "best_of": 3}, "best_of"),
    ({"samplers": ["top_k", "nope"]}, "samplers"),
    ({"mirostat": 3}, "mirostat"),
    ({"dry_sequence_breakers": ["x" * 41]}, "dry_sequence_breakers"),
    ({"seed": "x"}, "seed"),
    ({"logit_bias": {"one": "1"}}, "logit_bias"),
    ({"logit_bias": {"99999999": 1}}, "logit_bias"),
    ({"top_logprobs": 1000, "logprobs": True}, "top_logprobs"),
    ({"messages": []}, "messages"),
    ({"messages": "hello"}, "messages"),
    ({"messages": [{"role": "user"}]}, "content"),
    ({"messages": [{"content": "x"}]}, "role"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "image_url"),
]


@pytest.mark.parametrize(("body", "named"), WRONG, ids=[json.dumps(body)[:40] for body, _ in WRONG])
def test_a_wrong_parameter_is_a_bad_request_that_names_it(client, body, named):
    body = dict(body)
    messages = body.pop("messages", QUESTION)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="any", messages=messages, extra_body=body | {"max_tokens": body.get("max_tokens", 1)})
    error = caught.value.body
    assert error["type"] == "invalid_request_error"
    assert named in error["message"], error


def test_a_prompt_beyond_the_context_is_an_error_with_both_numbers(client):
    too_long = "word " * (CONTEXT + 100)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="any", messages=[{"role": "user", "content": too_long}])
    error = caught.value.body
    assert error["type"] == "exceed_context_size_error"
    assert error["n_ctx"] == CONTEXT
    assert error["n_prompt_tokens"] > CONTEXT
    assert str(CONTEXT) in error["message"]


def test_a_streamed_prompt_beyond_the_context_is_the_same_error(client):
    with pytest.raises(openai.BadRequestError):
        messages = [{"role": "user", "content": "word " * (CONTEXT + 100)}]
        list(client.chat.completions.create(model="any", messages=messages, stream=True))


def test_an_answer_ends_with_length_where_the_context_ends(bundle, start):
    server = start(bundle, "-c", "128")
    body = {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 1000} | never_end(server)
    answer = server.post("/v1/completions", body).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert 127 <= answer["usage"]["total_tokens"] <= 129


# ---- the next turn


def test_the_next_turn_computes_only_what_is_new(client, server):
    opening = [{"role": "user", "content": "Remember the number 4711. " + "It is an important number. " * 30}]
    first = client.chat.completions.create(model="any", messages=opening, temperature=0, max_tokens=12)
    answer = first.choices[0].message.content
    follow = [*opening, {"role": "assistant", "content": answer}, {"role": "user", "content": "Which number?"}]
    second = client.chat.completions.create(model="any", messages=follow, temperature=0, max_tokens=12)
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert cached >= first.usage.prompt_tokens, "the whole first turn is reused"
    assert cached < second.usage.prompt_tokens
    # An unrelated conversation in between costs nothing, and the answer stays the same.
    client.chat.completions.create(model="any", messages=QUESTION, max_tokens=2)
    again = client.chat.completions.create(model="any", messages=follow, temperature=0, max_tokens=12)
    assert again.usage.prompt_tokens_details.cached_tokens >= cached
    assert again.choices[0].message.content == second.choices[0].message.content, "reused equals recomputed"


# ---- on the wire


def test_a_stream_is_flushed_token_by_token_and_ends_with_done(server):
    connection = server.connect()
    body = {"messages": QUESTION, "max_tokens": 30, "stream": True, **never_end(server)}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.getheader("Content-Type").startswith("text/event-stream")
    assert "no-" in response.getheader("Cache-Control")
    times, lines = [], []
    for line in response:
        lines.append(line)
        if line.startswith(b"data: {"):
            times.append(time.monotonic())
    connection.close()
    assert lines[-2:] == [b"data: [DONE]\n", b"\n"]
    gaps = [b - a for a, b in zip(times, times[1:])]
    # A stream that is held back until a buffer is full comes in one or two bursts.
    assert sum(gap > 0.001 for gap in gaps) > 15, gaps


def test_paths_work_with_and_without_v1(server):
    for path in ("/v1/models", "/models"):
        assert server.get(path).json()["object"] == "list"
    for path in ("/v1/chat/completions", "/chat/completions"):
        assert server.post(path, {"messages": QUESTION, "max_tokens": 1}).status == 200
    for path in ("/v1/completions", "/completions"):
        assert server.post(path, {"prompt": "One, two,", "max_tokens": 1}).status == 200


def test_health_says_ok(server):
    answer = server.get("/health")
    assert (answer.status, answer.json()["status"]) == (200, "ok")


def test_props_say_what_the_page_needs(server):
    props = server.get("/props").json()
    assert props["n_ctx"] == CONTEXT == props["default_generation_settings"]["n_ctx"]
    assert props["model_alias"]
    params = props["default_generation_settings"]["params"]
    expected = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repeat_penalty": 1.0, "seed": -1}
    assert {name: params[name] for name in expected} == pytest.approx(expected)
    assert props["tealight"]["version"]


@pytest.mark.parametrize(
    "text",
    ["Hello, world!", "  two  spaces\n\ttab", "¿Dónde está el fósforo? Ñandú", "日本語 🕯️ flame", "1234567890", ""],
)
def test_detokenize_gives_back_what_tokenize_took(server, text):
    tokens = words(server, text, add_special=False)
    assert all(isinstance(token, int) for token in tokens)
    assert server.post("/detokenize", {"tokens": tokens}).json()["content"] == text


def test_special_tokens_are_read_only_when_asked(server):
    text = "<|im_start|>user"
    plain = words(server, text, parse_special=False)
    special = words(server, text, parse_special=True)
    assert len(special) < len(plain)


def test_tokens_that_do_not_exist_are_refused(server):
    for tokens in ([99999999], [-1], ["x"], "x"):
        answer = server.post("/detokenize", {"tokens": tokens})
        assert answer.status == 400, tokens
        assert "tokens" in answer.error["message"]


def test_an_unknown_path_is_404_in_json_and_a_wrong_method_says_so(server):
    for path in ("/nothing", "/v1/nothing", "/v1/chat/completions/x"):
        answer = server.get(path)
        assert answer.status == 404
        assert answer.error["type"] == "not_found_error" or answer.error["message"]
    for method, path in [("GET", "/v1/chat/completions"), ("POST", "/health"), ("DELETE", "/v1/models"), ("PUT", "/")]:
        answer = server.ask(method, path, b"{}" if method != "GET" else None)
        assert answer.status in (404, 405), (method, path)
        assert answer.error["message"]


def test_head_has_the_headers_of_get_and_no_body(server):
    get, head = server.get("/"), server.ask("HEAD", "/")
    assert head.status == 200 and head.body == b""
    assert head.headers["content-length"] == get.headers["content-length"]


def test_one_connection_carries_many_requests(server):
    connection = server.connect()
    for _ in range(3):
        connection.request("GET", "/health")
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["status"]) == (200, "ok")
        assert not response.will_close
    connection.close()


def test_render_makes_safe_html_blocks(server):
    text = "# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n$x^2$ and <script>alert(1)</script>\n\n```rust\nfn main() {}\n```\n"
    blocks = server.post("/render", {"text": text}).json()["blocks"]
    html = "\n".join(blocks)
    assert len(blocks) == 4
    assert all(tag in html for tag in ("Title</h", "<table>", "<math", "<pre"))
    assert "<script" not in html and "&lt;script&gt;" in html


def test_a_stream_can_carry_html_fragments_that_add_up_to_the_rendered_answer(server):
    body = {"messages": [{"role": "user", "content": "Write a short list of three fruits."}], "temperature": 0, "max_tokens": 40}
    text, blocks = "", {}
    for event in server.events("/v1/chat/completions", body | {"render": "html"}):
        for choice in event["choices"]:
            text += choice["delta"].get("content") or ""
        if "html" in event:
            blocks[event["html"]["block"]] = event["html"]["html"]
    assert [blocks[i] for i in sorted(blocks)] == server.post("/render", {"text": text}).json()["blocks"]


def test_progress_of_a_long_prompt_is_streamed_when_asked(server):
    # More than the 512 tokens that are computed at a time, so that there is something to report in between.
    body = {"messages": [{"role": "user", "content": "tea " * 600}], "max_tokens": 1, "return_progress": True}
    progress = [event["prompt_progress"] for event in server.events("/v1/chat/completions", body) if "prompt_progress" in event]
    assert len(progress) >= 2
    assert [p["processed"] for p in progress] == sorted(p["processed"] for p in progress)
    assert progress[-1]["processed"] == progress[-1]["total"] > 600
