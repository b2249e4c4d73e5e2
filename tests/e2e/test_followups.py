"""What the next request of a conversation computes: only what is new, whatever kind of layers a model has."""

from __future__ import annotations

import json

import pytest
from harness import BUNDLER, RUNTIME, Server, run
from tiny_gguf import TOKENS, talking

# Recurrent layers of each kind, with attention beside them; sliding windows; attention alone.
MODELS = ["qwen35", "kimi-linear", "rwkv7", "lfm2", "granitehybrid", "falcon-h1", "nemotron_h", "gemma3", "llama"]
# Tokens of `<|im_start|>assistant` and the line's end, and one that gives the logits.
HEADER = 1 + len("assistant") + 1 + 1


@pytest.fixture(scope="module", params=MODELS)
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    path = talking(request.param, folder)
    with Server(RUNTIME, "-m", path, "-c", "500", "-np", "2", "-b", "16", folder=folder) as server:
        server.weights = path
        yield server


class Talk:
    """A conversation with a model that answers with a letter several times."""

    def __init__(self, server: Server, letter: str, system: str) -> None:
        self.server, self.letter = server, letter
        self.messages = [{"role": "system", "content": system}]

    def say(self, content: str) -> int:
        """Adds a message and gets the answer; returns how many tokens of the prompt were computed."""
        self.messages.append({"role": "user", "content": content})
        return self.answer()

    def answer(self) -> int:
        body = {
            "messages": self.messages,
            "max_tokens": 7,
            "temperature": 0,
            "logit_bias": {str(TOKENS.index(self.letter)): 100},
        }
        content, usage = self.ask(body)
        assert content == 7 * self.letter
        self.messages.append({"role": "assistant", "content": content})
        return usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]


    def ask(self, body: dict) -> tuple[str, dict]:
        answer = self.server.post("/v1/chat/completions", body).json()
        return answer["choices"][0]["message"]["content"], answer["usage"]


