"""Templates, thoughts and calls of functions, as clients see them: on real models, greedily."""

from __future__ import annotations

import json
from pathlib import Path

import openai
import pytest
from harness import MODELS, RUNTIME, SMOLLM2, Server, run

QWEN = MODELS / "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
THINK = Path(__file__).with_name("think.jinja")  # its examples make a small model think and answer
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "The city"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city"],
        },
    },
}
ASKED = [{"role": "user", "content": "What's the weather like in Tokyo in celsius? Use the tool."}]


def client_of(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    """A model that thinks before it answers."""
    arguments = ("-m", SMOLLM2, "-c", 2048, "--chat-template", THINK, "-r", "Question:", "--temp", 0, "-n", 60)
    with Server(RUNTIME, *arguments, folder=tmp_path_factory.mktemp("thinker")) as server:
        yield server


@pytest.fixture(scope="module")
def caller(tmp_path_factory):
    """A model that calls functions."""
    with Server(RUNTIME, "-m", QWEN, "-c", 4096, folder=tmp_path_factory.mktemp("caller")) as server:
        yield server


# ---- prompts


def prompt(server, messages, **more) -> str:
    answer = server.post("/apply-template", {"messages": messages} | more)
    assert answer.status == 200, answer.body
    return answer.json()["prompt"]


def test_a_prompt_can_be_seen_before_it_is_answered(server):
    chat = [{"role": "system", "content": "S"}, {"role": "user", "content": "é"}]
    whole = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\né<|im_end|>\n<|im_start|>assistant\n"
    assert prompt(server, chat) == whole
    assert prompt(server, chat, temperature=0, stream=True, max_tokens=3) == whole, "as a completion has them"
    assert prompt(server, chat, add_generation_prompt=False) == whole.removesuffix("<|im_start|>assistant\n")
    begun = [*chat, {"role": "assistant", "content": "Well, "}]
    assert prompt(server, begun, continue_final_message=True) == whole + "Well, "
    used = server.post("/tokenize", {"content": whole, "add_special": True}).json()["tokens"]
    answer = server.post("/v1/chat/completions", {"messages": chat, "max_tokens": 1}).json()
    assert answer["usage"]["prompt_tokens"] == len(used)


def test_an_answer_goes_on_where_its_beginning_ends(server):
    begun = [*QUESTION, {"role": "assistant", "content": "The capital of France is"}]
    body = {"messages": begun, "continue_final_message": True, "temperature": 0, "max_tokens": 4}
    answer = server.post("/v1/chat/completions", body).json()
    assert answer["choices"][0]["message"]["content"].startswith(" Paris")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "messages[0].role"),
        ({"messages": QUESTION, "chat_template_kwargs": 1}, "chat_template_kwargs"),
        ({"messages": QUESTION, "chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
        ({"messages": QUESTION, "chat_template_kwargs": {"enable_thinking": "no"}}, "enable_thinking"),
        ({"messages": QUESTION, "reasoning_format": "loud"}, "reasoning_format"),
        ({"messages": QUESTION, "documents": "x"}, "documents"),
        ({"messages": QUESTION, "tools": {}}, "tools"),
        ({"messages": QUESTION, "tools": [{"type": "magic"}]}, "tools[0].type"),
        ({"messages": QUESTION, "tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"messages": QUESTION, "tools": [WEATHER], "tool_choice": "always"}, "tool_choice"),
        ({"messages": QUESTION, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}]},
            "messages[0].tool_calls[0].function.name",
        ),
        ({"messages": [{"role": "assistant", "content": "a"}], "continue_final_message": "x"}, "continue_final_message"),
    ],
)
def test_what_makes_no_sense_is_named(server, body, param):
    for path in ("/apply-template", "/v1/chat/completions"):
        answer = server.post(path, body)
        assert answer.status == 400, answer.body
        assert answer.error["param"] == param


# ---- templates


def test_a_template_has_a_name_or_is_a_file(tmp_path):
    def of(*arguments):
        with Server(RUNTIME, "-m", SMOLLM2, "-c", 512, *arguments, folder=tmp_path) as server:
            return prompt(server, [{"role": "user", "content": "Hi"}], chat_template_kwargs={"mood": "good"})

    llama3 = "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    assert of("--chat-template", "llama3") == llama3
    file = tmp_path / "mine.jinja"
    file.write_text("[{{ messages[0].content }}, {{ mood }}]")
    assert of("--chat-template", file) == "[Hi, good]"
    assert of("--chat-template-file", file) == "[Hi, good]"
    assert of("--chat-template", "{{ messages[0].content | upper }}") == "HI"


