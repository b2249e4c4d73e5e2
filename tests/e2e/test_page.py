"""The page in a real browser, on the real bundle: chat, stop, reload, and nothing asked of any other machine."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from harness import CONTEXT, RUNTIME, SMOLLM2, Server, bundle_of, link
from playwright.sync_api import Page, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ANSWER_MS = 30_000
SYSTEM = "You are a helpful AI assistant."  # with which this small model knows its capitals
# What Chromium says by itself of each answer that is an error; foreign hosts are noticed otherwise.
HARMLESS = re.compile(r"Failed to load resource: the server responded with a status of (400|401|503)")


@pytest.fixture(scope="module")
def chrome():
    path = os.environ.get("CHROME") or next(filter(None, map(shutil.which, NAMES)), None)
    assert path, "no Chromium found; `make test` finds or installs one"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Greedy and short by default, so that answers are the same each time and soon there."""
    folder = tmp_path_factory.mktemp("page")
    arguments = folder / "args"
    arguments.write_text(f"-c\n{CONTEXT}\n--temp\n0\n-n\n60\n")
    program = bundle_of(folder, "tea", "--args", arguments, "--name", "Test Tea", "--system-prompt", SYSTEM)
    server = Server(program, folder=folder)
    yield server
    server.stop()
    program.unlink()


class Watch:
    """Everything a page asks for and complains about."""

    def __init__(self, page: Page, own: str) -> None:
        self.own, self.foreign, self.complaints, self.requests = own, [], [], []
        page.on("request", self.request)
        page.on("console", lambda message: message.type in ("error", "warning") and self.complain(message.text))
        page.on("pageerror", lambda error: self.complain(str(error)))
        page.on("dialog", lambda dialog: (self.complain(f"dialog: {dialog.message}"), dialog.dismiss()))

    def request(self, request) -> None:
        self.requests.append(request)
        if not request.url.startswith((self.own + "/", "data:", "blob:")):
            self.foreign.append(request.url)

    def complain(self, text: str) -> None:
        if not HARMLESS.search(text):
            self.complaints.append(text)


def open_page(chrome, server, **context):
    context = chrome.new_context(**({"viewport": {"width": 1280, "height": 800}, "locale": "en-US"} | context))
    context.set_default_timeout(10_000)
    page = context.new_page()
    watch = Watch(page, server.url)
    page.goto(server.url + "/")
    return page, watch


@pytest.fixture
def page(chrome, server):
    """A fresh visitor; at the end nothing may have been asked of another host, and nothing complained about."""
    page, watch = open_page(chrome, server)
    page.watch = watch
    expect(page.locator("body[data-state=ready]")).to_be_visible(timeout=ANSWER_MS)
    yield page
    page.context.close()
    assert watch.foreign == []
    assert watch.complaints == []


def ask(page: Page, text: str, wait: bool = True) -> None:
    page.locator("#composer").fill(text)
    page.locator("#send").click()
    if wait:
        answered(page)


def answered(page: Page) -> None:
    expect(page.locator("body[data-state=ready]")).to_be_visible(timeout=ANSWER_MS)


def last_answer(page: Page):
    return page.locator(".message.assistant").last


def test_an_answer_streams_into_the_page(page):
    ask(page, "Name three fruits and say a few words about each.", wait=False)
    answer = last_answer(page)
    expect(page.locator(".message.user .body")).to_have_text("Name three fruits and say a few words about each.")
    expect(answer).to_have_attribute("data-status", "streaming")
    expect(answer.locator(".body")).not_to_be_empty(timeout=ANSWER_MS)
    lengths = set()
    while page.locator("body[data-state=generating]").count():
        lengths.add(len(answer.locator(".body").inner_text()))
        page.wait_for_timeout(30)
    assert len(lengths) >= 4, "it grows while it is written"
    expect(answer).to_have_attribute("data-status", "length")
    expect(answer.locator(".notice")).to_be_visible()
    expect(page.locator("#meter")).to_be_visible()
    expect(page.locator("#meter-speed")).to_contain_text(re.compile(r"\d"))
    expect(page.locator("#conversations li")).to_have_count(1)


