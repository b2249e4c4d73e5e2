//! Conversations kept in a file beside the program (`--portable`), so that they travel with a USB stick.
//!
//! Input: changes as the page sends them. Output: the file, replaced as a whole: a change is written to a new file,
//! which is then renamed over the old one. The format is the page's export, so each can be read as the other. No
//! request can name a file. Of a conversation it knows only the id and the revision. Lone UTF-16 surrogates, which
//! JavaScript writes as escapes, are replaced.

use super::error::ApiError;
use super::fields::Fields;
use super::http::{Request, Response};
use super::json::json_text;
use super::turn::Turn;
use crate::source::Program;
use crate::system::{is_unplaced, replace};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};
use tealight_bundle::tail::Role;

/// The limits, shared with the page.
const LIMITS: &str = include_str!("../../web/limits.js");
/// Largest file in bytes; also the page's import limit.
const BYTES_MAX: usize = limit("FILE_BYTES_MAX");
/// Most conversations in the file.
const CHATS_MAX: usize = limit("CHATS_MAX");
/// Largest change in bytes: a conversation as large as the file, plus the JSON around it.
pub(super) const CHANGE_BYTES_MAX: usize = BYTES_MAX + 4096;
/// The value of the file's `format` field.
const FORMAT: &str = "tealight-chats";

/// The file of conversations.
pub struct Chats {
    path: PathBuf,
    bytes_max: usize,
    /// One change at a time within this process; `Turn` excludes other processes.
    changing: Mutex<()>,
    /// Runs once: removes what interrupted runs left.
    tidied: Once,
    /// Runs once: warns that other programs can't be kept out.
    told: Once,
}

impl Chats {
    /// The file that belongs to a program: `chat.chats.json` for `chat` and `chat.exe`. Programs with external weights
    /// share one file, named after the weights, because a stick holds one program per system.
    #[must_use]
    pub fn beside(program: &Program) -> Self {
        let entries = program.tail.iter().flat_map(|tail| &tail.manifest().entries);
        let mut outside = entries.filter(|entry| entry.role == Role::Model && entry.external);
        let weights = outside.next().map(|entry| entry.name.as_str());
        Self::at(program.path.with_file_name(name(&program.path, weights)))
    }

    fn at(path: PathBuf) -> Self {
        Self {
            path,
            bytes_max: BYTES_MAX,
            changing: Mutex::new(()),
            tidied: Once::new(),
            told: Once::new(),
        }
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `GET /chats`: the whole file.
    pub(super) fn answer(&self, request: &Request) -> Result<Response, ApiError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = std::fs::metadata(&self.path).map_or(0, |file| file.len() as usize);
        request.share.take(bytes.min(self.bytes_max).saturating_mul(4))?;
        self.read().map(|file| json_text(text(file)))
    }

    /// `POST /chats`: `{"put": [conversation, …], "remove": [id, …], "when": {id: revision, …}}`. `when` gives the
    /// `rev` that each stored conversation must have, null for none; otherwise nothing is changed (409).
    pub(super) fn change(&self, request: &Request) -> Result<Response, ApiError> {
        let mut fields = Fields::parse(&whole_characters(&request.body), &request.share)?;
        let conversations =
            |v: &Value| Some(v.as_array()?.iter().map(|c| Some((id(c)?, c.clone()))).collect());
        let put: Option<Option<Vec<(String, Value)>>> =
            fields.typed("put", "an array of conversations", conversations)?;
        let put = put.unwrap_or_else(|| Some(Vec::new())).ok_or_else(|| {
            ApiError::parameter(
                "put",
                "a conversation without a valid id",
                "`id`: 8 to 64 letters, digits, - and _",
            )
        })?;
        let remove = fields.strings("remove", CHATS_MAX)?.unwrap_or_default();
        let when = fields.typed("when", "an object of revisions", |v| v.as_object().cloned())?;
        // Unknown fields are errors here: a misspelled `put` would silently lose a conversation.
        let _ = fields.finish(&["put", "remove", "when"], true)?;
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // Held until the new file is in place, because other programs read and change it too.
        let turn = Turn::at(&self.path).map_err(|error| self.failed(&error))?;
        if turn.is_alone() {
            self.tidied.call_once(|| self.tidy());
        } else {
            self.told.call_once(|| self.tell());
        }
        // Read again each time: another program may have changed it.
        let mut all = self.read()?;
        for (id, revision) in when.iter().flatten() {
            let here = all.get(id).and_then(|conversation| conversation.get("rev"));
            if here.unwrap_or(&Value::Null) != revision {
                let message = format!("{id}: changed in the meantime; read it again");
                return Err(ApiError::new(409, "conflict_error", message));
            }
        }
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
        // Never overwrite a file that is not ours.
        parse(&text).ok_or_else(|| {
            let message = format!(
                "{}: not a conversations file, expected `format`: \"{FORMAT}\"\nhint: move it away, and a new one will be created",
                self.path.display()
            );
            ApiError::new(500, "storage_error", message)
        })
    }

