//! The server on a mock engine: routes, fields, conversations and streams, without sockets.

use super::http::{Collected, Handler as _, Request, collect};
use super::routes::Routes;
use super::*;
use crate::engine::LoadOptions;
use crate::engine::mock::{ASK, Mock, Says, engine};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// A server whose model answers `says`.
struct Server {
    routes: Routes,
    engine: Arc<Engine>,
}

fn state(config: Config) -> State {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    State::new(config, Page::new(None, None).unwrap(), None, None, &listener)
}

impl Server {
    fn new(says: &str) -> Self {
        let options = LoadOptions { context: 400, ..LoadOptions::default() };
        let mock = Mock::new(Says::Answer(says.as_bytes().to_vec()));
        Self::with(mock, &options, |_| {})
    }

    fn with(mock: Mock, options: &LoadOptions, change: fn(&mut Config)) -> Self {
        let mut config = Config::built_in().clone();
        config.quiet = true;
        change(&mut config);
        let (state, engine) = (state(config), Arc::new(engine(mock, options)));
        state.set_model(ModelState::Ready(Arc::clone(&engine)));
        Self { routes: Routes(Arc::new(state)), engine }
    }

    /// Asks as HTTP does: first whether it may.
    fn ask(&self, request: &Request, stay: &mut dyn FnMut(&str) -> bool) -> Collected {
        let refusal = self.routes.admit(request);
        collect(
            |reply| match refusal {
                Some(refusal) => reply.send(refusal).unwrap(),
                None => self.routes.answer(request, reply),
            },
            stay,
        )
    }

    fn get(&self, target: &str) -> Collected {
        self.ask(&Request::to("GET", target, &[], ""), &mut |_| true)
    }

    fn post(&self, target: &str, body: &Value) -> Collected {
        self.ask(&Request::to("POST", target, &[], &body.to_string()), &mut |_| true)
    }