def test_thoughts_are_folded_before_the_answer_and_kept(chrome, tmp_path):
    template = Path(__file__).with_name("think.jinja")
    arguments = ("-m", SMOLLM2, "-c", CONTEXT, "--chat-template", template, "-r", "Question:", "--temp", 0, "-n", 60)
    with Server(RUNTIME, *arguments, folder=tmp_path) as server:
        page, watch = open_page(chrome, server)
        expect(page.locator("body[data-state=ready]")).to_be_visible(timeout=ANSWER_MS)
        ask(page, "What is the capital of France?")
        answer = last_answer(page)
        thoughts = answer.locator("details.thoughts")
        expect(answer.locator("> .body")).to_have_text("The capital of France is Paris.")
        expect(thoughts.locator("summary")).to_have_text(re.compile(r"^Thought for \d+ s$"))
        expect(thoughts.locator(".body")).to_be_hidden()
        expect(page.locator("#live")).to_contain_text("Thinking…")
        expect(page.locator("#live")).to_contain_text("Paris")
        expect(page.locator("#live")).not_to_contain_text("I know it")
        thoughts.locator("summary").press("Enter")
        expect(thoughts.locator(".body")).to_have_text("The user asks for a capital. I know it.")
        expect(thoughts.locator(".body")).to_be_visible()
        page.reload()
        expect(last_answer(page).locator("> .body")).to_have_text("The capital of France is Paris.")
        thoughts = last_answer(page).locator("details.thoughts")
        expect(thoughts.locator(".body")).to_be_hidden()
        thoughts.locator("summary").click()
        expect(thoughts.locator(".body p")).to_have_text("The user asks for a capital. I know it.")
        with page.expect_request("**/v1/chat/completions") as sent:
            ask(page, "What is the capital of Germany?")
        history = sent.value.post_data_json["messages"]
        assert history[1]["reasoning_content"] == "The user asks for a capital. I know it."
        expect(last_answer(page).locator("> .body")).to_contain_text("Berlin")
        page.locator("#settings-open").click()
        page.get_by_label("Thinking").select_option("Answer at once")
        page.locator("#settings-save").click()
        with page.expect_request("**/v1/chat/completions") as sent:
            ask(page, "What is the capital of Italy?")
        assert sent.value.post_data_json["enable_thinking"] is False
        expect(last_answer(page).locator("details.thoughts")).to_have_count(0)
        page.locator("#settings-open").click()
        page.locator("#f-thinking").select_option("auto")
        page.locator("#settings-save").click()
        with page.expect_request("**/v1/chat/completions") as sent:
            ask(page, "What is the capital of France?")
        assert "enable_thinking" not in sent.value.post_data_json
        page.locator("#settings-open").click()
        page.locator("#language").select_option("es")
        page.locator("#settings [data-close]").first.click()
        expect(last_answer(page).locator("summary")).to_have_text(re.compile(r"^Pensó \d+ s$"))
        page.context.close()
        assert watch.foreign == []
        assert watch.complaints == []


def test_enter_sends_and_shift_enter_breaks_the_line(page):
    composer = page.locator("#composer")
    composer.press_sequentially("one")
    composer.press("Shift+Enter")
    composer.press_sequentially("two")
    composer.press("Enter")
    expect(page.locator(".message.user .body")).to_have_text("one\ntwo", use_inner_text=True)
    answered(page)
    expect(composer).to_have_value("")


def test_stop_ends_the_answer_and_the_work_behind_it(page, server):
    page.locator("#settings-open").click()
    page.locator("#f-max_tokens").fill("1500")
    page.locator("#settings-save").click()
    ask(page, "Write a long story about a candle that travels around the world, with many chapters.", wait=False)
    expect(last_answer(page).locator(".body")).not_to_be_empty(timeout=ANSWER_MS)
    page.locator("#stop").click()
    expect(last_answer(page)).to_have_attribute("data-status", "aborted")
    answered(page)
    assert server.busy(0.5) < 0.5, "the server works on"
    # By now what had arrived is drawn.
    text = last_answer(page).locator(".body").inner_text()
    assert text.strip()
    page.wait_for_timeout(500)
    assert last_answer(page).locator(".body").inner_text() == text


def test_reload_keeps_the_conversation_and_draws_it_the_same(page):
    ask(page, "What is the capital of France?")
    before = page.locator("#messages").inner_text()
    page.reload()
    answered(page)
    expect(page.locator(".message")).to_have_count(2)
    expect(last_answer(page).locator(".body > .block")).not_to_have_count(0)  # stored text first, then drawn
    assert page.locator("#messages").inner_text() == before
    ask(page, "And of Spain?")
    expect(page.locator(".message")).to_have_count(4)


