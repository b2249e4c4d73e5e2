//! Conversations kept in a file beside the program (`--portable`), for a stick that is carried about.
//!
//! Enters: changes as the page sends them. Leaves: the file, whole or as it was: a change is written beside
//! it and then takes its place. Its form is the page's export, so either can be read where the other is. No
//! request names a file. Knows nothing of what conversations hold but their ids.

use super::error::ApiError;
use super::fields::Fields;
use super::http::{Request, Response};
use super::native::json_text;
use serde_json::{Map, Value, json};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Bytes of the file at most; what the page takes as an import.
const BYTES_MAX: usize = 64_000_000;
/// Conversations at most, as for the page.
const CHATS_MAX: usize = 10_000;
/// What the file calls its form.
const FORMAT: &str = "tealight-chats";

/// The file of conversations.
pub struct Chats {
    path: PathBuf,
    bytes_max: usize,
    /// One change at a time.
    changing: Mutex<()>,
}

impl Chats {
    /// The file that belongs to the program at `program`: `chat.chats.json` for `chat` and `chat.exe`, and
    /// for `chat-linux-x86_64` beside `chat-windows-x86_64.exe` too.
    #[must_use]
    pub fn beside(program: &Path) -> Self {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let path = program.with_file_name(format!("{}.chats.json", stem(&name)));
        Self { path, bytes_max: BYTES_MAX, changing: Mutex::new(()) }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `GET /chats`: the whole file.
    pub(super) fn answer(&self) -> Result<Response, ApiError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.read().map(|file| json_text(text(file)))
    }

    /// `POST /chats`: `{"put": [conversation, …], "remove": [id, …]}`.
    pub(super) fn change(&self, request: &Request) -> Result<Response, ApiError> {
        let mut fields = Fields::parse(&request.body)?;
        let conversations =
            |v: &Value| Some(v.as_array()?.iter().map(|c| Some((id(c)?, c.clone()))).collect());
        let put: Option<Option<Vec<(String, Value)>>> =
            fields.typed("put", "an array of conversations", conversations)?;
        let put = put.unwrap_or_else(|| Some(Vec::new())).ok_or_else(|| {
            ApiError::parameter(
                "put",
                "a conversation without one",
                "`id`: 8 to 64 letters, digits, - and _",
            )
        })?;
        let remove = fields.strings("remove", CHATS_MAX)?.unwrap_or_default();
        fields.finish(&["put", "remove"])?;
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // Read anew each time: another program may have changed it meanwhile.
        let mut all = self.read()?;
        for name in &remove {
            all.shift_remove(name);
        }
        all.extend(put);
        if all.len() > CHATS_MAX {
            return Err(too_large(&format!("more than {CHATS_MAX} conversations")));
        }
        let text = text(all);
        if text.len() > self.bytes_max {
            return Err(too_large(&format!("more than {} bytes", self.bytes_max)));
        }
        self.write(text.as_bytes()).map_err(|error| self.failed(&error))?;
        Ok(json_text("{}".to_owned()))
    }

    /// The conversations by id.
    fn read(&self) -> Result<Map<String, Value>, ApiError> {
        let mut text = Vec::new();
        match std::fs::File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
            Err(error) => return Err(self.failed(&error)),
            Ok(file) => {
                let limit = self.bytes_max as u64 + 1;
                file.take(limit).read_to_end(&mut text).map_err(|error| self.failed(&error))?;
            }
        }
        if text.len() > self.bytes_max {
            return Err(too_large(&format!(
                "{}: more than {} bytes",
                self.path.display(),
                self.bytes_max
            )));
        }
        // What is not ours is never written over.
        parse(&text).ok_or_else(|| {
            let message = format!(
                "{}: no file of conversations, expected `format`: \"{FORMAT}\"; move it away, and a new one is made",
                self.path.display()
            );
            ApiError::new(500, "storage_error", message)
        })
    }

    fn write(&self, text: &[u8]) -> io::Result<()> {
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        let new = PathBuf::from(new);
        // One that an interrupted run left; a link there is not followed.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::File::create_new(&new)?;
        let written = file.write_all(text).and_then(|()| file.sync_all());
        drop(file);
        let placed = written.and_then(|()| std::fs::rename(&new, &self.path));
        if placed.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        placed
    }

    fn failed(&self, error: &io::Error) -> ApiError {
        let message = format!("{}: {error}", self.path.display());
        ApiError::new(500, "storage_error", message)
    }
}

fn too_large(what: &str) -> ApiError {
    ApiError::new(
        413,
        "storage_error",
        format!("{what}; export some conversations and delete them"),
    )
}

fn text(all: Map<String, Value>) -> String {
    let conversations: Vec<Value> = all.into_iter().map(|(_, conversation)| conversation).collect();
    json!({ "format": FORMAT, "version": 1, "conversations": conversations }).to_string()
}

fn parse(text: &[u8]) -> Option<Map<String, Value>> {
    let mut file: Value = serde_json::from_slice(text).ok()?;
    if file["format"] != FORMAT || file["version"] != 1 {
        return None;
    }
    let Value::Array(all) = file["conversations"].take() else { return None };
    all.into_iter().map(|conversation| Some((id(&conversation)?, conversation))).collect()
}