class PageTalk(Talk):
    """A conversation as the page has it: streamed, drawn, with progress; and stopped now and then."""

    def ask(self, body: dict) -> tuple[str, dict]:
        body |= {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True, "render": "html"}
        lines = self.server.post("/v1/chat/completions", body).body.decode().split("\n\n")
        events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
        deltas = [choice["delta"] for event in events for choice in event["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas), events[-1]["usage"]


def message(content: str, role: str = "user") -> int:
    """Tokens of a message: the marks around it, the role, the text."""
    return len(role) + len(content) + 4


def test_each_turn_computes_only_what_is_new(server):
    talk = Talk(server, "k", "be brief and kind. " * 4)
    talk.say("hello there")
    for content in ("and", "what of the second question, which is longer than one page is in the cache. " * 2, "x"):
        computed = talk.say(content)
        # The answer's last token was never read, nor what follows it.
        assert computed <= 1 + 2 + message(content) + HEADER, content


def test_a_regenerated_answer_computes_next_to_nothing(server):
    talk = Talk(server, "q", "be brief. ")
    talk.say("tell me of " + "rivers and " * 20)
    talk.messages.pop()
    assert talk.answer() <= HEADER
    # Even when other conversations came between.
    for letter in "bcdef":
        Talk(server, letter, "be brief. ").say(f"{letter} asks")
    talk.messages.pop()
    assert talk.answer() <= HEADER


def test_an_edited_message_computes_itself(server):
    talk = Talk(server, "v", "answer in one word. ")
    talk.say("first " * 15)
    talk.say("second " * 15)
    del talk.messages[-2:]
    edited = "a third one instead"
    assert talk.say(edited) <= 3 + message(edited) + HEADER


def test_a_thought_that_leaves_the_history_costs_the_answer_and_the_new_message(server):
    """Templates of thinking models drop the thoughts of earlier turns."""
    talk = Talk(server, "w", "think first. ")
    talk.say("why is that so? ".replace("?", ".") * 8)
    kept = "so it is"
    talk.messages[-1]["content"] = kept
    assert talk.say("go on") <= HEADER + message(kept, "assistant") + message("go on") + HEADER


def test_the_pages_own_requests_compute_only_what_is_new(server):
    talk = PageTalk(server, "h", "be brief and kind. ")
    talk.say("hello there " * 5)
    assert talk.say("and then") <= 3 + message("and then") + HEADER
    talk.messages.pop()  # regenerated
    assert talk.answer() <= HEADER
    del talk.messages[-2:]  # the last message edited
    assert talk.say("or so") <= 3 + message("or so") + HEADER
    talk.messages[-1]["content"] = "hhh"  # stopped: the page sends what was shown
    assert talk.say("go on") <= HEADER + message("hhh", "assistant") + message("go on") + HEADER
    del talk.messages[3:]  # an earlier message edited: what comes after it is gone
    talk.messages[1]["content"] = "hello you"
    assert talk.say("x") <= message("hello you") + message(7 * "h", "assistant") + message("x") + HEADER


def test_conversations_share_the_prompt_of_the_system(server):
    system = "these are the rules of the house, all of them. " * 3
    Talk(server, "m", system).say("one")
    assert Talk(server, "n", system).say("two three") <= message("two three") + HEADER


def test_reused_states_give_the_same_answers(server, start):
    """What was found is what would have been computed: the next tokens and their probabilities are the same."""
    forgetful = start(RUNTIME, "-m", server.weights, "-c", "500", "--cache-ram", "0", "--ctx-checkpoints", "0")
    mark = TOKENS.index("<|im_start|>")
    prompt = [*range(3, 33), mark, *range(2, 20), mark, 5, 6, 7]

    def ask(server: Server, ids: list[int]) -> tuple[int, list]:
        body = {"prompt": ids, "max_tokens": 6, "temperature": 0, "logprobs": 3, "ignore_eos": True}
        answer = server.post("/v1/completions", body).json()
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"], answer["choices"][0]["logprobs"]

    ask(server, prompt)
    for ids, least in ((prompt + [8, 9], 53), (prompt[:-2] + [11, 12], 49), (prompt[:40] + [1, 2, 3], 30)):
        cached, found = ask(server, ids)
        none, expected = ask(forgetful, ids)
        assert cached >= least and none == 0 and found == expected


def test_states_are_saved_and_restored_with_a_slot(server, start, tmp_path):
    folder = tmp_path / "slots"
    folder.mkdir()
    arguments = (RUNTIME, "-m", server.weights, "-c", "500", "--slot-save-path", folder)
    body = {"prompt": list(range(3, 33)) * 3, "max_tokens": 5, "temperature": 0, "logprobs": 3, "ignore_eos": True, "id_slot": 0}
    first = start(*arguments)
    expected = first.post("/v1/completions", body).json()
    saved = first.post("/slots/0?action=save", {"filename": "a.bin"}).json()
    assert saved["n_saved"] == 94, "the prompt and what was read of the answer"
    other = start(*arguments)
    assert other.post("/slots/0?action=restore", {"filename": "a.bin"}).json()["n_restored"] == 94
    longer = body | {"prompt": body["prompt"] + [7]}
    answers = [server.post("/v1/completions", longer).json() for server in (first, other)]
    assert answers[0]["choices"] == answers[1]["choices"]
    # What was read of the answer follows the prompt, so the next token of a longer prompt is another.
    again = other.post("/v1/completions", body).json()
    assert again["choices"] == expected["choices"]


@pytest.mark.parametrize("name", ["qwen35", "rwkv7", "gemma3"])
def test_a_long_history_that_grows_is_never_read_again(name, tmp_path, start):
    path = talking(name, tmp_path)
    server = start(RUNTIME, "-m", path, "-c", "40000", "-np", "1")
    talk = Talk(server, "t", "the rules. " * 2000)
    assert talk.say("a story " * 1000) > 29_000
    for content in ("go on", "and on, as long as there is something to tell. " * 40, "the end"):
        assert talk.say(content) <= 1 + 2 + message(content) + HEADER, content
    talk.messages.pop()
    assert talk.answer() <= HEADER


@pytest.mark.parametrize("name", ["granitehybrid", "rwkv7"])
def test_a_bundle_brings_the_states_after_its_system_prompt(name, tmp_path, start):
    path, bundle = talking(name, tmp_path), tmp_path / "chat"
    system = "these are the rules of the house, all of them. " * 6
    run(BUNDLER, "--weights", path, "-o", bundle, "--system-prompt", system)
    question = [{"role": "system", "content": system}, {"role": "user", "content": "why"}]
    body = {"messages": question, "max_tokens": 6, "temperature": 0, "logprobs": True}
    server = start(bundle)
    expected = server.post("/v1/chat/completions", body).json()
    server.process.terminate()
    server.process.wait()
    run(BUNDLER, "set", bundle, "--prompt-cache")
    answer = start(bundle).post("/v1/chat/completions", body).json()
    assert answer["choices"] == expected["choices"]
    found = [one["usage"]["prompt_tokens_details"]["cached_tokens"] for one in (expected, answer)]
    assert found[0] == 0 and answer["usage"]["prompt_tokens"] - found[1] <= message("why") + HEADER
