"""Requests that nobody waits for any more, and more requests than can be answered."""

from __future__ import annotations

import json
import threading
import time

import pytest
from harness import wait_for

IDLE_CORES = 0.15


@pytest.fixture(autouse=True)
def idle(server):
    """Each test begins with a server that does nothing."""
    assert wait_for(lambda: server.busy(0.2) < IDLE_CORES, 20), "the test before left work behind"


@pytest.fixture(scope="module")
def endless(server) -> dict:
    """A request whose answer takes as long as the context is: about twenty seconds."""
    ends = [server.post("/tokenize", {"content": t, "parse_special": True}).json()["tokens"] for t in ("<|im_end|>", "<|endoftext|>")]
    return {
        "messages": [{"role": "user", "content": "Write a very long story about a candle."}],
        "logit_bias": {str(token): -100 for (token,) in ends},
        "max_tokens": 1900,
        "seed": 1,
    }


def send(connection, body: dict) -> None:
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})


def assert_stops_at_once(server) -> None:
    assert wait_for(lambda: server.busy(0.2) < IDLE_CORES, 1.5), f"still {server.busy(0.3):.2f} cores in use"
    start = time.monotonic()
    server.chat("Hi", max_tokens=1)
    assert time.monotonic() - start < 2, "the next request had to wait"


def test_a_closed_stream_stops_its_generation_at_once(server, endless):
    connection = server.connect()
    send(connection, endless | {"stream": True})
    response = connection.getresponse()
    lines = [response.readline() for _ in range(12)]
    assert any(b'"content"' in line for line in lines)
    assert server.busy(0.3) > 0.5, "it is generating"
    response.close()
    connection.close()
    assert_stops_at_once(server)


def test_a_closed_connection_stops_an_answer_that_is_not_streamed(server, endless):
    connection = server.connect()
    send(connection, endless)
    time.sleep(0.5)
    assert server.busy(0.3) > 0.5, "it is generating"
    connection.close()
    assert_stops_at_once(server)


def test_a_closed_connection_stops_the_reading_of_a_long_prompt(server, endless):
    connection = server.connect()
    story = " ".join(f"On day {n} the candle was {n} mm shorter." for n in range(120))
    send(connection, endless | {"messages": [{"role": "user", "content": story}], "max_tokens": 1})
    time.sleep(0.1)  # a fast machine reads all of it in less than a second
    assert server.busy(0.2) > 0.5, "it is reading"
    connection.close()
    assert_stops_at_once(server)


def test_who_gives_up_while_waiting_leaves_the_queue(server, endless):
    first = server.connect()
    send(first, endless | {"stream": True})
    first.getresponse().readline()
    waiting = [server.connect() for _ in range(3)]
    for connection in waiting:
        send(connection, endless)
    time.sleep(0.3)
    for connection in waiting:
        connection.close()
    first.close()
    assert_stops_at_once(server)


def test_the_queue_is_bounded_and_says_when_to_come_back(start, bundle):
    server = start(bundle, "-np", "2", "--queue", "8")
    answers = []

    def ask(number):
        body = {"messages": [{"role": "user", "content": f"Count to {number}."}], "max_tokens": 12}
        answers.append(server.post("/v1/chat/completions", body))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    served = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 503]
    assert len(served) + len(refused) == 40, [answer.status for answer in answers]
    assert len(served) >= 5 and len(refused) >= 5
    assert all(answer.json()["usage"]["completion_tokens"] > 0 for answer in served)
    for answer in refused:
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.error["type"] == "overloaded_error"
    assert server.chat("Hi")["choices"], "afterwards all is as before"


def test_health_and_page_answer_while_the_model_is_busy(server, endless):
    connection = server.connect()
    send(connection, endless | {"stream": True})
    connection.getresponse().readline()
    start = time.monotonic()
    for path in ("/health", "/", "/props", "/v1/models"):
        assert server.get(path).status == 200
    assert time.monotonic() - start < 1
    connection.close()


def test_a_reader_that_is_slow_does_not_grow_the_server(server, endless):
    before = server.status("RssAnon")
    connection = server.connect()
    send(connection, endless | {"stream": True})
    time.sleep(3)
    assert server.status("RssAnon") - before < 32 << 20
    connection.close()