    /// The answer's JSON.
    fn json(&self, target: &str, body: &Value) -> Value {
        let answer = self.post(target, body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// The events of a stream.
    fn events(&self, target: &str, body: &Value) -> Vec<Value> {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let answer = self.post(target, &body);
        assert!(answer.status == 200 && answer.ended, "{answer:?}");
        answer.events()
    }
}

impl Collected {
    fn json(&self) -> Value {
        serde_json::from_str(&self.parts.concat()).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    fn error(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    fn events(&self) -> Vec<Value> {
        let (last, events) = self.parts.split_last().unwrap();
        assert_eq!(last, "data: [DONE]\n\n");
        let event = |part: &String| part.strip_prefix("data: ").unwrap().trim_end().to_owned();
        events.iter().map(|part| serde_json::from_str(&event(part)).unwrap()).collect()
    }
}

fn hello() -> Value {
    json!({ "messages": [{ "role": "user", "content": "Hello" }], "temperature": 0 })
}

/// `hello` with these fields as well.
fn with(fields: &Value) -> Value {
    let mut body = hello();
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

#[test]
fn each_path_has_its_methods() {
    let server = Server::new("Hi.");
    let status = |method: &str, target: &str| {
        let answer = server.ask(&Request::to(method, target, &[], "{}"), &mut |_| true);
        (answer.status, answer.header("allow").map(str::to_owned))
    };
    for path in [
        "/",
        "/chat.js",
        "/health",
        "/v1/health",
        "/v1/models",
        "/models",
        "/props",
        "/slots",
        "/metrics",
        "/v1/models/mock",
    ] {
        assert_eq!(status("GET", path).0, 200, "{path}");
        assert_eq!(status("HEAD", path).0, 200, "{path}");
    }
    for path in ["/v1/models", "/props", "/slots", "/metrics"] {
        assert_eq!(status("POST", path), (405, Some("GET".to_owned())), "{path}");
    }
    for path in [
        "/v1/chat/completions",
        "/completions",
        "/tokenize",
        "/v1/embeddings",
        "/render",
        "/slots/0",
    ] {
        assert_eq!(status("GET", path), (405, Some("POST".to_owned())), "{path}");
    }
    for path in ["/v1", "/v2/models", "/nothing", "/v1/models/other", "/slots/x", "/../Cargo.toml"]
    {
        assert_eq!(status("GET", path).0, 404, "{path}");
    }
    assert_eq!(status("GET", "/chats").0, 204);
    assert_eq!(status("DELETE", "/v1/models").0, 405);
}

#[test]
fn who_may_ask_is_decided_before_anything_else() {
    let options = LoadOptions { context: 400, ..LoadOptions::default() };
    let mock = || Mock::new(Says::text(""));
    let keyed = Server::with(mock(), &options, |config| config.api_keys = vec!["sesame".into()]);
    let status = |headers: &[(&'static str, &str)], path: &str| {
        keyed.ask(&Request::to("GET", path, headers, ""), &mut |_| true).status
    };
    assert_eq!(status(&[], "/v1/models"), 401);
    assert_eq!(status(&[], "/health"), 200);
    assert_eq!(status(&[], "/"), 200);
    assert_eq!(status(&[("authorization", "Bearer sesame")], "/v1/models"), 200);
    assert_eq!(status(&[("x-api-key", "sesame")], "/v1/models"), 200);
    assert_eq!(status(&[("authorization", "Bearer open")], "/v1/models"), 401);
    assert_eq!(status(&[("host", "evil.example")], "/"), 403);
    assert_eq!(status(&[("origin", "http://evil.example")], "/health"), 403);
    let below = Server::with(mock(), &options, |config| config.prefix = "/tea".into());
    assert_eq!(below.get("/tea/health").status, 200);
    assert_eq!(below.get("/tea").header("location"), Some("/tea/"));
    assert_eq!((below.get("/health").status, below.get("/teapot").status), (404, 404));
}

#[test]
fn without_a_model_it_says_what_is_missing() {
    let state = Arc::new(state(Config::built_in().clone()));
    let ask = |path: &str| {
        let request = Request::to("GET", path, &[], "");
        collect(|reply| Routes(Arc::clone(&state)).answer(&request, reply), &mut |_| true)
    };
    assert_eq!((ask("/health").status, ask("/health").header("retry-after")), (503, Some("1")));
    assert_eq!(ask("/").status, 200);
    state.set_model(ModelState::Missing("get one".to_owned()));
    assert_eq!((ask("/v1/models").status, ask("/v1/models").error().as_str()), (503, "get one"));
    state.set_model(ModelState::Failed("torn".to_owned()));
    assert!(ask("/props").error().ends_with("torn"));
}

#[test]
fn a_chat_is_answered_whole_and_in_pieces() {
    let server = Server::new("Good day to you.");
    let whole = server.json("/v1/chat/completions", &hello());
    let choice = &whole["choices"][0];
    assert_eq!(choice["message"]["content"], "Good day to you.");
    assert_eq!(
        (&choice["finish_reason"], &whole["object"]),
        (&json!("stop"), &json!("chat.completion"))
    );
    // "user: Hello\n" and the byte that asks.
    assert_eq!(whole["usage"]["prompt_tokens"], 13);
    assert_eq!(whole["usage"]["completion_tokens"], 17);
    let events = server.events(
        "/v1/chat/completions",
        &with(&json!({ "stream_options": { "include_usage": true } })),
    );
    assert_eq!(events[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    let text =
        |event: &Value| event["choices"][0]["delta"]["content"].as_str().unwrap_or("").to_owned();
    assert_eq!(events.iter().map(text).collect::<String>(), "Good day to you.");
    let [.., last, usage] = &events[..] else { panic!() };
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(17)));
    assert!(
        events
            .iter()
            .all(|event| event["id"] == events[0]["id"]
                && event["object"] == "chat.completion.chunk")
    );
    let cut = server.json("/v1/chat/completions", &with(&json!({ "max_tokens": 4 })));
    assert_eq!(
        (&cut["choices"][0]["message"]["content"], &cut["choices"][0]["finish_reason"]),
        (&json!("Good"), &json!("length"))
    );
    let stopped = server.json("/v1/chat/completions", &with(&json!({ "stop": [" to"] })));
    assert_eq!(stopped["choices"][0]["message"]["content"], "Good day");
    let two = server.json("/v1/chat/completions", &with(&json!({ "n": 2 })));
    assert_eq!(
        (&two["choices"][1]["message"]["content"], &two["choices"][1]["index"]),
        (&json!("Good day to you."), &json!(1))
    );
    let events = server.events("/v1/chat/completions", &with(&json!({ "n": 2, "max_tokens": 3 })));
    for index in 0..2 {
        let of = events.iter().filter(|event| event["choices"][0]["index"] == index);
        assert_eq!(of.map(text).collect::<String>(), "Goo");
    }
}

#[test]
fn log_probabilities_and_progress_come_with_the_pieces() {
    let server = Server::new("abc");
    let asked = with(&json!({ "logprobs": true, "top_logprobs": 2, "return_progress": true }));
    let whole = server.json("/v1/chat/completions", &asked);
    let content = whole["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let tokens: Vec<&str> = content.iter().map(|t| t["token"].as_str().unwrap()).collect();
    assert_eq!((tokens, &content[0]["bytes"]), (vec!["a", "b", "c"], &json!([97])));
    assert!(content.iter().all(|t| t["top_logprobs"].as_array().unwrap().len() == 2));
    let mut another = asked.clone();
    another["messages"][0]["content"] = json!("Hello!");
    let events = server.events("/v1/chat/completions", &another);
    let mut progress = events.iter().filter(|event| event.get("prompt_progress").is_some());
    assert_eq!(progress.next_back().unwrap()["prompt_progress"]["processed"], 14);
    let in_pieces = events.iter().filter_map(|e| e["choices"][0]["logprobs"]["content"].as_array());
    assert_eq!(in_pieces.flatten().collect::<Vec<_>>(), content.iter().collect::<Vec<_>>());
    let text = json!({ "prompt": "Say it\u{2}", "logprobs": 1, "echo": true, "max_tokens": 2, "temperature": 0 });
    let echoed = server.json("/v1/completions", &text);
    assert_eq!(echoed["choices"][0]["text"], "Say it\u{2}ab");
    assert_eq!(echoed["choices"][0]["logprobs"]["text_offset"], json!([0, 1, 2, 3, 4, 5, 6, 7, 8]));
    assert_eq!(echoed["choices"][0]["logprobs"]["token_logprobs"][0], Value::Null);
}

#[test]
fn prompts_may_be_texts_ids_and_both() {
    let server = Server::new("yes");
    let text = |prompt: Value| {
        let body = json!({ "prompt": prompt, "temperature": 0, "max_tokens": 3 });
        let choices = server.json("/v1/completions", &body)["choices"].take();
        choices
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["text"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(text(json!("a\u{2}")), ["yes"]);
    assert_eq!(text(json!([97, ASK])), ["yes"]);
    assert_eq!(text(json!(["a", 98, "c\u{2}", ASK])), ["yes"]);
    assert_eq!(text(json!([[97, ASK], "b\u{2}", ["c", ASK]])), ["yes", "yes", "yes"]);
    let refused = |body: Value| {
        let answer = server.post("/v1/completions", &body);
        assert_eq!(answer.status, 400, "{answer:?}");
        answer.error()
    };
    for (prompt, found) in [
        (json!([97, 256]), "256"),
        (json!([97, -1]), "-1"),
        (json!([1.5]), "1.5"),
        (json!({ "a": 1 }), "{\"a\":1}"),
        (json!([]), "an array of 0 prompts"),
        (json!([[[97]]]), "[97]"),
        (json!(["x", null]), "null"),
    ] {
        let error = refused(json!({ "prompt": prompt }));
        assert!(error.starts_with(&format!("`prompt`: found {found}, expected ")), "{error}");
    }
    assert!(refused(json!({})).starts_with("`prompt`: found nothing"));
    assert!(refused(json!({ "prompt": [[97], []] })).contains("empty"));
    let many = server.post("/v1/completions", &json!({ "prompt": vec!["a"; 2048], "n": 8 }));
    assert!(many.status == 400 && many.error().starts_with("found 16384 answers"), "{many:?}");
    let long = server.post("/v1/completions", &json!({ "prompt": "x".repeat(500) }));
    assert_eq!((long.status, &long.json()["error"]["n_ctx"]), (400, &json!(400)));
}

#[test]
fn fields_are_checked_named_and_renamed() {
    let server = Server::new("Hi.");
    let path = "/v1/chat/completions";
    for (fields, param) in [
        (json!({ "temperature": "hot" }), "temperature"),
        (json!({ "max_tokens": -5 }), "max_tokens"),
        (json!({ "num_predict": "all" }), "num_predict"),
        (json!({ "n": 100 }), "n"),
        (json!({ "top_logprobs": 3 }), "top_logprobs"),
        (json!({ "stream": "yes" }), "stream"),
        (json!({ "stop": [1] }), "stop"),
        (json!({ "messages": "Hello" }), "messages"),
        (json!({ "messages": [{ "content": "no role" }] }), "messages[0].role"),
        (json!({ "messages": [{ "role": "user", "content": 5 }] }), "messages[0].content"),
        (json!({ "tools": [{ "type": "other" }] }), "tools[0].type"),
        (json!({ "tool_choice": "sometimes" }), "tool_choice"),
        (json!({ "response_format": { "type": "xml" } }), "response_format"),
        (json!({ "grammar": "root ::=" , "regex": "a" }), "regex"),
        (json!({ "modalities": ["audio"] }), "modalities"),
        (json!({ "chat_template_kwargs": { "messages": [] } }), "chat_template_kwargs"),
    ] {
        let answer = server.post(path, &with(&fields));
        assert_eq!(
            (answer.status, &answer.json()["error"]["param"]),
            (400, &json!(param)),
            "{fields} {answer:?}"
        );
        // A stream that has not begun fails alike.
        let mut streamed = with(&fields);
        if fields.get("stream").is_none() {
            streamed["stream"] = json!(true);
            assert_eq!(server.post(path, &streamed).json()["error"]["param"], param);
        }
    }
    let odd =
        server.post(path, &with(&json!({ "temprature": 1, "num_predict": 2, "max_tokens": 1 })));
    assert_eq!(odd.header("x-ignored-fields"), Some("temprature, num_predict"));
    assert_eq!(odd.json()["usage"]["completion_tokens"], 1);
    for body in ["", "[]", "5", "null", "{", "{\"messages\": \"\\ud800\"}", "{} x"] {
        let answer = server.ask(&Request::to("POST", path, &[], body), &mut |_| true);
        assert_eq!(answer.status, 400, "{body}");
    }
    assert_eq!(
        server.ask(&Request::to("POST", path, &[], "[]"), &mut |_| true).error(),
        "the body is an array, expected a JSON object"
    );
    let options = LoadOptions { context: 400, ..LoadOptions::default() };
    let strict = Server::with(Mock::new(Says::text("")), &options, |config| config.strict = true);
    let refused = strict.post(path, &with(&json!({ "temprature": 1 })));
    assert!(refused.status == 400 && refused.error().contains("did you mean `temperature`?"));
}

#[test]
fn constraints_hold_and_broken_ones_are_named() {
    let server = Server::new("It is 7, I think.");
    let path = "/v1/chat/completions";
    let content = |fields: &Value| {
        server.json(path, &with(fields))["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(content(&json!({ "regex": "It is [0-9]" })), "It is 7");
    let said = content(&json!({ "grammar": "root ::= \"yes\" | \"no\"", "max_tokens": 5 }));
    assert!(["yes", "no"].contains(&said.as_str()), "{said}");
    let broken = server.post(path, &with(&json!({ "regex": "(" })));
    assert_eq!((broken.status, &broken.json()["error"]["param"]), (400, &json!("regex")));
}

#[test]
fn tokens_and_vectors_come_as_asked() {
    let server = Server::new("");
    assert_eq!(
        server.json("/tokenize", &json!({ "content": "aé" })),
        json!({ "tokens": [97, 195, 169] })
    );
    let pieces = server.json("/tokenize", &json!({ "content": "aé", "with_pieces": true }));
    assert_eq!(pieces["tokens"][0], json!({ "id": 97, "piece": "a" }));
    assert_eq!(pieces["tokens"][1], json!({ "id": 195, "piece": [195] }));
    assert_eq!(
        server.json("/detokenize", &json!({ "tokens": [97, 195, 169] })),
        json!({ "content": "aé" })
    );
    assert_eq!(server.json("/detokenize", &json!({ "ids": [] })), json!({ "content": "" }));
    for tokens in [json!([256]), json!(["a"]), json!("a"), json!([[97]])] {
        let refused = server.post("/detokenize", &json!({ "tokens": tokens }));
        assert_eq!(
            (refused.status, &refused.json()["error"]["param"]),
            (400, &json!("tokens")),
            "{tokens}"
        );
    }
    assert_eq!(server.json("/apply-template", &hello()), json!({ "prompt": "user: Hello\n\u{2}" }));
    let floats = server.json("/v1/embeddings", &json!({ "input": ["ab", [97, 98]] }));
    let vectors: Vec<&Value> =
        floats["data"].as_array().unwrap().iter().map(|d| &d["embedding"]).collect();
    assert!(vectors[0] == vectors[1] && vectors[0].as_array().unwrap().len() == 3, "{floats}");
    assert_eq!(floats["usage"]["prompt_tokens"], 4);
    let packed =
        server.json("/v1/embeddings", &json!({ "input": "ab", "encoding_format": "base64" }));
    assert_eq!(packed["data"][0]["embedding"].as_str().unwrap().len(), 16);
    for input in [json!([]), json!(""), json!([97, "a"]), json!([""]), json!({})] {
        assert_eq!(
            server.post("/v1/embeddings", &json!({ "input": input })).status,
            400,
            "{input}"
        );
    }
}

#[test]
fn a_client_that_leaves_ends_its_answer_and_a_waiting_one_is_told_its_place() {
    let options = LoadOptions { context: 4000, parallel: Some(1), ..LoadOptions::default() };
    let mock =
        Mock { delay: Duration::from_millis(2), ..Mock::new(Says::Answer(vec![b'x'; 3000])) };
    let server = Server::with(mock, &options, |_| {});
    let long = with(&json!({ "stream": true, "return_progress": true }));
    let begun = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let mut first = 0;
        let (server, long, begun) = (&server, &long, &begun);
        scope.spawn(move || {
            let request = Request::to("POST", "/v1/chat/completions", &[], &long.to_string());
            let answer = server.ask(&request, &mut |_| {
                first += 1;
                if first == 5 {
                    begun.wait();
                }
                first < 60
            });
            assert!(!answer.ended && answer.parts.len() < 200, "{}", answer.parts.len());
        });
        begun.wait();
        let mut asked = with(&json!({ "max_tokens": 2, "return_progress": true }));
        asked["messages"][0]["content"] = json!("Me too");
        let events = server.events("/v1/chat/completions", &asked);
        let place = events.iter().find_map(|event| event.get("queue"));
        assert_eq!(place, Some(&json!({ "before": 0 })));
    });
    let start = Instant::now();
    while server.engine.status().slots.iter().any(|_| true) {
        assert!(start.elapsed() < Duration::from_secs(10), "it goes on");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(server.engine.status().generated_tokens < 1000);
}

#[test]
fn slots_and_metrics_show_what_was_done() {
    let server = Server::new("Hi.");
    server.json("/v1/chat/completions", &hello());
    let slots = server.get("/slots").json();
    assert_eq!(slots.as_array().unwrap().len(), 4);
    assert_eq!((&slots[0]["n_ctx"], &slots[0]["is_processing"]), (&json!(400), &json!(false)));
    let metrics = server.get("/metrics").parts.concat();
    for line in [
        "llamacpp:prompt_tokens_total 13\n",
        "llamacpp:tokens_predicted_total 4\n",
        "llamacpp:requests_processing 0\n",
        "llamacpp:request_bytes 0\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert_eq!(server.json("/slots/0?action=erase", &json!({}))["id_slot"], 0);
    assert_eq!(server.post("/slots/9?action=erase", &json!({})).status, 400);
    assert_eq!(server.post("/slots/0?action=save", &json!({ "filename": "x" })).status, 501);
}

#[test]
fn an_engine_that_fails_is_an_error_before_the_stream_and_an_event_in_it() {
    let options = LoadOptions { context: 400, ..LoadOptions::default() };
    let mock = Mock::new(Says::Answer(b"Hi.".to_vec()));
    mock.panics.store(true, Ordering::SeqCst);
    let server = Server::with(mock, &options, |_| {});
    let failed = server.post("/v1/chat/completions", &with(&json!({ "stream": true })));
    assert_eq!((failed.status, &failed.json()["error"]["type"]), (500, &json!("server_error")));
    assert_eq!(
        server.json("/v1/chat/completions", &hello())["choices"][0]["message"]["content"],
        "Hi."
    );
}