def test_an_unknown_template_is_an_error_that_lists_the_names():
    done = run(RUNTIME, "-m", SMOLLM2, "--chat-template", "lama3", "--nobrowser", ok=False)
    assert done.returncode == 2
    assert "`lama3`" in done.stderr and "chatml" in done.stderr and "llama3" in done.stderr


# ---- thoughts


def test_thoughts_come_apart_from_the_answer(thinker):
    with client_of(thinker) as client:
        message = client.chat.completions.create(model="any", messages=QUESTION).choices[0].message
    assert message.content.strip() == "The capital of France is Paris."
    assert message.reasoning_content == "The user asks for a capital. I know it."


def test_thoughts_are_streamed_before_the_answer(thinker):
    with client_of(thinker) as client:
        chunks = list(client.chat.completions.create(model="any", messages=QUESTION, stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    thoughts = [getattr(delta, "reasoning_content", None) or "" for delta in deltas]
    contents = [delta.content or "" for delta in deltas]
    assert "".join(thoughts) == "The user asks for a capital. I know it."
    assert "".join(contents).strip() == "The capital of France is Paris."
    assert sum(map(bool, thoughts)) > 5, "token by token"
    last_thought = max(i for i, text in enumerate(thoughts) if text)
    assert all(not text for text in contents[:last_thought])


def test_thoughts_stay_in_the_text_where_that_is_asked_for(thinker):
    answer = thinker.chat(QUESTION[0]["content"], max_tokens=60, reasoning_format="none")
    message = answer["choices"][0]["message"]
    assert "</think> The capital of France" in message["content"]
    assert "reasoning_content" not in message


def thought_of(server, **more) -> tuple[str, str]:
    """The reasoning and the answer to a question."""
    answer = server.post("/v1/chat/completions", {"messages": QUESTION} | more)
    assert answer.status == 200, answer.body
    message = answer.json()["choices"][0]["message"]
    return message.get("reasoning_content", ""), message["content"].strip()


def test_a_thought_ends_at_its_budget_and_the_answer_follows(thinker):
    thought, answer = thought_of(thinker)
    count = len(thinker.post("/tokenize", {"content": f" {thought}"}).json()["tokens"])
    assert thought_of(thinker, reasoning_budget_tokens=count + 5) == (thought, answer), "not reached"
    for fields in (
        {"reasoning_budget_tokens": 4},
        {"thinking": {"type": "enabled", "budget_tokens": 4}},
        {"thinking_budget": 4},
        {"reasoning": {"max_tokens": 4}},
    ):
        cut, answer = thought_of(thinker, **fields)
        assert cut and thought.startswith(cut) and len(cut) < len(thought), fields
        assert "Paris" in answer
    cut, answer = thought_of(thinker, reasoning_budget_tokens=4, reasoning_budget_message=" Enough of that.")
    assert cut.endswith(" Enough of that.") and "Paris" in answer
    assert thought_of(thinker, reasoning_budget_tokens=0)[0] == ""
    # A constraint holds from the answer on, after a thought that was ended for the model too.
    city = {"type": "json_schema", "json_schema": {"name": "c", "schema": {"enum": ["Paris", "Rome"]}}}
    cut, answer = thought_of(thinker, reasoning_budget_tokens=4, response_format=city)
    assert cut and json.loads(answer) in ("Paris", "Rome")
    wrong = thinker.post("/v1/chat/completions", {"messages": QUESTION, "reasoning_budget_tokens": -2})
    assert wrong.status == 400 and b"reasoning_budget_tokens" in wrong.body


def test_the_program_has_a_budget_for_thoughts(tmp_path):
    arguments = ("-m", SMOLLM2, "-c", 2048, "--chat-template", THINK, "-r", "Question:", "--temp", 0, "-n", 60)
    budget = ("--reasoning-budget", 4, "--reasoning-budget-message", " Enough.")
    with Server(RUNTIME, *arguments, *budget, folder=tmp_path) as server:
        thought, answer = thought_of(server)
        whole, _ = thought_of(server, reasoning_budget_tokens=-1)
    assert thought.endswith(" Enough.") and "Paris" in answer
    # A request lifts the limit.
    assert "Enough" not in whole and len(whole) > len(thought.removesuffix(" Enough."))


def test_thoughts_can_be_forbidden(thinker):
    off = prompt(thinker, QUESTION, chat_template_kwargs={"enable_thinking": False})
    assert off == prompt(thinker, QUESTION, reasoning_effort="none")
    assert off == prompt(thinker, QUESTION).rstrip() + "\n\n</think>\n\n"
    body = {"messages": QUESTION, "max_tokens": 5, "chat_template_kwargs": {"enable_thinking": False}}
    assert "reasoning_content" not in thinker.post("/v1/chat/completions", body).json()["choices"][0]["message"]


def test_thoughts_of_the_history_go_to_the_template(thinker):
    chat = [*QUESTION, {"role": "assistant", "content": "Paris.", "reasoning_content": "Easy."}, *QUESTION]
    assert "<think>\nEasy.</think> Paris." in prompt(thinker, chat)


def test_the_terminal_shows_thoughts_before_the_answer():
    arguments = ("chat", "-m", SMOLLM2, "-c", 2048, "--chat-template", THINK, "-r", "Question:", "--temp", 0, "-n", 60)
    done = run(RUNTIME, *arguments, input=QUESTION[0]["content"] + "\n")
    assert "I know it.\n\nThe capital of France is Paris." in done.stdout


def test_an_ordinary_model_may_speak_of_tags(server):
    begun = [*QUESTION, {"role": "assistant", "content": "The tag <think> opens, </think"}]
    body = {"messages": begun, "continue_final_message": True, "temperature": 0, "max_tokens": 3}
    message = server.post("/v1/chat/completions", body).json()["choices"][0]["message"]
    assert message["content"].startswith(">"), "text that looks like a tag stays text"


# ---- calls of functions


def test_a_function_is_called_and_its_result_used(caller):
    with client_of(caller) as client:

        def ask(messages, **more):
            common = {"model": "any", "temperature": 0, "max_tokens": 80, "tools": [WEATHER]}
            return client.chat.completions.create(messages=messages, **common, **more)

        choice = ask(ASKED).choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        (call,) = choice.message.tool_calls
        assert (call.type, call.function.name) == ("function", "get_weather")
        assert json.loads(call.function.arguments) == {"city": "Tokyo", "unit": "celsius"}
        assert len(call.id) == 9 and call.id.isalnum()

        history = [
            *ASKED,
            choice.message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 31, "sky": "sunny"}'},
        ]
        answer = ask(history, tool_choice="none").choices[0]
        assert answer.finish_reason == "stop"
        assert "31" in answer.message.content


def test_a_call_is_streamed_name_first_then_its_arguments(caller):
    with client_of(caller) as client:
        common = {"model": "any", "messages": ASKED, "tools": [WEATHER], "temperature": 0, "max_tokens": 80}
        chunks = list(client.chat.completions.create(**common, stream=True))
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    calls = [call for choice in choices for call in choice.delta.tool_calls or []]
    first, *others = calls
    assert (first.index, first.type, first.function.name, first.function.arguments) == (0, "function", "get_weather", "")
    assert first.id
    assert all(other.index == 0 and not other.id and not other.function.name for other in others)
    assert len(others) > 5, "piece by piece"
    assert json.loads("".join(other.function.arguments for other in others)) == {"city": "Tokyo", "unit": "celsius"}
    assert choices[-1].finish_reason == "tool_calls"
    assert not any(choice.delta.content for choice in choices)


def test_a_call_that_the_limit_cuts_is_not_delivered_as_a_finished_one(caller):
    text = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Tokyo, where it\nrains all day"}}\n</tool_call>'
    body = {"messages": ASKED, "tools": [WEATHER], "temperature": 0, "grammar": f"root ::= {json.dumps(text)}"}

    def streamed(**more):
        choices = [event["choices"][0] for event in caller.events("/v1/chat/completions", body | more) if event["choices"]]
        calls = [call["function"] for choice in choices for call in choice["delta"].get("tool_calls", [])]
        assert not any(choice["delta"].get("content") for choice in choices)
        return "".join(call["arguments"] for call in calls), choices[-1]["finish_reason"]

    whole = caller.post("/v1/chat/completions", body | {"max_tokens": 80}).json()["choices"][0]
    (call,) = whole["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"city": "Tokyo, where it\nrains all day"}
    assert whole["finish_reason"] == "tool_calls"
    assert streamed(max_tokens=80) == (call["function"]["arguments"], "tool_calls")
    for limit in (3, 10, 18):
        cut = caller.post("/v1/chat/completions", body | {"max_tokens": limit}).json()["choices"][0]
        assert cut["finish_reason"] == "length" and "tool_calls" not in cut["message"] and not cut["message"]["content"]
        arguments, reason = streamed(max_tokens=limit)
        assert reason == "length" and call["function"]["arguments"].startswith(arguments)


def test_a_history_goes_back_as_clients_keep_it(caller):
    call = {"name": "get_weather", "arguments": '{"city": "To'}
    history = [
        {"role": "developer", "content": "Be brief."},
        *ASKED,
        {"role": "assistant", "content": None, "reasoning": "I look.", "function_call": call},
        {"role": "function", "name": "get_weather", "content": "31"},
        {"role": "system", "content": "In French."},
    ]
    text = prompt(caller, history, tools=[{"type": "function", "function": WEATHER["function"] | {"description": None}}])
    for said in ("Be brief.", "I look.", '{"city": "To"}', "31", "In French."):
        assert said in text
    assert "None" not in text and "null" not in text


def test_where_no_function_is_offered_a_call_is_text(caller):
    plain = caller.chat(ASKED[0]["content"], max_tokens=8)["choices"][0]
    none = caller.chat(ASKED[0]["content"], max_tokens=8, tools=[WEATHER], tool_choice="none")["choices"][0]
    assert plain["message"]["content"] == none["message"]["content"]
    call = '{"name": "get_weather", "arguments": {"city": "Rome"}}'
    message = caller.chat(f"Repeat this JSON exactly: {call}", max_tokens=40)["choices"][0]["message"]
    assert "tool_calls" not in message
    assert "get_weather" in message["content"]


NOON = {"type": "function", "function": {"name": "is_noon", "parameters": {"type": "object", "properties": {}}}}


def test_a_call_can_be_made_a_must(caller):
    hello = [{"role": "user", "content": "Say hello."}]
    with client_of(caller) as client:
        common = {"model": "any", "messages": hello, "tools": [WEATHER, NOON], "temperature": 0, "max_tokens": 80}

        def call(choice, **more):
            answer = client.chat.completions.create(**common, tool_choice=choice, **more).choices[0]
            assert answer.finish_reason == "tool_calls" and answer.message.content is None
            return [(one.function.name, json.loads(one.function.arguments)) for one in answer.message.tool_calls]

        assert call("required", parallel_tool_calls=False)[0][0] in ("get_weather", "is_noon")
        assert call({"type": "function", "function": {"name": "is_noon"}}, parallel_tool_calls=False) == [("is_noon", {})]
        ((name, arguments),) = call({"type": "function", "function": {"name": "get_weather"}}, parallel_tool_calls=False)
        assert name == "get_weather" and isinstance(arguments["city"], str)
        assert arguments.get("unit", "celsius") in ("celsius", "fahrenheit"), "as its schema says"
        chunks = client.chat.completions.create(**common, tool_choice="required", parallel_tool_calls=False, stream=True)
        deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
        assert not any(delta.content for delta in deltas)
        assert [call.function.name for delta in deltas for call in delta.tool_calls or [] if call.function.name]


def test_a_model_that_knows_no_functions_can_be_made_to_call_one(server):
    answer = server.chat("What is the weather in Paris?", tools=[WEATHER], tool_choice="required", max_tokens=60)
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert isinstance(json.loads(call["function"]["arguments"])["city"], str)


def test_a_call_and_another_form_exclude_each_other(server):
    body = {"messages": QUESTION, "tools": [WEATHER], "tool_choice": "required", "max_tokens": 60}
    answer = server.post("/v1/chat/completions", body | {"regex": "a*"})
    assert answer.status == 400 and answer.error["param"] == "tool_choice"
    # A schema says what an answer is that is no call.
    answer = server.post("/v1/chat/completions", body | {"response_format": {"type": "json_object"}}).json()
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"


def test_a_template_that_knows_no_functions_describes_them(server):
    text = prompt(server, ASKED, tools=[WEATHER])
    assert '"name": "get_weather"' in text and text.startswith("<|im_start|>system\n")
    call = {"id": "abc", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Tokyo"}'}}
    chat = [*ASKED, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "abc", "content": "31"}]
    text = prompt(server, chat, tools=[WEATHER])
    assert '{"name":"get_weather","arguments":{"city":"Tokyo"}}' in text and "31" in text


def test_a_control_token_that_begins_a_call_is_seen_though_it_is_not_shown(tmp_path):
    weights = tmp_path / "patched.gguf"
    data = SMOLLM2.read_bytes()
    assert data.count(b"<repo_name>") == 1, "a control token as long as the one that is wanted"
    weights.write_bytes(data.replace(b"<repo_name>", b"<tool_call>"))
    template = "{{ messages[-1].content }}{# calls look like <tool_call>{}</tool_call> #}"
    with Server(RUNTIME, "-m", weights, "-c", 512, "--chat-template", template, folder=tmp_path) as server:
        (token,) = server.post("/tokenize", {"content": "<tool_call>", "parse_special": True}).json()["tokens"]

        def say(**more):
            more |= {"logit_bias": {str(token): 100}, "max_tokens": 1}
            return server.chat("Hi", **more)["choices"][0]

        assert say()["message"]["content"] == "", "it is no text"
        cut = say(tools=[WEATHER])
        assert cut["finish_reason"] == "length" and not cut["message"].get("content"), "no mark in the text, and half a call is none"
        assert "tool_calls" not in cut["message"]
