//! The parent's side: keeps children warm, ends them at their deadlines, and replaces them.

use super::child::CHILD_FLAG;
use super::{Handler, Patience, STACK_BYTES, Topic, WorkerError};
use crate::system::{on_stack, own_file};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often to check whether a result is still wanted.
const LOOK: Duration = Duration::from_millis(10);
/// Longest wait of a job for a slot.
const PLACE_TIME: Duration = Duration::from_secs(30);
/// How long a child may take to say that it is ready.
const HELLO_TIME: Duration = Duration::from_secs(10);
/// Idle children that are kept.
const IDLE_MAX: usize = 1;
/// A child whose job or result had more bytes is not kept: it would not return its memory to the system.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// Most bytes to read from a dead child's stderr.
const LAST_WORDS_MAX: u64 = 4 << 10;

/// A pool of child processes that work on jobs.
pub struct Workers {
    handler: Handler,
    /// The executable; `None`: jobs run in this process, without limits.
    program: Option<PathBuf>,
    places: Mutex<Places>,
    freed: Condvar,
}

#[derive(Default)]
struct Places {
    idle: Vec<Worker>,
    running: [usize; Topic::ALL.len()],
    /// Whether a child has ever said that it is ready.
    proven: bool,
    /// Whether no child can be started on this system at all.
    hopeless: bool,
}

impl Workers {
    /// Children of the running executable, the first of which starts at once. If the system can't start any (in an
    /// emulator, say), jobs run in this process, with a warning on stderr.
    #[must_use]
    pub fn start(handler: Handler) -> Self {
        Self::of(own_file().ok(), handler)
    }

    /// Children of this executable, which must call [`super::run`] with the same handler.
    #[must_use]
    pub fn of(program: Option<PathBuf>, handler: Handler) -> Self {
        let mut places = Places::default();
        if let Some(Ok(worker)) = program.as_deref().map(Worker::start) {
            places.idle.push(worker);
        }
        Self { handler, program, places: Mutex::new(places), freed: Condvar::new() }
    }

    /// No children: jobs run in this process.
    #[must_use]
    pub fn here(handler: Handler) -> Self {
        Self::of(None, handler)
    }

    /// Runs a job.
    ///
    /// # Errors
    /// When it hits a limit, or its result is no longer wanted. Nothing of it keeps running then.
    pub fn ask(
        &self,
        topic: Topic,
        job: &[u8],
        patience: &Patience<'_>,
    ) -> Result<Vec<u8>, WorkerError> {
        let Some(program) = &self.program else { return self.work_here(topic, job) };
        let mut place = self.enter(topic, patience)?;
        if place.hopeless {
            drop(place);
            return self.work_here(topic, job);
        }
        let began = Instant::now();
        // Something else may have killed a child that was kept.
        let kept = place.worker.take().and_then(Worker::alive);
        let worker = kept.map_or_else(|| Worker::start(program), Ok);
        let worker = worker.and_then(Worker::greeted);
        let mut worker = match worker {
            Ok(worker) => worker,
            Err(error) if self.never_worked() => {
                let _ = writeln!(
                    io::stderr(),
                    "warning: cannot start a worker process ({error}); chat templates and schemas run without limits on time and memory"
                );
                drop(place);
                return self.work_here(topic, job);
            }
            Err(error) => return Err(WorkerError::Start(error.to_string())),
        };
        self.lock().proven = true;
        let result = worker.ask(topic, job, patience);
        patience.spend(began.elapsed());
        if let Ok(result) = &result
            && job.len().max(result.len()) <= KEPT_BYTES_MAX
        {
            place.worker = Some(worker);
        }
        result
    }

    /// Runs a job in this process, on a thread with room for deep recursion.
    fn work_here(&self, topic: Topic, job: &[u8]) -> Result<Vec<u8>, WorkerError> {
        match on_stack(STACK_BYTES, || (self.handler)(topic, job)) {
            Ok(result) => result.ok_or(WorkerError::Ended),
            Err(error) => Err(WorkerError::Thread(error.to_string())),
        }
    }

    /// Whether no child has ever worked; then no other is tried.
    fn never_worked(&self) -> bool {
        let mut places = self.lock();
        places.hopeless |= !places.proven;
        places.hopeless
    }

