"""Several requests at once: the same answers as alone, nobody held up, and what watchers see of it."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness import RUNTIME, SMOLLM2, Server, run, wait_for

# `make soak` takes longer.
SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
MODEL = ("-m", SMOLLM2)
WORDS = "candle wax wick flame light table window night story child moon river stone paper ink letter".split()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    with Server(RUNTIME, *MODEL, "-c", "2048", "-np", "8", folder=tmp_path_factory.mktemp("many")) as server:
        yield server


def requests(count: int, seed: int) -> list[dict]:
    """Random requests, some of which share beginnings."""
    dice = random.Random(seed)
    prompts = ["Once upon a time there was a"]
    found = []
    for _ in range(count):
        prompt = dice.choice(prompts) + " " + " ".join(dice.choice(WORDS) for _ in range(dice.randrange(1, 60)))
        prompts.append(prompt)
        body = {
            "prompt": prompt,
            "max_tokens": dice.randrange(1, 24),
            "temperature": dice.choice([0, 0.9]),
            "seed": dice.randrange(1000),
            "logprobs": dice.choice([None, 2]),
            "ignore_eos": True,
        }
        if dice.random() < 0.2:
            body |= {"grammar": 'root ::= ("yes" | "no") ", " [a-z ]+', "logprobs": None}
        if dice.random() < 0.2:
            body |= {"n": 2, "temperature": 0.9, "logprobs": None}
        found.append({name: value for name, value in body.items() if value is not None})
    return found


def bits(server, body: dict) -> list:
    """What an answer is made of, without ids and times."""
    answer = server.post("/v1/completions", body)
    assert answer.status == 200, answer.body
    return [[c["text"], c["finish_reason"], c.get("logprobs")] for c in answer.json()["choices"]]


def test_answers_are_the_same_alone_among_others_and_however_prompts_are_cut(many, start):
    asked = requests(24, 1)
    # One at a time, nothing kept, and prompts in other pieces.
    alone = start(RUNTIME, *MODEL, "-c", "2048", "-np", "1", "--cache-ram", "0", "-b", "7")
    expected = [bits(alone, body) for body in asked]
    for seed in range(3):
        order = list(range(len(asked)))
        random.Random(seed).shuffle(order)
        with ThreadPoolExecutor(8) as pool:
            found = dict(zip(order, pool.map(lambda i: bits(many, asked[i]), order)))
        for index, body in enumerate(asked):
            assert found[index] == expected[index], body


def test_who_does_not_read_holds_nobody_up(many):
    body = json.dumps({"prompt": "Once", "max_tokens": 1900, "ignore_eos": True, "stream": True}).encode()
    stalled = []
    for _ in range(3):
        connection = many.socket()
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        stalled.append(connection)
    time.sleep(0.5)
    start = time.monotonic()
    for _ in range(3):
        many.chat("Hi", max_tokens=4)
    assert time.monotonic() - start < 5
    for connection in stalled:
        connection.close()
    assert wait_for(lambda: not any(slot["is_processing"] for slot in many.get("/slots").json()), 5)


def test_a_running_answer_is_not_held_up_by_a_long_prompt(many):
    times = []

    def stream():
        for _ in many.events("/v1/completions", {"prompt": "Once", "max_tokens": 150, "ignore_eos": True}):
            times.append(time.monotonic())

    thread = threading.Thread(target=stream)
    thread.start()
    assert wait_for(lambda: len(times) > 5, 20)
    story = " ".join(f"On day {n} the candle was {n} mm shorter." for n in range(130))
    many.post("/v1/completions", {"prompt": story, "max_tokens": 1})
    thread.join(60)
    gaps = sorted(after - before for before, after in zip(times, times[1:]))
    # 250 ms are promised on a machine of its own; tests share theirs.
    assert gaps[-1] < 1, gaps[-5:]


def test_prompts_that_begin_alike_are_computed_once(many):
    system = "You are a helpful candle. " * 60 + str(random.random())
    before = prompt_tokens(many)

    def ask(number):
        body = {"messages": [{"role": "system", "content": system}, {"role": "user", "content": f"Say {number}."}], "max_tokens": 2}
        return many.post("/v1/chat/completions", body).json()["usage"]["prompt_tokens"]

    with ThreadPoolExecutor(8) as pool:
        lengths = list(pool.map(ask, range(20)))
    computed = prompt_tokens(many) - before
    assert computed < lengths[0] + 20 * 100, f"{computed} computed of {sum(lengths)}"


def prompt_tokens(server) -> int:
    return int(re.search(r"^llamacpp:prompt_tokens_total (\d+)", server.get("/metrics").body.decode(), re.M)[1])


def test_slots_and_metrics_say_what_is_done_and_no_text(many):
    many.chat("A secret word: xylophone", max_tokens=3)
    body = {"prompt": "xylophone", "max_tokens": 1900, "ignore_eos": True, "stream": True}
    events = many.events("/v1/completions", body)
    next(events)
    slots = many.get("/slots").json()
    assert len(slots) == many.get("/props").json()["total_slots"] == 8
    busy = [slot for slot in slots if slot["is_processing"]]
    assert len(busy) == 1 and busy[0]["state"] == "generating" and busy[0]["n_decoded"] > 0 and busy[0]["n_ctx"] == 2048
    text = many.get("/metrics").body.decode()
    values = dict(re.findall(r"^(llamacpp:\w+) ([\d.e+-]+)$", text, re.M))
    assert float(values["llamacpp:requests_processing"]) == 1
    assert float(values["llamacpp:tokens_predicted_total"]) > 0
    assert set(re.findall(r"^# TYPE (\S+)", text, re.M)) == set(values)
    assert "xylophone" not in text + json.dumps(slots)
    events.close()


def test_what_a_slot_has_read_is_saved_and_taken_back(start, tmp_path):
    folder = tmp_path / "slots"
    folder.mkdir()
    arguments = (RUNTIME, *MODEL, "-c", "1024", "-np", "2", "--slot-save-path", folder)
    server = start(*arguments)
    body = {"prompt": "The candle burns. " * 40, "max_tokens": 8, "temperature": 0, "id_slot": 1}
    first = server.post("/v1/completions", body).json()
    saved = server.post("/slots/1?action=save", {"filename": "a.bin"})
    assert saved.status == 200, saved.body
    saved = saved.json()
    assert saved["n_saved"] >= first["usage"]["prompt_tokens"] and saved["n_written"] == (folder / "a.bin").stat().st_size
    # Another start knows it, and answers the same.
    other = start(*arguments)
    restored = other.post("/slots/0?action=restore", {"filename": "a.bin"}).json()
    assert restored["n_restored"] == saved["n_saved"] and restored["n_read"] == saved["n_written"]
    again = other.post("/v1/completions", body).json()
    assert again["choices"][0]["text"] == first["choices"][0]["text"]
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] >= first["usage"]["prompt_tokens"] - 1
    assert other.post("/slots/0?action=erase", {}).json()["n_erased"] == saved["n_saved"]
    # What is of no use is refused with the reason, and nothing leaves the folder.
    damaged = bytearray((folder / "a.bin").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / "b.bin").write_bytes(damaged)
    (folder / "c.bin").write_bytes(damaged[:1000])
    (folder / "d.bin").write_bytes(SMOLLM2.read_bytes()[:5000])
    for name, why in (("b.bin", "checksum"), ("c.bin", "ends after"), ("d.bin", "something else"), ("e.bin", "No such file")):
        answer = other.post("/slots/0?action=restore", {"filename": name})
        assert answer.status == 400 and why in answer.error["message"], answer.body
    for name in ("../a.bin", "/etc/passwd", ".a", "", "a\\b"):
        assert other.post("/slots/0?action=restore", {"filename": name}).status == 400
    assert other.post("/slots/2?action=erase", {}).status == 400
    assert other.post("/slots/1?action=save", {"filename": "x"}).status == 400, "it has read nothing"
    assert sorted(path.name for path in folder.iterdir()) == ["a.bin", "b.bin", "c.bin", "d.bin"]
    f32 = start(*arguments, "-ctk", "f32")
    refused = f32.post("/slots/0?action=restore", {"filename": "a.bin"})
    assert "found f16, expected f32" in refused.error["message"]


def test_slots_are_not_saved_unless_a_folder_is_named(many):
    many.chat("Hi", max_tokens=1)
    answer = many.post("/slots/0?action=save", {"filename": "a.bin"})
    assert answer.status == 501 and "--slot-save-path" in answer.error["message"]
    assert many.get("/slots/0").status == 405


def test_the_terminal_reads_a_prompt_once(tmp_path):
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("The candle burns. " * 60)
    arguments = (RUNTIME, *MODEL, "-f", prompt, "-n", "6", "--temp", "0", "--prompt-cache", tmp_path / "cache", "--verbose")
    first, second = run(*arguments), run(*arguments)
    assert first.stdout == second.stdout
    known = [int(re.search(r"\((\d+) known\)", done.stderr)[1]) for done in (first, second)]
    assert known[0] == 0 and known[1] > 200
    (tmp_path / "cache").write_bytes(b"something else")
    third = run(*arguments)
    assert third.stdout == first.stdout and "--prompt-cache" in third.stderr


def test_without_memory_a_request_ends_alone(start):
    server = start(RUNTIME, *MODEL, "-c", "8192", "-np", "4", "--cache-ram", "-1")
    server.chat("Hi", max_tokens=4)
    size = int(re.search(r"VmSize:\s+(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())[1]) << 10
    limit = size + (60 << 20)
    resource.prlimit(server.pid, resource.RLIMIT_AS, (limit, limit))
    # Six thousand tokens take 141 MB.
    long = {"prompt": [300 + number % 1000 for number in range(6000)], "max_tokens": 1}
    answer = server.post("/v1/completions", long)
    assert answer.status == 503 and "not enough memory" in answer.error["message"], answer.body
    assert server.chat("Hi", max_tokens=4)["choices"]
    short = {"prompt": long["prompt"][:500], "max_tokens": 1}
    assert server.post("/v1/completions", short).status == 200


def test_a_waiting_stream_says_how_many_are_before_it(start):
    server = start(RUNTIME, *MODEL, "-c", "2048", "-np", "1")
    first = server.events("/v1/completions", {"prompt": "Once", "max_tokens": 1900, "ignore_eos": True})
    next(first)
    seen: dict[int, list] = {0: [], 1: []}

    def wait(number):
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "return_progress": True}
        for event in server.events("/v1/chat/completions", body):
            if "queue" in event:
                seen[number].append(event["queue"]["before"])

    threads = [threading.Thread(target=wait, args=(number,)) for number in seen]
    for number, thread in enumerate(threads):
        thread.start()
        assert wait_for(lambda number=number: seen[number], 10)
    first.close()
    for thread in threads:
        thread.join(30)
    assert seen[0] == [0] and seen[1][0] == 1


def test_a_hundred_streams_complete(many):
    def stream(number):
        body = {"prompt": f"Number {number}:", "max_tokens": 8, "ignore_eos": True, "temperature": 0}
        text = [event["choices"][0]["text"] for event in many.events("/v1/completions", body)]
        return number, "".join(text)

    with ThreadPoolExecutor(100) as pool:
        found = dict(pool.map(stream, range(100)))
    for number in random.sample(range(100), 5):
        body = {"prompt": f"Number {number}:", "max_tokens": 8, "ignore_eos": True, "temperature": 0}
        alone = many.post("/v1/completions", body)
        assert found[number] == alone.json()["choices"][0]["text"]


def test_five_hundred_requests_are_served_or_refused_cleanly(start):
    server = start(RUNTIME, *MODEL, "-c", "512", "-np", "8", "--queue", "300")

    def ask(number):
        answer = server.post("/v1/completions", {"prompt": f"{number}", "max_tokens": 1, "temperature": 0})
        return answer.status, answer.headers.get("retry-after")

    with ThreadPoolExecutor(500) as pool:
        found = list(pool.map(ask, range(500)))
    served, refused = [f for f in found if f[0] == 200], [f for f in found if f[0] == 503]
    assert len(served) + len(refused) == 500 and len(served) >= 300, (len(served), len(refused))
    assert all(int(after) > 0 for _, after in refused)
    assert server.chat("Hi")["choices"]


def test_random_clients_leave_nothing_behind_and_change_nobodys_answer(many):
    """Clients that connect, leave, stall and cancel at random; `make soak` does it for ten minutes."""
    asked = requests(12, 7)
    expected = [bits(many, body) for body in asked]
    end = time.monotonic() + SOAK_SECONDS
    wrong: list = []

    def files() -> int:
        return len(list(Path(f"/proc/{many.pid}/fd").iterdir()))

    def memory() -> int:
        return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{many.pid}/status").read_text())[1])

    def client(seed):
        dice = random.Random(seed)
        while time.monotonic() < end and not wrong:
            index = dice.randrange(len(asked))
            what = dice.random()
            try:
                if what < 0.5:
                    if (found := bits(many, asked[index])) != expected[index]:
                        wrong.append((asked[index], found, expected[index]))
                elif what < 0.8:  # leaves in the middle
                    events = many.events("/v1/completions", asked[index] | {"max_tokens": 200})
                    for _ in range(dice.randrange(1, 5)):
                        next(events, None)
                    events.close()
                else:  # half a request, then silence
                    with many.socket() as connection:
                        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{")
                        time.sleep(dice.random() / 5)
            except (OSError, AssertionError) as error:
                wrong.append(repr(error))

    def round_of(seeds):
        threads = [threading.Thread(target=client, args=(seed,)) for seed in seeds]
        for thread in threads:
            thread.start()
        return threads

    threads = round_of(range(10))
    time.sleep(SOAK_SECONDS / 2)
    halfway = memory()
    for thread in threads:
        thread.join(SOAK_SECONDS + 60)
    assert not wrong, wrong[0]
    idle = lambda: not any(slot["is_processing"] for slot in many.get("/slots").json())
    assert wait_for(idle, 10), many.get("/slots").json()
    assert wait_for(lambda: files() < 40, 10), files()
    # What is kept for prompts to come grows up to its bound, not with the number of requests.
    kept = float(re.search(r"^llamacpp:cache_bytes ([\d.e+-]+)", many.get("/metrics").body.decode(), re.M)[1])
    assert memory() * 1024 < halfway * 1024 + kept + (40 << 20), (halfway, memory(), kept)
