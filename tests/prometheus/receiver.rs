//! The receiver at the end of the chain: what Alertmanager posts to it, as values.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// The beginning of the paths to which the shipped texts are posted.
pub const TEXT: &str = "text/";

/// One alert of a notification, as a receiver got it.
#[derive(Debug, Clone)]
pub struct Notice {
    /// The name of the receiver.
    pub receiver: String,
    /// `firing` or `resolved`.
    pub status: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// One notification as a person reads it.
#[derive(Debug, Clone)]
pub struct Notification {
    /// The name of the receiver.
    pub receiver: String,
    /// When it came, in seconds since the epoch.
    pub at: f64,
    pub title: String,
    pub text: String,
}

impl Notification {
    pub fn from(receiver: &str, json: &Value) -> Self {
        let part = |key: &str| json["attachments"][0][key].as_str().unwrap().trim().to_owned();
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        Self { receiver: receiver.to_owned(), at, title: part("title"), text: part("text") }
    }
}

impl Notice {
    pub fn name(&self) -> &str {
        &self.labels["alertname"]
    }

    pub fn from(receiver: &str, alert: &Value) -> Self {
        let map = |key: &str| serde_json::from_value(alert[key].clone()).unwrap();
        Self {
            receiver: receiver.to_owned(),
            status: alert["status"].as_str().unwrap().to_owned(),
            labels: map("labels"),
            annotations: map("annotations"),
        }
    }

    /// The labels are these and those every alert has.
    #[track_caller]
    pub fn assert_labels(&self, own: &[(&str, &str)]) {
        let every =
            [("cluster", "eu1"), ("instance", "localhost"), ("job", "haproxy-host-exporter")];
        let wanted: BTreeMap<&str, &str> = every.iter().chain(own).copied().collect();
        let found: BTreeMap<&str, &str> = self
            .labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| *name != "alertname")
            .collect();
        assert_eq!(found, wanted, "{}", self.name());
    }

    /// The four annotations: those of its rule, filled in, with links that lead to its runbook and
    /// to the host.
    #[track_caller]
    pub fn assert_annotations(&self, dashboard: &str, description: &[&str]) {
        let name = self.name();
        let names: Vec<&str> = self.annotations.keys().map(String::as_str).collect();
        assert_eq!(names, ["dashboard_url", "description", "runbook_url", "summary"], "{name}");
        assert_eq!(self.annotations["runbook_url"], format!("/runbooks/{name}"));
        assert_eq!(self.annotations["dashboard_url"], dashboard, "{name}");
        for text in self.annotations.values() {
            for leftover in ["{{", "<no value>", "<error", "%!"] {
                assert!(!text.contains(leftover), "{name}: {leftover} in {text}");
            }
        }
        for part in description {
            let text = &self.annotations["description"];
            assert!(text.contains(part), "{name}: {part:?} is not in\n{text}");
        }
    }
}

/// Takes one notification, posted to a path that says which receiver it is for: Alertmanager's JSON, or the
/// shipped text.
pub fn receive(
    stream: TcpStream,
    notices: &Mutex<Vec<Notice>>,
    texts: &Mutex<Vec<Notification>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let receiver = line.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let json: Value = serde_json::from_slice(&body).ok()?;
    if let Some(receiver) = receiver.strip_prefix(TEXT) {
        texts.lock().unwrap().push(Notification::from(receiver, &json));
    } else {
        let alerts = json["alerts"].as_array()?.iter().map(|alert| Notice::from(&receiver, alert));
        notices.lock().unwrap().extend(alerts);
    }
    // A chat that does not answer ok gets the notification again.
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    reader.get_mut().write_all(answer).ok()
}