def test_regenerate_replaces_the_last_answer(page):
    ask(page, "What is the capital of France?")
    first = last_answer(page).locator(".body").inner_text()
    last_answer(page).evaluate("message => message.classList.add('first')")
    last_answer(page).hover()
    last_answer(page).locator("[data-action=regenerate]").click()
    expect(page.locator(".message.first")).to_have_count(0)  # so short an answer may be over before it is looked for
    answered(page)
    expect(page.locator(".message")).to_have_count(2)
    assert last_answer(page).locator(".body").inner_text() == first, "greedy: the same question, the same answer"


def test_edit_replaces_what_follows(page):
    ask(page, "What is the capital of France?")
    ask(page, "And what is it known for?")
    page.locator(".message.user").first.hover()
    page.locator("[data-action=edit]").first.click()
    page.locator(".editor textarea").fill("What is the capital of Italy?")
    page.locator(".editor [type=submit]").click()
    answered(page)
    expect(page.locator(".message")).to_have_count(2)
    expect(page.locator(".message.user .body")).to_have_text("What is the capital of Italy?")
    expect(last_answer(page).locator(".body")).to_contain_text("Rome")


def test_conversations_are_listed_switched_and_deleted(page):
    ask(page, "What is the capital of France?")
    page.locator("#new-chat").click()
    expect(page.locator(".message")).to_have_count(0)
    ask(page, "Name a colour.")
    expect(page.locator("#conversations li")).to_have_count(2)
    page.locator("#conversations .open").nth(1).click()
    expect(page.locator(".message.user .body")).to_have_text("What is the capital of France?")
    page.locator("#conversations .current").hover()
    page.locator("#conversations .current [data-action=delete]").click()
    page.locator("#ask-ok").click()
    expect(page.locator("#conversations li")).to_have_count(1)
    page.reload()
    expect(page.locator("#conversations li")).to_have_count(1)


def test_the_page_speaks_spanish(page):
    page.locator("#settings-open").click()
    page.locator("#language").select_option("es")
    page.keyboard.press("Escape")
    expect(page.locator("html")).to_have_attribute("lang", "es")
    expect(page.locator("#new-chat")).to_contain_text("Nueva conversación")
    page.reload()
    expect(page.locator("#new-chat")).to_contain_text("Nueva conversación")
    ask(page, "¿Cuál es la capital de España?")
    expect(last_answer(page).locator(".body")).not_to_be_empty()


def test_a_spanish_browser_is_greeted_in_spanish(chrome, server):
    page, watch = open_page(chrome, server, locale="es-ES")
    expect(page.locator("html")).to_have_attribute("lang", "es")
    page.context.close()
    assert watch.foreign == [] and watch.complaints == []


def test_the_bundle_names_itself_and_its_system_prompt_is_sent(page):
    expect(page.locator("#empty-title")).to_have_text("Test Tea")
    ask(page, "Hi")
    sent = [r for r in page.watch.requests if r.url.endswith("/v1/chat/completions")]
    messages = json.loads(sent[-1].post_data)["messages"]
    assert messages[0] == {"role": "system", "content": SYSTEM}


def conversation(*messages: tuple[str, str], title: str = "imported") -> dict:
    return {
        "format": "tealight-chats",
        "version": 1,
        "conversations": [
            {"title": title, "messages": [{"role": role, "content": text, "meta": {"finish": "stop"}} for role, text in messages]}
        ],
    }


def import_chat(page: Page, chat: dict, title: str = "imported") -> None:
    page.locator("#import-file").set_input_files(
        {"name": "chat.json", "mimeType": "application/json", "buffer": json.dumps(chat).encode()}
    )
    page.locator("#conversations .open", has_text=title).first.click()


RICH = """## Candles

**Bold**, *slanted* and `code`.

| a | b |
|---|--:|
| 1 | 2 |

```python
print("tea")
```

$E = mc^2$

- one
- two
"""