    fn write(&self, text: &[u8]) -> io::Result<()> {
        replace(&self.path, |file| file.write_all(text))
    }

    /// Removes new files that were never renamed. Only while holding the lock: they may be another program's.
    fn tidy(&self) {
        let Some(own) = self.path.file_name().and_then(OsStr::to_str) else { return };
        let folder = self.path.parent().unwrap_or(Path::new("."));
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| is_unplaced(own, name)) {
                // A link is removed, not followed.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn tell(&self) {
        let _ = writeln!(
            io::stderr(),
            "warning: --portable: {} is on a drive without file locking; run only one program from it at a time",
            self.path.display()
        );
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
    let mut file: Value = serde_json::from_slice(&whole_characters(text)).ok()?;
    if file["format"] != FORMAT || file["version"] != 1 {
        return None;
    }
    let Value::Array(all) = file["conversations"].take() else { return None };
    all.into_iter().map(|conversation| Some((id(&conversation)?, conversation))).collect()
}

/// Reads a limit from the page's script at compile time.
const fn limit(name: &str) -> usize {
    let (text, name) = (LIMITS.as_bytes(), name.as_bytes());
    let mut at = 0;
    // The name first occurs in its definition, `NAME = 123;`.
    loop {
        let mut same = 0;
        while same < name.len() && text[at + same] == name[same] {
            same += 1;
        }
        if same == name.len() {
            break;
        }
        at += 1;
    }
    at += name.len() + " = ".len();
    let mut number = 0;
    while text[at].is_ascii_digit() {
        number = number * 10 + (text[at] - b'0') as usize;
        at += 1;
    }
    assert!(number > 0, "web/limits.js: no such limit");
    number
}

/// Replaces escapes of lone UTF-16 surrogates, and invalid UTF-8, with U+FFFD.
///
/// JavaScript's strings may hold lone surrogates, and so may its JSON. serde rejects them: a single one would make the
/// whole file unreadable.
fn whole_characters(json: &[u8]) -> Cow<'_, [u8]> {
    let mut json = match String::from_utf8_lossy(json) {
        Cow::Borrowed(_) => Cow::Borrowed(json),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', json.get(at..).unwrap_or_default()) {
        at += found;
        let pair = (unit(&json, at), unit(&json, at + 6));
        at += match pair {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                if let Some(escape) = json.to_mut().get_mut(at..at + 6) {
                    escape.copy_from_slice(b"\\ufffd");
                }
                6
            }
            // Skip the escaped byte, which may be a backslash.
            _ => 2,
        };
    }
    json
}

/// The UTF-16 code unit of the JSON escape `\u` and four hex digits at `at`, or `None`.
fn unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The id of a conversation, if it has the form that the page accepts.
fn id(conversation: &Value) -> Option<String> {
    let id = conversation.get("id")?.as_str()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    ((8..=64).contains(&id.len()) && id.bytes().all(plain)).then(|| id.to_owned())
}

