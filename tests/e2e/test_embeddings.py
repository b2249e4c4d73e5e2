"""Embeddings: with OpenAI's client and llama.cpp's endpoint, from a chat model and from models made for them."""

from __future__ import annotations

import base64
import json
import math
from array import array

import openai
import pytest
from harness import CONTEXT, ROOT, RUNTIME, SMOLLM2, Server, run

TINY = ROOT / "tests" / "golden" / "embeddings"
GOLDEN = json.loads((ROOT / "tests" / "golden" / "embeddings.json").read_text())
TEXTS = GOLDEN["texts"]


def cosine(a, b) -> float:
    dot = lambda x, y: sum(p * q for p, q in zip(x, y, strict=True))
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tiny random BERT with a WordPiece vocabulary, which pools by the mean."""
    with Server(RUNTIME, "-m", TINY / "bert.gguf", folder=tmp_path_factory.mktemp("bert")) as server:
        yield server


def client(server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_the_client_gets_the_references_embeddings(bert):
    made = client(bert).embeddings.create(model="any", input=TEXTS)
    assert [datum.index for datum in made.data] == list(range(len(TEXTS)))
    for datum, expected in zip(made.data, GOLDEN["bert"], strict=True):
        assert cosine(datum.embedding, expected) > 0.9999
        assert sum(x * x for x in datum.embedding) == pytest.approx(1, abs=1e-5)
    assert made.usage.prompt_tokens == made.usage.total_tokens == sum(
        len(bert.post("/tokenize", {"content": text, "add_special": True}).json()["tokens"]) for text in TEXTS)


def test_a_chat_model_embeds_too_and_its_conversation_stays_computed(server):
    words = [text for text in TEXTS if text]
    body = {"messages": [{"role": "user", "content": "Count to three, and then say something about candles."}],
            "temperature": 0, "max_tokens": 4}
    server.post("/v1/chat/completions", body)
    made = client(server).embeddings.create(model="any", input=words)
    for datum, expected in zip(made.data, GOLDEN["smollm2-135m-instruct-q4_1-mean"], strict=True):
        assert cosine(datum.embedding, expected) > 0.999
    usage = server.post("/v1/chat/completions", body).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] >= usage["prompt_tokens"] - 1


def test_every_form_of_input_is_the_same_text(bert):
    ids = bert.post("/tokenize", {"content": TEXTS[0], "add_special": True}).json()["tokens"]
    rows = []
    for given in (TEXTS[0], [TEXTS[0]], ids, [ids], [TEXTS[0], ids]):
        data = bert.post("/v1/embeddings", {"input": given}).json()["data"]
        rows += [datum["embedding"] for datum in data]
    assert len(rows) == 6 and all(row == rows[0] for row in rows)


def test_base64_holds_the_same_numbers(bert):
    ask = lambda form: bert.post("/v1/embeddings", {"input": "a candle", "encoding_format": form}).json()["data"][0]["embedding"]
    assert array("f", base64.b64decode(ask("base64"))).tolist() == pytest.approx(ask("float"), rel=1e-6)


def test_fewer_dimensions_are_a_unit_vector_again(bert):
    whole = bert.post("/v1/embeddings", {"input": "a candle"}).json()["data"][0]["embedding"]
    made = client(bert).embeddings.create(model="any", input="a candle", dimensions=7).data[0].embedding
    assert len(made) == 7
    assert sum(x * x for x in made) == pytest.approx(1, abs=1e-5)
    assert cosine(made, whole[:7]) == pytest.approx(1, abs=1e-6)


def test_llama_cpps_endpoint_gives_rows(bert):
    answer = bert.post("/embedding", {"content": ["a candle", "wax"], "embd_normalize": -1}).json()
    assert [item["index"] for item in answer] == [0, 1]
    (row,) = answer[0]["embedding"]
    made = client(bert).embeddings.create(model="any", input="a candle").data[0].embedding
    assert cosine(row, made) > 0.99999
    assert sum(x * x for x in row) != pytest.approx(1, abs=1e-3)


def test_without_pooling_each_token_has_its_own(tmp_path):
    with Server(RUNTIME, "-m", TINY / "bert.gguf", "--pooling", "none", folder=tmp_path) as server:
        (item,) = server.post("/embedding", {"content": "a candle"}).json()
        assert len(item["embedding"]) == 4
        answer = server.post("/v1/embeddings", {"input": "a candle"})
        assert answer.status == 400 and "--pooling" in answer.error["message"]


def test_the_settings_are_those_of_llama_cpp(tmp_path):
    with Server(RUNTIME, "-m", TINY / "bert.gguf", "--embeddings", "--pooling", "cls", "--embd-normalize", "1", folder=tmp_path) as server:
        row = server.post("/v1/embeddings", {"input": "a candle"}).json()["data"][0]["embedding"]
        assert sum(map(abs, row)) == pytest.approx(1, abs=1e-5)


def test_a_model_without_text_says_so_wherever_text_is_asked(bert):
    with pytest.raises(openai.APIStatusError) as caught:
        client(bert).chat.completions.create(model="any", messages=[{"role": "user", "content": "Hi"}])
    assert caught.value.status_code == 501
    for path, body in (("/v1/completions", {"prompt": "Hi"}), ("/v1/chat/completions", {"messages": []})):
        answer = bert.post(path, body)
        assert answer.status == 501 and "/v1/embeddings" in answer.error["message"]
    assert bert.get("/").status == 200 and bert.get("/v1/models").status == 200
    assert bert.get("/props").json()["tealight"]["makes_text"] is False
    model = TINY / "bert.gguf"
    for arguments in (("-m", model, "-p", "Hi"), ("chat", "-m", model), ("bench", "-m", model), ("perplexity", "-m", model, "--token-ids", "1,2")):
        done = run(RUNTIME, *arguments, ok=False)
        assert (done.returncode, done.stdout) == (1, "") and "embeddings" in done.stderr


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "input"),
        ({"input": ""}, None),
        ({"input": []}, "empty"),
        ({"input": [[]]}, "empty"),
        ({"input": 7}, "`input`"),
        ({"input": [1, "a"]}, "`input`"),
        ({"input": ["a", 1]}, "`input`"),
        ({"input": [-1]}, "`input`"),
        ({"input": [10**9]}, "`input`"),
        ({"input": ["a"] * 2049}, "2048"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 25}, "dimensions"),
        ({"input": "a", "embd_normalize": -2}, "embd_normalize"),
        ({"input": "a", "inputs": "a"}, None),
        ({"input": "wax " * 60}, "48"),
        ({"input": [5] * 49}, "49 tokens"),
    ],
)
def test_what_cannot_be_embedded_is_named(bert, body, said):
    answer = bert.post("/v1/embeddings", body)
    if said is None:
        assert answer.status == 200
    else:
        assert answer.status == 400 and said in answer.error["message"]


def test_too_long_for_a_chat_model_is_said_before_it_is_computed(server):
    answer = server.post("/v1/embeddings", {"input": "wax " * CONTEXT})
    assert answer.status == 400
    assert answer.error["type"] == "exceed_context_size_error" and answer.error["n_ctx"] == CONTEXT


def test_a_wrong_pooling_is_named():
    done = run(RUNTIME, "-m", SMOLLM2, "--pooling", "max", ok=False)
    assert done.returncode == 2 and "--pooling" in done.stderr