HOSTILE = """<img src=https://evil.example/a.png onerror="document.title='pwned'">

<script>document.title='pwned'</script>

![picture](https://evil.example/b.png)

![local](/health)

[click](javascript:document.title='pwned') [data](data:text/html,<script>1</script>) [file](file:///etc/passwd)

[fine](https://example.org/page) <mailto:someone@example.org>

<iframe src="https://evil.example/c"></iframe><svg onload="document.title='pwned'"></svg>

<style>@import url(https://evil.example/d.css); body { display: none }</style>

<link rel=stylesheet href=https://evil.example/e.css> <form action=https://evil.example/f><input name=q><button>go</button></form>

```<img src=https://evil.example/g onerror=x>
<script>document.title='pwned'</script>
```

$\\href{javascript:document.title='pwned'}{x} \\includegraphics{https://evil.example/h.png}$

<a href="https://evil.example/i" ping="https://evil.example/j">raw</a> <base href="https://evil.example/">
"""


def test_markdown_is_drawn(page):
    import_chat(page, conversation(("user", "Draw."), ("assistant", RICH)))
    body = last_answer(page).locator(".body")
    expect(body.get_by_role("heading", name="Candles")).to_be_visible()
    expect(body.locator("strong")).to_have_text("Bold")
    expect(body.locator("table td")).to_have_count(2)
    expect(body.locator(".codeblock code")).to_contain_text('print("tea")')
    expect(body.locator(".codeblock [class*=hl-]").first).to_be_visible()
    expect(body.locator("math").first).to_be_visible()
    expect(body.locator("li")).to_have_count(2)


def test_markdown_loads_nothing_and_runs_nothing(page, server):
    page.watch.requests.clear()
    import_chat(page, conversation(("user", "Attack."), ("assistant", HOSTILE)))
    body = last_answer(page).locator(".body")
    expect(body).to_contain_text("fine")
    page.wait_for_timeout(700)
    assert page.title() != "pwned"
    for selector in ("script", "img", "iframe", "svg", "style", "link", "form", "base", "object", "button[name]", "[onerror]", "[onload]", "[ping]", "[style]"):
        # The page's own copy buttons have icons; what comes from the model has none.
        assert body.locator(f":scope {selector}:not(figcaption *)").count() == 0, selector
    links = body.locator("a[href]")
    hrefs = [links.nth(i).get_attribute("href") for i in range(links.count())]
    assert "https://example.org/page" in hrefs
    assert all(href.startswith(("http://", "https://", "mailto:")) for href in hrefs), hrefs
    for i in range(links.count()):
        assert "noopener" in links.nth(i).get_attribute("rel") and links.nth(i).get_attribute("target") == "_blank"
    paths = {request.url.removeprefix(server.url) for request in page.watch.requests}
    assert paths <= {"/render", "/health", "/props", "/favicon.svg"} and "/health" not in {
        request.url.removeprefix(server.url) for request in page.watch.requests if request.resource_type == "image"
    }, paths
    expect(page.locator("body")).to_be_visible()


def test_a_hostile_title_and_user_message_stay_text(page):
    evil = "<img src=x onerror=\"document.title='pwned'\"><b>bold</b>"
    import_chat(page, conversation(("user", evil), ("assistant", "ok"), title=evil), title="bold")
    expect(page.locator(".message.user .body")).to_have_text(evil)
    assert page.locator("#conversations img, #title img, .message.user img").count() == 0
    assert page.title() != "pwned"


def test_export_and_import_give_the_conversation_back(page):
    ask(page, "What is the capital of France?")
    with page.expect_download() as download:
        page.locator("#export-all").click()
    chats = json.loads(open(download.value.path(), "rb").read())
    assert chats["format"] == "tealight-chats"
    assert [m["role"] for m in chats["conversations"][0]["messages"]] == ["user", "assistant"]
    page.locator("#import-file").set_input_files(download.value.path())
    expect(page.locator("#conversations li")).to_have_count(2)


COMPOSING_ENTER = """(el) => el.dispatchEvent(new KeyboardEvent('keydown',
    {key: 'Enter', keyCode: 229, which: 229, bubbles: true, cancelable: true}))"""


