"""Sampling settings and several answers to one request, as clients see them."""

from __future__ import annotations

import openai
import pytest
from harness import run, SMOLLM2, RUNTIME

QUESTION = [{"role": "user", "content": "Name three fruits and say a few words about each."}]
COMMON = {"model": "any", "messages": QUESTION, "temperature": 1.2, "max_tokens": 16}


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        yield client


def text(client, **body) -> str:
    known = {"temperature": 1.2, "max_tokens": 24, "seed": 11}
    answer = client.chat.completions.create(model="any", messages=QUESTION, extra_body=known | body)
    return answer.choices[0].message.content


# ---- several answers


def test_three_answers_share_the_prompt_and_differ(client):
    answer = client.chat.completions.create(**COMMON, n=3, seed=5)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in answer.choices]
    assert len(set(texts)) == 3
    one = client.chat.completions.create(**COMMON, seed=5)
    assert answer.usage.prompt_tokens == one.usage.prompt_tokens, "the prompt counts once"
    assert answer.usage.completion_tokens == 3 * one.usage.completion_tokens
    assert one.choices[0].message.content == texts[0]
    third = client.chat.completions.create(**COMMON, seed=7).choices[0].message.content
    assert third == texts[2], "each answer has the next seed"
    again = client.chat.completions.create(**COMMON, n=3, seed=5)
    assert [choice.message.content for choice in again.choices] == texts


def test_three_streamed_answers_are_the_same_three(client):
    whole = [c.message.content for c in client.chat.completions.create(**COMMON, n=3, seed=5).choices]
    streamed, reasons, usages = ["", "", ""], [None] * 3, []
    options = {"include_usage": True}
    for chunk in client.chat.completions.create(**COMMON, n=3, seed=5, stream=True, stream_options=options):
        usages += [chunk.usage] if chunk.usage else []
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert streamed == whole
    assert reasons == ["length"] * 3
    assert [usage.completion_tokens for usage in usages] == [48]


def test_completions_give_several_answers_too(client):
    common = {"model": "any", "prompt": "Once upon a time", "max_tokens": 8, "temperature": 1.5, "seed": 1, "n": 2}
    whole = client.completions.create(**common, best_of=2)
    assert [choice.index for choice in whole.choices] == [0, 1]
    streamed = ["", ""]
    for chunk in client.completions.create(**common, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == [choice.text for choice in whole.choices]


# ---- settings


@pytest.mark.parametrize(
    "body",
    [
        {"typical_p": 0.1},
        {"top_n_sigma": 0.2},
        {"xtc_probability": 1, "xtc_threshold": 0.01},
        {"dynatemp_range": 1.2, "dynatemp_exponent": 3},
        {"mirostat": 1, "mirostat_tau": 0.5, "mirostat_eta": 0.9},
        {"mirostat": 2, "mirostat_tau": 9},
        {"samplers": []},
        {"samplers": ["top_k", "adaptive_p"], "adaptive_target": 0.1},
        {"samplers": "k", "top_k": 3},
        {"repeat_penalty": 5, "repeat_last_n": -1},
        {"min_p": 0.5, "min_keep": 3},
    ],
    ids=lambda body: next(iter(body)) + str(next(iter(body.values()))),
)
def test_each_setting_changes_the_text_and_keeps_it_repeatable(client, body):
    # Together, the usual limits leave a small model little choice; without them the settings show.
    open_ = {"top_k": 0, "top_p": 1, "min_p": 0}
    changed = text(client, **(open_ | body))
    assert changed == text(client, **(open_ | body))
    assert changed != text(client, **open_)


def test_dry_ends_a_repetition(client):
    prompt = " ".join(["the cat sat on the mat."] * 6)
    common = {"model": "any", "prompt": prompt, "temperature": 0, "max_tokens": 5}
    assert client.completions.create(**common).choices[0].text.startswith(" the cat sat")
    dry = client.completions.create(**common, extra_body={"dry_multiplier": 5}).choices[0].text
    assert not dry.startswith(" the cat sat")


def test_ignore_eos_never_ends(client):
    common = {"model": "any", "messages": [{"role": "user", "content": "Say hello."}], "temperature": 0, "max_tokens": 100}
    assert client.chat.completions.create(**common).choices[0].finish_reason == "stop"
    answer = client.chat.completions.create(**common, extra_body={"ignore_eos": True})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 100


def test_flags_set_what_requests_do_not(bundle, start):
    server = start(bundle, "-c", "256", "--sampler-seq", "kt", "--top-k", "7", "--dry-multiplier", "0.5", "--ignore-eos")
    params = server.get("/props").json()["default_generation_settings"]["params"]
    assert params["samplers"] == ["top_k", "temperature"]
    assert (params["top_k"], params["dry_multiplier"], params["ignore_eos"]) == (7, 0.5, True)
    assert params["dry_sequence_breakers"] == ["\n", ":", '"', "*"]
    answer = server.post("/v1/completions", {"prompt": "Hi", "max_tokens": 60, "temperature": 0}).json()
    assert answer["choices"][0]["finish_reason"] == "length"


def test_the_terminal_samples_as_told():
    line = [RUNTIME, "-m", SMOLLM2, "-p", "Once upon a time", "-n", "12", "-s", "3", "--temp", "1.5", "-c", "128"]
    plain = run(*line).stdout
    assert run(*line).stdout == plain
    assert run(*line, "--samplers", "temperature").stdout != plain
    wrong = run(*line, "--samplers", "temperature;hot", ok=False)
    assert wrong.returncode == 2
    assert "hot" in wrong.stderr and "top_n_sigma" in wrong.stderr
