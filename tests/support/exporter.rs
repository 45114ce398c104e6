//! The exporter under test, in the bed with the `HAProxy`s it watches, and what it answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bed::text;
use super::{Bed, PATIENCE, Page, Running, await_true, copy_program, schema, tool};

/// How often the exporter under test looks.
pub const SAMPLE_INTERVAL: &str = "200ms";
/// Where it listens; every bed has its own loopback.
const ADDRESS: &str = "127.0.0.1:10101";

/// Its configuration unless a test has one of its own: default, but for a grace that can be waited for.
const CONFIGURATION: &str = "defaults: {stale_grace: 1s}\n";

/// A running exporter.
pub struct Exporter<'b> {
    bed: &'b Bed,
    pub running: Running,
}

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl<'b> Exporter<'b> {
    /// Where the binary is.
    pub fn binary() -> PathBuf {
        PathBuf::from(env!("CARGO_BIN_EXE_haproxy-host-exporter"))
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(bed: &'b Bed) -> Self {
        Self::configured(bed, CONFIGURATION)
    }

    /// Starts it with a configuration file of this content.
    #[track_caller]
    pub fn configured(bed: &'b Bed, yaml: &str) -> Self {
        Self::launched(bed, bed.command(Self::binary()), yaml)
    }

    /// Starts it by a command of the bed that ends with the binary, wrapped or copied as the test needs.
    #[track_caller]
    pub fn launched(bed: &'b Bed, command: Command, yaml: &str) -> Self {
        let config = bed.write("exporter.yaml", yaml);
        Self::reading(bed, command, &config)
    }

    /// Starts it by such a command, with the configuration in this file or directory.
    #[track_caller]
    pub fn reading(bed: &'b Bed, command: Command, config: &Path) -> Self {
        Self::sampling(bed, command, config, SAMPLE_INTERVAL)
    }

    /// The same with another time between two samples.
    #[track_caller]
    pub fn sampling(bed: &'b Bed, mut command: Command, config: &Path, interval: &str) -> Self {
        command.args(["--web.listen-address", ADDRESS, "--sample.interval", interval]);
        command.arg("--config.file").arg(config);
        let mut exporter = Self { bed, running: bed.start(command, "exporter.log") };
        await_true("the exporter to be ready", || {
            assert!(
                !exporter.running.has_ended(),
                "the exporter ended:\n{}",
                exporter.running.log()
            );
            exporter.get("/-/ready").is_some_and(|response| response.status == 200)
        });
        exporter
    }

    /// A command that runs it as a user without rights. The binary is copied, because the build may lie
    /// where that user cannot go.
    pub fn as_nobody(bed: &Bed) -> Command {
        let binary = bed.directory().join("exporter");
        if !binary.exists() {
            copy_program(Self::binary(), &binary);
        }
        let mut command = bed.command(tool("setpriv"));
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"])
            .args(["--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs", "--"])
            .arg(binary);
        command
    }

    /// Runs one of its subcommands in the bed to its end. An answer in JSON has to fit its schema.
    #[track_caller]
    pub fn command(bed: &Bed, arguments: &[&str]) -> Output {
        let output = bed.command(Self::binary()).args(arguments).output().unwrap();
        schema::assert_printed(arguments, &output.stdout);
        output
    }

    /// What `inspect --output json` says, and its exit code.
    #[track_caller]
    pub fn inspect(bed: &Bed) -> (Value, i32) {
        let output = Self::command(bed, &["inspect", "--output", "json"]);
        let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("inspect: {error}\n{}\n{}", text(&output.stdout), text(&output.stderr))
        });
        (json, output.status.code().unwrap_or(-1))
    }

    /// Asks it; `None` when it does not answer.
    pub fn get(&self, path: &str) -> Option<Response> {
        self.request("GET", path)
    }

    /// Asks it with any method. An answer in JSON has to fit its schema.
    pub fn request(&self, method: &str, path: &str) -> Option<Response> {
        let response = self.bed.inside(|| request(method, path))?;
        if (method, path, response.status) == ("GET", "/state.json", 200) {
            schema::assert_printed(&["inspect", "--output", "json"], response.body.as_bytes());
        }
        Some(response)
    }

    /// Scrapes it.
    #[track_caller]
    pub fn page(&self) -> Page {
        self.bed.inside(scrape).unwrap_or_else(|| panic!("no page:\n{}", self.running.log()))
    }

    /// Scrapes it until a condition holds and gives that page.
    #[track_caller]
    pub fn await_page(&self, what: &str, mut condition: impl FnMut(&Page) -> bool) -> Page {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let page = self.page();
            if condition(&page) {
                return page;
            }
            assert!(
                Instant::now() < deadline,
                "no page with {what}; the last one:\n{}\nlog:\n{}",
                page.brief(),
                self.running.log()
            );
            std::thread::sleep(Duration::from_millis(40));
        }
    }

    /// Waits until the exporter has looked `count` times more, all of it after this call.
    #[track_caller]
    pub fn await_samples(&self, count: usize) -> Page {
        let taken = |page: &Page| {
            page.value("haproxy_host_sample_timestamp_seconds", &[]).unwrap_or_default()
        };
        let mut page = self.page();
        // The first to come may have begun before the call.
        for _ in 0..=count {
            let last = taken(&page);
            page = self.await_page("a next sample", |page| taken(page) > last);
        }
        page
    }

    /// Starts to keep every page there is.
    pub fn record(&self) -> Recorder {
        Recorder::new(self.bed)
    }
}