def test_enter_that_ends_a_composed_word_sends_nothing(page):
    """Safari says by the key code alone that an input method took it."""
    page.locator("#composer").fill("Name a colour.")
    assert page.locator("#composer").evaluate(COMPOSING_ENTER), "the browser may do what it does"
    assert page.locator(".message").count() == 0
    page.locator("#composer").press("Enter")
    answered(page)
    page.locator(".message.user").hover()
    page.locator("[data-action=edit]").click()
    page.locator(".editor textarea").fill("にほんご")
    page.locator(".editor textarea").evaluate(COMPOSING_ENTER)
    expect(page.locator(".message.user .body")).to_have_text("Name a colour.")
    expect(page.locator(".editor")).to_be_visible()
    page.locator(".editor textarea").press("Escape")
    page.locator("#conversations .current [data-action=rename]").click()
    assert not page.locator("#ask-input").evaluate(COMPOSING_ENTER), "else the form would be sent"
    expect(page.locator("#ask")).to_be_visible()


def test_titles_are_cut_by_whole_characters_and_turn_nothing_around(page):
    family = "👩\u200d👩\u200d👧"
    ask(page, "a" * 47 + family + "b" * 10)
    expect(page.locator("#title")).to_have_text("a" * 47 + family + "…")
    page.locator("#conversations .current [data-action=rename]").click()
    page.locator("#ask-input").fill("safe\u202efdp.exe \u05d0\u05d1")
    page.locator("#ask-ok").click()
    expect(page.locator("#title")).to_have_text("safefdp.exe \u05d0\u05d1")
    assert page.title() == "\u2068safefdp.exe \u05d0\u05d1\u2069 · tealight"
    label = page.locator("#conversations .current [data-action=delete]").get_attribute("aria-label")
    assert label == "Delete: \u2068safefdp.exe \u05d0\u05d1\u2069"
    for isolated in ("#title", "#conversations .open span"):
        assert page.locator(isolated).evaluate("el => getComputedStyle(el).unicodeBidi") == "isolate"


def test_halves_of_characters_in_an_import_are_repaired(page):
    chat = conversation(("user", "half \ud83d"), ("assistant", "\ude00 half"), title="imported\udc00" + "x" * 500)
    import_chat(page, chat)
    expect(page.locator(".message.user .body")).to_have_text("half \ufffd")
    with page.expect_download() as download:
        page.locator("#export-all").click()
    text = open(download.value.path(), encoding="utf-8").read()
    assert "\\ud" not in text
    (kept,) = json.loads(text)["conversations"]
    assert (kept["messages"][1]["content"], kept["title"][:9], len(kept["title"])) == ("\ufffd half", "imported\ufffd", 200)


def test_headings_go_down_one_level_at_a_time(page):
    import_chat(page, conversation(("user", "Draw."), ("assistant", "### A\n\n# B\n\n##### C\n\n- [x] text\n\n###### D")))
    expect(last_answer(page).get_by_role("heading", name="D")).to_be_visible()
    seen = page.evaluate("""[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].filter((h) => h.checkVisibility()).map((h) => +h.tagName[1])""")
    assert seen == [1, 2, 2, 3, 3, 4, 5], seen
    assert page.get_by_role("checkbox", name="Task").is_checked()


def test_the_address_of_another_conversation_shows_it(page):
    import_chat(page, conversation(("user", "first"), ("assistant", "1"), title="one"), "one")
    expect(page).to_have_url(re.compile("#c="))
    first = page.url
    import_chat(page, conversation(("user", "second"), ("assistant", "2"), title="two"), "two")
    expect(page).not_to_have_url(first)
    page.evaluate("(url) => { location.href = url; }", first)
    expect(page.locator(".message.user .body")).to_have_text("first")
    page.evaluate("() => { location.hash = '#c=nosuchone'; }")
    expect(page).to_have_url(first)
    expect(page.locator(".message.user .body")).to_have_text("first")


def two_tabs(page):
    ask(page, "Name a colour.")
    other = page.context.new_page()
    other.goto(page.url)
    answered(other)
    expect(other.locator(".message")).to_have_count(2)
    return other


def kept_messages(page) -> list[str]:
    """What is said, by whom, after a reload."""
    page.reload()
    answered(page)
    page.wait_for_timeout(300)
    return page.locator(".message").evaluate_all("all => all.map((m) => [m.dataset.status ?? 'user', m.querySelector('.body').innerText])")