    /// Waits for a slot among the running jobs.
    fn enter(&self, topic: Topic, patience: &Patience<'_>) -> Result<Place<'_>, WorkerError> {
        let end = Instant::now() + PLACE_TIME;
        let mut places = self.lock();
        while places.running[topic.index()] >= topic.running_max() {
            if !patience.is_wanted() {
                return Err(WorkerError::Unwanted);
            }
            if Instant::now() > end {
                return Err(WorkerError::Busy);
            }
            let waited = self.freed.wait_timeout(places, LOOK);
            places = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        places.running[topic.index()] += 1;
        let (worker, hopeless) = (places.idle.pop(), places.hopeless);
        Ok(Place { workers: self, topic, worker, hopeless })
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot among the running jobs, with the child to use or to keep.
struct Place<'w> {
    workers: &'w Workers,
    topic: Topic,
    worker: Option<Worker>,
    hopeless: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut places = self.workers.lock();
        places.running[self.topic.index()] -= 1;
        // A surplus child is ended after the lock is released.
        let surplus = match self.worker.take() {
            Some(worker) if places.idle.len() < IDLE_MAX => {
                places.idle.push(worker);
                None
            }
            other => other,
        };
        drop(places);
        drop(surplus);
        self.workers.freed.notify_all();
    }
}

/// A child, which is ended when this is dropped.
struct Worker {
    child: Child,
    input: ChildStdin,
    results: Receiver<Vec<u8>>,
    errors: ChildStderr,
    greeted: bool,
}

impl Worker {
    fn start(program: &Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg(CHILD_FLAG);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        apart(&mut command);
        let mut child = command.spawn()?;
        let missing = || io::Error::other("a pipe is missing");
        let input = child.stdin.take().ok_or_else(missing)?;
        let mut output = child.stdout.take().ok_or_else(missing)?;
        let errors = child.stderr.take().ok_or_else(missing)?;
        let (found, results) = channel();
        let read = move || {
            while let Ok(result) = receive(&mut output) {
                if found.send(result).is_err() {
                    return;
                }
            }
        };
        // From here on, dropping the worker ends the child.
        let reader = std::thread::Builder::new().name("worker results".to_owned()).spawn(read);
        let worker = Self { child, input, results, errors, greeted: false };
        reader.map(|_| worker)
    }

    /// The child, unless it has ended.
    fn alive(mut self) -> Option<Self> {
        matches!(self.child.try_wait(), Ok(None)).then_some(self)
    }

    /// Waits until the child says that it is ready.
    fn greeted(mut self) -> io::Result<Self> {
        if !self.greeted {
            let hello = self.results.recv_timeout(HELLO_TIME);
            if hello.ok().is_none_or(|hello| !hello.is_empty()) {
                return Err(io::Error::other("it exited immediately"));
            }
            self.greeted = true;
        }
        Ok(self)
    }

    fn ask(
        &mut self,
        topic: Topic,
        job: &[u8],
        patience: &Patience<'_>,
    ) -> Result<Vec<u8>, WorkerError> {
        let deadline = Instant::now() + patience.left.get();
        if self.send(topic, job, patience.left.get()).is_err() {
            return Err(self.last_words());
        }
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Err(WorkerError::Deadline(patience.total));
            }
            match self.results.recv_timeout(LOOK.min(deadline - now)) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Disconnected) => return Err(self.last_words()),
                Err(RecvTimeoutError::Timeout) if patience.is_wanted() => {}
                Err(RecvTimeoutError::Timeout) => return Err(WorkerError::Unwanted),
            }
        }
    }

    fn send(&mut self, topic: Topic, job: &[u8], time: Duration) -> io::Result<()> {
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let length = u32::try_from(job.len()).map_err(too_long)?;
        let time = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let mut head = vec![topic.index() as u8];
        head.extend(time.to_le_bytes());
        head.extend(length.to_le_bytes());
        self.input.write_all(&head)?;
        self.input.write_all(job)?;
        self.input.flush()
    }

    /// Why the child ended, by the message of Rust's runtime.
    fn last_words(&mut self) -> WorkerError {
        let mut words = Vec::new();
        let _ = self.errors.by_ref().take(LAST_WORDS_MAX).read_to_end(&mut words);
        let words = String::from_utf8_lossy(&words);
        if words.contains("memory allocation of") {
            WorkerError::Memory
        } else if words.contains("overflowed its stack") {
            WorkerError::Depth
        } else {
            WorkerError::Ended
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a result, which is prefixed with its length.
fn receive(output: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    output.read_exact(&mut length)?;
    let length = u64::from(u32::from_le_bytes(length));
    let mut bytes = Vec::new();
    output.by_ref().take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Shields the child from Ctrl-C and a closed terminal: its parent ends it.
#[cfg(unix)]
fn apart(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
}

/// Shields the child from Ctrl-C, and opens no console window.
#[cfg(windows)]
fn apart(command: &mut Command) {
    use std::os::windows::process::CommandExt as _;
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
    const CREATE_NO_WINDOW: u32 = 0x0800_0000;
    command.creation_flags(CREATE_NEW_PROCESS_GROUP | CREATE_NO_WINDOW);
}
