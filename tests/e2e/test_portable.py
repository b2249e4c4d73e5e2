"""Conversations kept beside the program: only when asked for, whole, and by nobody else."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest
from harness import Server, link, nowhere_to_write, wait_for
from playwright.sync_api import expect
from test_page import ANSWER_MS, answered, ask, chrome, last_answer, open_page  # noqa: F401

ONE = {"id": "aaaaaaaa", "title": "one", "created": 1, "updated": 2, "settings": {}, "messages": []}


@pytest.fixture
def stick(bundle, tmp_path):
    """A folder with a program of its own."""
    folder = tmp_path / "stick"
    folder.mkdir()
    return link(bundle, folder / "chat")


def chats_of(program) -> list[dict]:
    file = json.loads((program.parent / "chat.chats.json").read_text())
    assert (file["format"], file["version"]) == ("tealight-chats", 1)
    return file["conversations"]


def test_a_conversation_is_there_for_another_browser_and_another_run(chrome, stick, start):
    server = start(stick, "-c", "1024", "--temp", "0", "-n", "30", "--portable")
    page, watch = open_page(chrome, server)
    answered(page)
    assert os.listdir(stick.parent) == [stick.name], "nothing is written before there is something to keep"
    ask(page, "What is the capital of France?")
    expect(page.locator("#conversations li")).to_have_count(1)
    (kept,) = chats_of(stick)
    assert [m["role"] for m in kept["messages"]] == ["user", "assistant"]
    text = last_answer(page).locator(".body").inner_text()
    # While it is written, there are a new file and a lock beside it.
    assert wait_for(lambda: sorted(os.listdir(stick.parent)) == ["chat", "chat.chats.json"], 5)
    page.context.close()
    server.stop()
    assert watch.foreign == [] and watch.complaints == []

    other = start(stick, "-c", "1024", "--portable")
    page, watch = open_page(chrome, other)
    answered(page)
    page.locator("#conversations .open").click()
    expect(last_answer(page).locator(".body")).to_have_text(text, use_inner_text=True)
    second = page.context.new_page()
    second.goto(other.url)
    second.locator("#conversations .open").click()
    page.locator("#conversations .current").hover()
    page.locator("#conversations .current [data-action=rename]").click()
    page.locator("#ask-input").fill("Capitals")
    page.locator("#ask-ok").click()
    expect(page.locator("#conversations .open")).to_have_text("Capitals")
    expect(second.locator("#conversations .open")).to_have_text("Capitals")
    assert chats_of(stick)[0]["title"] == "Capitals"
    page.locator("#conversations .current [data-action=delete]").click()
    page.locator("#ask-ok").click()
    expect(page.locator("#conversations li")).to_have_count(0)
    assert chats_of(stick) == []
    page.context.close()
    assert watch.foreign == [] and watch.complaints == []


def test_half_a_character_loses_no_conversation(chrome, stick, start):
    file = stick.parent / "chat.chats.json"
    old = ONE | {"id": "bbbbbbbb", "title": "old \ud83d", "messages": [{"role": "user", "content": "\udc00", "meta": {}}]}
    file.write_text(json.dumps({"format": "tealight-chats", "version": 1, "conversations": [old]}))
    server = start(stick, "-c", "512", "-n", "3", "--portable")
    assert json.loads(server.get("/chats").body)["conversations"][0]["title"] == "old \ufffd"
    page, watch = open_page(chrome, server)
    ask(page, "a" * 47 + "\U0001f600" + "b" * 10)
    expect(page.locator("#conversations li")).to_have_count(2)
    assert server.post("/chats", b'{"put":[{"id":"cccccccc","title":"\\ud83d!","messages":[]}]}').status == 200
    assert sorted(c["title"] for c in chats_of(stick)) == ["a" * 47 + "\U0001f600…", "old \ufffd", "\ufffd!"]
    page.context.close()
    assert watch.foreign == [] and watch.complaints == []


def test_two_browsers_with_one_conversation_lose_nothing(chrome, stick, start):
    """Two browsers tell each other nothing; the file is what they have in common."""
    server = start(stick, "-c", "1024", "--temp", "0", "-n", "8", "--portable")
    pages = []
    for _ in range(2):
        page, watch = open_page(chrome, server)
        answered(page)
        if pages:
            page.locator("#conversations .open").click()
        else:
            ask(page, "Name a colour.")
        pages.append(page)
    for page, text in zip(pages, ("One.", "Two.")):
        ask(page, text, wait=False)
    for page in pages:
        answered(page)
    for _ in range(100):  # the last change may still be under way
        (kept,) = chats_of(stick)
        finishes = {m["meta"]["finish"] for m in kept["messages"] if m["role"] == "assistant"}
        if len(kept["messages"]) == 6 and "partial" not in finishes:
            break
        pages[0].wait_for_timeout(100)
    asked = [m["content"] for m in kept["messages"] if m["role"] == "user"]
    assert sorted(asked) == ["Name a colour.", "One.", "Two."] and len(kept["messages"]) == 6, kept
    assert finishes <= {"stop", "length"}, finishes
    for page in pages:
        page.context.close()


def test_what_one_page_exports_another_takes(chrome, stick, start):
    """One conversation of 40 MB: more than other requests may have."""
    server = start(stick, "-c", "256", "--portable")
    message = {"role": "user", "content": "é" * 4_000_000, "created": 1, "meta": {}}
    chat = ONE | {"title": "long", "messages": [message | {"id": f"message-{n}"} for n in range(5)]}
    page, watch = open_page(chrome, server)
    answered(page)
    export = json.dumps({"format": "tealight-chats", "version": 1, "conversations": [chat]}, ensure_ascii=False)
    (stick.parent / "export.json").write_text(export)
    page.locator("#import-file").set_input_files(stick.parent / "export.json")
    expect(page.locator("#conversations .open")).to_have_text("long", timeout=ANSWER_MS)
    assert [len(m["content"]) for m in chats_of(stick)[0]["messages"]] == [4_000_000] * 5
    (stick.parent / "export.json").write_bytes(b" " * 64_000_001)
    page.locator("#import-file").set_input_files(stick.parent / "export.json")
    expect(page.locator("#ask-text")).to_contain_text("64 MB")
    page.context.close()
    assert watch.foreign == [] and watch.complaints == []


def test_without_the_flag_nothing_is_kept_here(stick, start):
    server = start(stick, "-c", "256")
    answer = server.get("/chats")
    assert (answer.status, answer.body) == (204, b"")
    assert server.post("/chats", {"put": [ONE]}).status == 405
    assert os.listdir(stick.parent) == [stick.name]


def test_others_are_refused_and_malformed_changes_change_nothing(stick, start):
    server = start(stick, "-c", "256", "--portable")
    assert server.post("/chats", {"put": [ONE]}).status == 200
    evil = {"Origin": "http://evil.example"}
    assert server.ask("GET", "/chats", None, evil).status == 403
    assert server.ask("POST", "/chats", {"remove": ["aaaaaaaa"]}, evil).status == 403
    assert server.ask("GET", "/chats", None, {"Host": "evil.example"}).status == 403
    for body in (b"", b"{", b"[]", b"[" * 100_000, b'{"put":' + b"[" * 5000, b'{"put":[{"id":"../../x/y"}]}', b'{"file":"/etc/passwd"}', b'{"remove":7}'):
        assert server.post("/chats", body).status == 400, body[:40]
    assert server.post("/chats", {"put": [{"id": f"{n:08}"} for n in range(10_001)]}).status == 413
    for path in ("/chats/../../etc/passwd", "/chats/aaaaaaaa", "/chats.json", "/chat.chats.json"):
        assert server.get(path).status == 404, path
    assert server.ask("DELETE", "/chats").status == 405
    assert chats_of(stick) == [ONE]
    assert sorted(os.listdir(stick.parent)) == ["chat", "chat.chats.json"]


def test_a_file_of_somebody_else_is_left_alone(chrome, stick, start):
    other = stick.parent / "chat.chats.json"
    other.write_text("precious")
    server = start(stick, "-c", "256", "--portable")
    assert "not a conversations file" in server.post("/chats", {"put": [ONE]}).error["message"]
    page, _ = open_page(chrome, server)
    expect(page.locator("#storage-notice")).to_contain_text("Nothing can be stored")
    page.context.close()
    assert other.read_text() == "precious"


def test_where_nothing_can_be_written_this_is_said_and_the_browser_keeps_them(chrome, stick, start):
    server = start(stick, "-c", "256", "--portable", prefix=nowhere_to_write())
    assert "warning: --portable" in server.log and "cannot be written" in server.log
    assert server.get("/chats").status == 204
    page, watch = open_page(chrome, server)
    expect(page.locator("body[data-state=ready]")).to_be_visible(timeout=ANSWER_MS)
    expect(page.locator("#storage-notice")).to_be_hidden()
    page.context.close()
    assert watch.foreign == [] and watch.complaints == []


def test_the_network_sees_conversations_only_with_a_key(stick, start):
    server = start(stick, "-c", "256", "--portable", "--host", "0.0.0.0")
    assert "warning: --portable" in server.log and server.get("/chats").status == 204
    server = start(stick, "-c", "256", "--portable", "--host", "0.0.0.0", "--api-key", "sesame")
    assert server.get("/chats").status == 401
    assert server.post("/chats", {"put": [ONE]}).status == 401
    assert server.get("/chats", X_Api_Key="sesame").status == 200


def test_two_programs_on_one_stick_keep_all_that_they_acknowledged_also_when_one_is_killed(stick, start, tmp_path):
    killed = Server(stick, "-c", "256", "--portable", folder=tmp_path / "killed")
    other = start(stick, "-c", "256", "--portable")
    kept, refused = set(), []

    def put(server, who, count):
        for number in range(count):
            name = f"{who}-{number:06}"
            try:
                answer = server.post("/chats", {"put": [ONE | {"id": name}]})
            except OSError:
                return
            (kept.add if answer.status == 200 else refused.append)(name)

    threads = [threading.Thread(target=put, args=args) for args in ((killed, "ka", 10_000), (killed, "kb", 10_000), (other, "oa", 60), (other, "ob", 60))]
    for thread in threads:
        thread.start()
    time.sleep(0.4)
    killed.process.kill()
    killed.process.wait()
    for thread in threads:
        thread.join()
    assert refused == []
    names = {chat["id"] for chat in chats_of(stick)}
    assert kept <= names, f"lost: {sorted(kept - names)}"
    assert {name[0] for name in kept} == {"k", "o"}, "only one of them changed something"
    # What the killed one left goes with the next run's first change.
    assert start(stick, "-c", "256", "--portable").post("/chats", {"remove": []}).status == 200
    assert sorted(os.listdir(stick.parent)) == ["chat", "chat.chats.json"]