def test_two_tabs_with_one_conversation_lose_nothing(page):
    other = two_tabs(page)
    ask(page, "Tell me of the sea.", wait=False)
    ask(other, "Tell me of the hills.", wait=False)
    answered(page), answered(other)
    page.wait_for_timeout(500)
    for tab in (page, other):
        kept = kept_messages(tab)
        assert [text for status, text in kept if status == "user"] == ["Name a colour.", "Tell me of the sea.", "Tell me of the hills."]
        assert {status for status, _ in kept} <= {"user", "stop", "length"}, kept
        assert len(kept) == 6 and all(text for _, text in kept), kept
    # What is deleted or renamed in one is so in the other, and what the other says then is not lost by it.
    other.locator(".message.user").nth(1).hover()
    other.locator("[data-action=edit]").nth(1).click()
    other.locator(".editor textarea").fill("Name a fruit.")
    other.locator(".editor [type=submit]").click()
    expect(page.locator(".message.user .body")).to_have_text(["Name a colour.", "Name a fruit."])
    answered(other)
    expect(last_answer(page)).not_to_have_attribute("data-status", "partial")
    other.locator("#conversations .current").hover()
    other.locator("#conversations .current [data-action=delete]").click()
    other.locator("#ask-ok").click()
    expect(page.locator(".message")).to_have_count(0)


MERGE = """async () => {
    const { merge, seen } = await import('./merge.js');
    const m = (id, content = id) => ({ id, role: /^q/.test(id) ? 'user' : 'assistant', content, meta: {} });
    const c = (text, title = 't') => ({ title, settings: {}, updated: 1, messages: text.split(' ').filter(Boolean).map((id) => m(id)) });
    const ids = (made) => made && made.messages.map(({ id }) => id).join(' ');
    const of = (base, mine, stored) => ids(merge(base === null ? undefined : seen(c(base)), c(mine), stored === null ? undefined : c(stored), () => false));
    const own = merge(seen(c('q a')), { ...c('q'), messages: [m('q'), m('a', 'longer')] }, c('q a'), (id) => id === 'a');
    return [
        of('q a', 'q a q3 a3', 'q a q2 a2'), of('q a', 'q b', 'q a q2 a2'), of('q a', 'q a', 'q'), of('q a', 'q a n', ''),
        of('q a', 'q a', null), of('q a', 'q a n', null), of(null, 'q', null), of(null, 'q', 'x'),
        merge(seen(c('q', 'old')), c('q', 'old'), c('q', 'new'), () => false).title, merge(seen(c('q', 'old')), c('q', 'mine'), c('q', 'new'), () => false).title,
        own.messages[1].content,
    ];
}"""


def test_conversations_are_merged_by_message(page):
    assert page.evaluate(MERGE) == [
        "q a q2 a2 q3 a3", "q b q2 a2", "q", "n", None, "q a n", "q", "x q", "new", "mine", "longer",
    ]


def test_long_code_is_drawn_soon_and_as_one(page):
    code = "".join(f"    let number_{i} = {i};\n" for i in range(16_000))
    chat = conversation(("user", "Code."), ("assistant", f"```rust\n{code}```\n\nend"))
    with page.expect_response("**/render"):
        import_chat(page, chat)
        page.evaluate("() => { window.clicked = performance.now(); }")
    body = last_answer(page).locator(".body")
    expect(body.locator("p", has_text="end")).to_be_attached()
    took = page.evaluate("performance.now() - window.clicked")
    assert took < 4_000, f"{took} ms"  # alone on its computer it is well below one second
    assert body.locator("figure.codeblock").count() == body.locator("pre").count() == 1
    assert body.locator("code").text_content() == code
    before = page.evaluate("performance.now()")
    page.evaluate("document.querySelector('#scroller').scrollTop = 1e6; document.body.offsetHeight")
    assert page.evaluate("performance.now()") - before < 2_000


def test_what_does_not_fit_the_context_is_said_in_the_page(page):
    ask(page, "word " * (CONTEXT + 50))
    answer = last_answer(page)
    expect(answer).to_have_attribute("data-status", "error")
    notice = answer.locator(".notice")
    expect(notice).to_be_visible()
    expect(notice).to_contain_text(re.compile(r"2[,.\s\u202f]?048"))
    ask(page, "What is the capital of France?")
    expect(last_answer(page).locator(".body")).to_contain_text("Paris")