/// The id of a conversation, of the form that the page takes.
fn id(conversation: &Value) -> Option<String> {
    let id = conversation.get("id")?.as_str()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    ((8..=64).contains(&id.len()) && id.bytes().all(plain)).then(|| id.to_owned())
}

/// A program's name without what differs between the systems on one stick.
fn stem(name: &str) -> &str {
    let name = name.strip_suffix(".exe").or(name.strip_suffix(".EXE")).unwrap_or(name);
    let systems =
        ["-linux-x86_64", "-linux-aarch64", "-windows-x86_64", "-macos-arm64", "-macos-x86_64"];
    systems.iter().find_map(|s| name.strip_suffix(s)).filter(|s| !s.is_empty()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: &str) -> Request {
        Request::of_body(body.as_bytes().to_vec())
    }

    fn change(chats: &Chats, body: &str) -> Result<(), u64> {
        let refused = |error: ApiError| error.json()["error"]["code"].as_u64().unwrap();
        chats.change(&request(body)).map(|_| ()).map_err(refused)
    }

    fn kept(chats: &Chats) -> Vec<String> {
        let body = chats.answer().ok().unwrap().body;
        let all: Value = serde_json::from_slice(&body).unwrap();
        let title = |c: &Value| c["title"].as_str().unwrap_or("").to_owned();
        all["conversations"].as_array().unwrap().iter().map(title).collect()
    }

    #[test]
    fn what_is_put_is_there_for_the_next_run_and_what_is_removed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("chat");
        let chats = Chats::beside(&program);
        assert!(kept(&chats).is_empty() && !chats.path().exists(), "asking makes no file");
        change(
            &chats,
            r#"{"put":[{"id":"aaaaaaaa","title":"one"},{"id":"bbbbbbbb","title":"two"}]}"#,
        )
        .unwrap();
        change(
            &chats,
            r#"{"put":[{"id":"aaaaaaaa","title":"One"}],"remove":["bbbbbbbb","zzzzzzzz"]}"#,
        )
        .unwrap();
        assert_eq!(kept(&Chats::beside(&program)), ["One"]);
        let names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["chat.chats.json"], "nothing else is left");
    }

    #[test]
    fn programs_for_several_systems_on_one_stick_share_a_file() {
        let name = |program: &str| Chats::beside(Path::new(program)).path().to_owned();
        for program in
            ["/s/chat", "/s/chat.exe", "/s/chat-linux-x86_64", "/s/chat-windows-x86_64.exe"]
        {
            assert_eq!(name(program), Path::new("/s/chat.chats.json"), "{program}");
        }
        assert_eq!(name("/s/-linux-x86_64"), Path::new("/s/-linux-x86_64.chats.json"));
    }

    #[test]
    fn malformed_changes_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let chats = Chats::beside(&folder.path().join("chat"));
        for body in [
            "",
            "[]",
            "{",
            r#"{"put":{}}"#,
            r#"{"put":[1]}"#,
            r#"{"put":[{"title":"no id"}]}"#,
            r#"{"put":[{"id":"../../../etc/passwd"}]}"#,
            r#"{"put":[{"id":"short"}]}"#,
            r#"{"remove":[1]}"#,
            r#"{"path":"/etc/passwd"}"#,
        ] {
            assert_eq!(change(&chats, body), Err(400), "{body}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_of_somebody_else_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let chats = Chats::beside(&folder.path().join("chat"));
        for text in
            ["precious", "{}", r#"{"format":"tealight-chats","version":2,"conversations":[]}"#]
        {
            std::fs::write(chats.path(), text).unwrap();
            assert_eq!(change(&chats, r#"{"put":[{"id":"aaaaaaaa"}]}"#), Err(500));
            assert_eq!(std::fs::read_to_string(chats.path()).unwrap(), text);
        }
    }

    #[test]
    fn the_file_does_not_grow_beyond_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let chats = Chats { bytes_max: 300, ..Chats::beside(&folder.path().join("chat")) };
        change(&chats, r#"{"put":[{"id":"aaaaaaaa","title":"one"}]}"#).unwrap();
        let long = format!(r#"{{"put":[{{"id":"bbbbbbbb","title":"{}"}}]}}"#, "x".repeat(300));
        assert_eq!(change(&chats, &long), Err(413));
        assert_eq!(kept(&chats), ["one"]);
        std::fs::write(chats.path(), " ".repeat(400)).unwrap();
        assert_eq!(change(&chats, r#"{"remove":["aaaaaaaa"]}"#), Err(413));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_was_put_in_the_way_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let chats = Chats::beside(&folder.path().join("chat"));
        let other = folder.path().join("other");
        std::fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, folder.path().join("chat.chats.json.new")).unwrap();
        change(&chats, r#"{"put":[{"id":"aaaaaaaa","title":"one"}]}"#).unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
        assert_eq!(kept(&chats), ["one"]);
    }
}