/// Scrapes all the time and keeps what it saw, to prove that something never was on a page.
pub struct Recorder {
    pages: Arc<Mutex<Vec<Page>>>,
    /// How often it began anew: a scrape that was under way then is not kept.
    begun: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    fn new(bed: &Bed) -> Self {
        let enter = bed.door();
        let pages = Arc::new(Mutex::new(Vec::new()));
        let begun = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (pages, begun, stop) = (pages.clone(), begun.clone(), stop.clone());
            move || {
                enter();
                while !stop.load(Ordering::Relaxed) {
                    let before = begun.load(Ordering::SeqCst);
                    if let Some(page) = scrape() {
                        let mut pages = pages.lock().unwrap();
                        if begun.load(Ordering::SeqCst) == before {
                            pages.push(page);
                        }
                    }
                    std::thread::sleep(Duration::from_millis(70));
                }
            }
        });
        Self { pages, begun, stop, thread: Some(thread) }
    }

    /// # Panics
    /// When `wrong` was true of any page since the start or the last [`Recorder::forget`].
    #[track_caller]
    pub fn never(&self, what: &str, wrong: impl Fn(&Page) -> bool) {
        let pages = self.pages.lock().unwrap().clone();
        assert!(!pages.is_empty(), "nothing was recorded");
        if let Some((index, page)) = pages.iter().enumerate().find(|(_, page)| wrong(page)) {
            panic!("page {index} of {} has {what}:\n{}", pages.len(), page.brief());
        }
    }

    /// Begins anew.
    pub fn forget(&self) {
        let mut pages = self.pages.lock().unwrap();
        self.begun.fetch_add(1, Ordering::SeqCst);
        pages.clear();
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there is a malformed page: the test's own.
            let readable = thread.join().is_ok() || std::thread::panicking();
            assert!(readable, "the recorder met a page it could not read");
        }
    }
}

fn scrape() -> Option<Page> {
    // Before its first sample it has no page to give.
    let response = request("GET", "/metrics").filter(|response| response.status != 503)?;
    assert_eq!(response.status, 200, "{}", response.body);
    Some(Page::parse(&response.body).unwrap_or_else(|why| panic!("{why}")))
}

fn request(method: &str, path: &str) -> Option<Response> {
    let address: SocketAddr = ADDRESS.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {ADDRESS}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (headers, body) = answer.split_once("\r\n\r\n")?;
    let status = headers.split(' ').nth(1)?.parse().ok()?;
    Some(Response { status, headers: headers.to_ascii_lowercase(), body: body.to_owned() })
}