def test_the_system_prompt_and_sampling_can_be_set(page):
    page.locator("#settings-open").click()
    expect(page.locator("#f-thinking")).to_be_hidden()  # this model doesn't think
    page.locator("#f-system").fill("Answer in one word.")
    page.locator("#f-temperature").fill("0.3")
    page.locator("#f-max_tokens").fill("5")
    page.locator("#settings-save").click()
    ask(page, "What is the capital of France?")
    sent = [r for r in page.watch.requests if r.url.endswith("/v1/chat/completions")]
    body = json.loads(sent[-1].post_data)
    assert body["messages"][0]["content"] == "Answer in one word."
    assert (body["temperature"], body["max_tokens"]) == (0.3, 5)


def test_an_answer_is_announced_to_screen_readers(page):
    ask(page, "What is the capital of France?")
    expect(page.locator("#live[aria-live=polite]")).to_contain_text("Paris")
    for selector in ("#composer", "#send", "#settings-open", "#menu"):
        assert page.locator(selector).get_attribute("aria-label"), selector


def test_the_keyboard_reaches_everything(page):
    page.locator("#composer").focus()
    page.keyboard.type("What is the capital of France?")
    page.keyboard.press("Enter")
    answered(page)
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.dataset.action || document.activeElement.tagName"))
    assert {"composer", "new-chat", "settings-open", "copy", "regenerate"} <= seen, seen


def test_the_page_loads_nothing_but_itself(chrome, server):
    page, watch = open_page(chrome, server)
    answered(page)
    paths = {request.url.removeprefix(server.url) for request in watch.requests}
    assert watch.foreign == [] and watch.complaints == []
    assert all(re.fullmatch(r"/|/[\w-]+\.(js|css|svg)|/health|/props|/chats", path) for path in paths), paths
    assert sum(len(server.get(path).body) for path in paths if "." in path or path == "/") < 250_000
    page.context.close()


def test_without_weights_the_page_says_how_to_get_some(chrome, tmp_path, start):
    program = link(RUNTIME, tmp_path / "alone")
    server = start(program, ready=503)
    page, watch = open_page(chrome, server)
    expect(page.locator("body[data-state=no-weights]")).to_be_visible()
    expect(page.locator("#no-weights")).to_contain_text("--weights")
    page.context.close()
    assert watch.foreign == [] and watch.complaints == []


def test_the_page_says_when_the_program_has_ended_and_comes_back_with_it(chrome, bundle, tmp_path):
    server = Server(bundle, "-c", "512", folder=tmp_path)
    page, watch = open_page(chrome, server)
    expect(page.locator("body[data-state=ready]")).to_be_visible()
    server.stop()
    expect(page.locator("body[data-state=offline]")).to_be_visible(timeout=15_000)
    with Server(bundle, "-c", "512", folder=tmp_path, port=server.port):
        expect(page.locator("body[data-state=ready]")).to_be_visible(timeout=15_000)
        page.context.close()
    assert watch.foreign == []


def test_a_key_is_asked_for_once_and_used(chrome, bundle, start):
    server = start(bundle, "-c", "512", "--api-key", "sesame")
    page, watch = open_page(chrome, server)
    page.locator("#ask-input").fill("sesame")
    page.locator("#ask-ok").click()
    expect(page.locator("body[data-state=ready]")).to_be_visible()
    page.locator("#composer").fill("What is the capital of France?")
    page.locator("#send").click()
    expect(last_answer(page).locator(".body")).not_to_be_empty(timeout=ANSWER_MS)
    page.context.close()
    assert watch.foreign == []


def test_looks(chrome, server, tmp_path_factory):
    """Pictures for people to look at: wide and light, narrow and dark. Only that nothing sticks out is checked."""
    folder = tmp_path_factory.mktemp("screenshots")
    for name, width, height, scheme in (("wide-light", 1280, 800, "light"), ("narrow-dark", 390, 844, "dark")):
        page, watch = open_page(chrome, server, viewport={"width": width, "height": height}, color_scheme=scheme)
        answered(page)

        def picture(what=""):
            page.wait_for_timeout(500)  # what slides and fades has arrived
            page.screenshot(path=folder / f"{name}{what}.png")

        picture("-empty")
        if name.startswith("narrow"):
            page.locator("#menu").click()
            picture("-list")
        import_chat(page, conversation(("user", "How does a candle burn?"), ("assistant", RICH)))
        expect(last_answer(page).locator("math").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name}: wider than the screen"
        picture()
        page.context.close()
        assert watch.foreign == [] and watch.complaints == []
    print(f"screenshots are in {folder}")