/// The file's name: from the external weights if there are any, else from the program.
fn name(program: &Path, weights: Option<&str>) -> String {
    let own = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (name, ends) = match weights {
        Some(weights) => (own(Path::new(weights)), [".gguf", ".GGUF"]),
        None => (own(program), [".exe", ".EXE"]),
    };
    let name = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    // The first shard of split weights is `…-00001-of-00003.gguf`.
    let first = weights.and_then(|_| name.split_once("-00001-of-"));
    format!("{}.chats.json", first.map_or(name, |(stem, _)| stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(folder: &tempfile::TempDir) -> Chats {
        Chats::at(folder.path().join("chat.chats.json"))
    }

    fn request(body: &str) -> Request {
        Request::of_body(body.as_bytes().to_vec())
    }

    fn change(chats: &Chats, body: &str) -> Result<(), u64> {
        let refused = |error: ApiError| error.json()["error"]["code"].as_u64().unwrap();
        chats.change(&request(body)).map(|_| ()).map_err(refused)
    }

    fn kept(chats: &Chats) -> Vec<String> {
        let body = chats.answer(&Request::default()).ok().unwrap().body;
        let all: Value = serde_json::from_slice(&body).unwrap();
        let title = |c: &Value| c["title"].as_str().unwrap_or("").to_owned();
        all["conversations"].as_array().unwrap().iter().map(title).collect()
    }

    #[test]
    fn changes_persist_across_runs() {
        let folder = tempfile::tempdir().unwrap();
        let chats = here(&folder);
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
        assert_eq!(kept(&here(&folder)), ["One"]);
        let names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["chat.chats.json"], "nothing else is left");
    }

    /// Two instances with separate locks stand for two processes.
    #[test]
    fn concurrent_changes_of_two_programs_are_all_kept() {
        const EACH: usize = 60;
        let folder = tempfile::tempdir().unwrap();
        let programs = [here(&folder), here(&folder)];
        std::thread::scope(|scope| {
            for (number, chats) in programs.iter().enumerate() {
                scope.spawn(move || {
                    for round in 0..EACH {
                        let id = format!("chat-{number}-{round:03}");
                        change(chats, &format!(r#"{{"put":[{{"id":"{id}","title":"{id}"}}]}}"#))
                            .unwrap();
                    }
                });
            }
        });
        let mut all = kept(&programs[0]);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 2 * EACH);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something is left");
    }

    #[test]
    fn leftover_files_are_removed_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let left =
            ["chat.chats.json.new", "chat.chats.json.0123456789abcdef.new", "chat.chats.json.lock"];
        let others =
            ["chat.chats.json.old.new", "chat.chats.json.0123456789abcde.new", "x.chats.json.new"];
        for name in left.iter().chain(&others) {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        change(&here(&folder), r#"{"put":[{"id":"aaaaaaaa"}]}"#).unwrap();
        let names = std::fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        let mut expected = [&["chat.chats.json"], &others[..]].concat();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }

    #[test]
    fn the_page_and_the_program_have_the_same_limits() {
        assert!(LIMITS.contains(&format!("FILE_BYTES_MAX = {BYTES_MAX};")));
        assert!(LIMITS.contains(&format!("CHATS_MAX = {CHATS_MAX};")));
    }

    #[test]
    fn a_conversation_changed_elsewhere_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (here(&folder), here(&folder));
        let put = |chats: &Chats, rev: &str, when: &str| {
            let id = "aaaaaaaa";
            change(
                chats,
                &format!(
                    r#"{{"put":[{{"id":"{id}","title":"{rev}","rev":"{rev}"}}],"when":{{"{id}":{when}}}}}"#
                ),
            )
        };
        assert_eq!(put(&one, "r1", r#""r0""#), Err(409), "nothing is there");
        assert_eq!(put(&one, "r1", "null"), Ok(()));
        assert_eq!(put(&two, "r2", "null"), Err(409), "it is new to that one only");
        assert_eq!(put(&two, "r2", r#""r1""#), Ok(()));
        assert_eq!(put(&one, "r3", r#""r1""#), Err(409));
        assert_eq!(kept(&one), ["r2"]);
        assert_eq!(change(&one, r#"{"put":[{"id":"aaaaaaaa","title":"old page"}]}"#), Ok(()));
        assert_eq!(
            put(&one, "r4", "null"),
            Ok(()),
            "one without a revision is as one that is not there"
        );
        assert_eq!(change(&one, r#"{"when":[]}"#), Err(400));
    }

    #[test]
    fn lone_surrogates_are_replaced_without_data_loss() {
        let cases = [
            (r"a", "a"),
            (r"\ud83d\ude00", "😀"),
            (r"\uD83D", "\u{FFFD}"),
            (r"\ude00x\ud83d", "\u{FFFD}x\u{FFFD}"),
            (r"\ud83d\ud83d\ude00", "\u{FFFD}😀"),
            (r"\\ud83d", r"\ud83d"),
            (r"\\\ud83d\n", "\\\u{FFFD}\n"),
            (r"\ud83d\\ude00", "\u{FFFD}\\ude00"),
            (r"\u00e9\uffff", "é\u{FFFF}"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let chats = here(&folder);
        for (written, expected) in cases {
            let one = format!(r#"{{"id":"aaaaaaaa","title":"{written}"}}"#);
            change(&chats, &format!(r#"{{"put":[{one}]}}"#)).unwrap();
            assert_eq!(kept(&chats), [expected], "{written}");
            // The same in a file that another program wrote.
            let file = format!(r#"{{"format":"{FORMAT}","version":1,"conversations":[{one}]}}"#);
            std::fs::write(chats.path(), file).unwrap();
            assert_eq!(kept(&chats), [expected], "{written}");
        }
        // A surrogate as three raw bytes, which some programs write.
        let mut file = br#"{"format":"tealight-chats","version":1,"conversations":[{"id":"aaaaaaaa","title":""#.to_vec();
        file.extend(b"\xED\xA0\xBD!\"}]}");
        std::fs::write(chats.path(), file).unwrap();
        assert!(kept(&chats)[0].ends_with("\u{FFFD}!"));
        for torn in ["\\", "\\u", "\\ud83d", "\\ud83d\\u", "\\u+123", "\\ud8\u{e9}"] {
            let repaired = whole_characters(torn.as_bytes()).into_owned();
            assert_eq!(String::from_utf8(repaired).unwrap().len(), torn.len(), "{torn}");
        }
    }

    #[test]
    fn programs_for_several_systems_on_one_stick_share_a_file() {
        for program in ["/s/chat", "/s/chat.exe", "/s/chat.EXE"] {
            assert_eq!(name(Path::new(program), None), "chat.chats.json", "{program}");
        }
        for program in ["/s/tealight-linux-x86_64", "/s/Start chat (Windows).exe"] {
            for weights in ["tea.gguf", "tea-00001-of-00003.gguf", "../x/tea.gguf"] {
                assert_eq!(name(Path::new(program), Some(weights)), "tea.chats.json", "{weights}");
            }
        }
    }

    #[test]
    fn malformed_changes_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let chats = here(&folder);
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
    fn a_foreign_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let chats = here(&folder);
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
        let chats = Chats { bytes_max: 300, ..here(&folder) };
        change(&chats, r#"{"put":[{"id":"aaaaaaaa","title":"one"}]}"#).unwrap();
        let long = format!(r#"{{"put":[{{"id":"bbbbbbbb","title":"{}"}}]}}"#, "x".repeat(300));
        assert_eq!(change(&chats, &long), Err(413));
        assert_eq!(kept(&chats), ["one"]);
        std::fs::write(chats.path(), " ".repeat(400)).unwrap();
        assert_eq!(change(&chats, r#"{"remove":["aaaaaaaa"]}"#), Err(413));
    }

    #[cfg(unix)]
    #[test]
    fn a_planted_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let chats = here(&folder);
        let other = folder.path().join("other");
        std::fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, folder.path().join("chat.chats.json.new")).unwrap();
        change(&chats, r#"{"put":[{"id":"aaaaaaaa","title":"one"}]}"#).unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
        assert_eq!(kept(&chats), ["one"]);
    }
}
