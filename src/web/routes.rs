//! The answer of each path: a request and the last page in, a response out.

use hyper::body::Bytes;
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

use super::body::Chunks;
use super::page::{Page, Settings};
use crate::report::page::filter::Filter;
use crate::report::page::{self, landing};
use crate::report::runbooks;

/// The path that reloads the configuration.
pub const RELOAD: &str = "/-/reload";
const HEALTHY: &str = "/-/healthy";
const READY: &str = "/-/ready";
const STATE: &str = "/state.json";
/// The list of the runbooks. Below it is each runbook, by kind or alert.
const RUNBOOKS: &str = "/runbooks/";

/// The content type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// Whether a path is for probes.
#[must_use]
pub fn is_probe(path: &str) -> bool {
    path == HEALTHY || path == READY
}

/// Answers a request.
pub fn answer<B>(
    request: &Request<B>,
    settings: &Settings,
    page: Option<&Page>,
) -> Response<Chunks> {
    let path = request.uri().path();
    let runbook = path.strip_prefix(RUNBOOKS).and_then(runbooks::runbook);
    let known = path == settings.telemetry_path
        || ["/", STATE, RUNBOOKS, HEALTHY, READY, RELOAD].contains(&path)
        || runbook.is_some();
    if !known {
        return text(StatusCode::NOT_FOUND, "not found; see / for what there is\n");
    }
    if path == RELOAD {
        if request.method() != Method::POST {
            return only("POST", "only POST\n");
        }
        let why =
            "reloading by request is off; start with --web.enable-lifecycle, or send SIGHUP\n";
        return text(StatusCode::FORBIDDEN, why);
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return only("GET, HEAD", "only GET and HEAD\n");
    }
    if let Some(runbook) = runbook {
        return respond(StatusCode::OK, TEXT, [Bytes::from_static(runbook.as_bytes())]);
    }
    match (path, page) {
        ("/", _) => person(settings, page, &Filter::from_query(request.uri().query())),
        (RUNBOOKS, _) => document(page::runbooks::list()),
        (HEALTHY, _) => text(StatusCode::OK, "healthy\n"),
        (_, None) => text(StatusCode::SERVICE_UNAVAILABLE, "no sample has been taken yet\n"),
        (READY, Some(page)) => ready(settings, page),
        (STATE, Some(page)) => state(page),
        (_, Some(page)) => metrics(page, request.headers()),
    }
}

fn only(methods: &'static str, why: &'static str) -> Response<Chunks> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, why);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn metrics(page: &Page, headers: &HeaderMap) -> Response<Chunks> {
    let gzip = takes_gzip(headers);
    let body = if gzip { vec![page.metrics_gzip()] } else { page.metrics.clone() };
    let mut response = respond(StatusCode::OK, METRICS_TYPE, body);
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Whether a client accepts gzip (RFC 9110, 12.5.3): `gzip`, `x-gzip` or `*` with a weight above 0.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut best = None;
    for coding in values.flat_map(|value| value.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        let wanted = weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|q| q > 0.0));
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            return wanted;
        }
        if name == "*" {
            best = Some(wanted);
        }
    }
    best.unwrap_or(false)
}

/// The page for a person. The age of the sample is computed for each request; the whole content is
/// rendered once, and a part of it for each request.
fn person(settings: &Settings, page: Option<&Page>, filter: &Filter) -> Response<Chunks> {
    let age = page.map(|page| page.rendered.elapsed());
    let late = age.is_some_and(|age| age > settings.late_after());
    document(match page {
        Some(page) if filter.is_empty() => landing::document(age, late, page.person()),
        Some(page) => landing::document(age, late, &page.filtered(filter)),
        None => landing::document(None, false, &landing::no_content(&settings.telemetry_path)),
    })
}

/// Responds with HTML that a browser shows, and neither runs nor keeps anything of.
fn document(html: String) -> Response<Chunks> {
    let mut response = respond(StatusCode::OK, HTML, [html.into()]);
    let fixed: [(HeaderName, &str); 4] = [
        (CONTENT_SECURITY_POLICY, landing::POLICY),
        (X_FRAME_OPTIONS, "deny"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The state of the last sample for programs, which no cache may keep.
fn state(page: &Page) -> Response<Chunks> {
    let mut response = respond(StatusCode::OK, JSON, [page.state()]);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn ready(settings: &Settings, page: &Page) -> Response<Chunks> {
    let age = page.rendered.elapsed();
    if age <= settings.late_after() {
        return text(StatusCode::OK, "ready\n");
    }
    let body = format!("the last sample is {} s old\n", age.as_secs());
    respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, [body.into()])
}

/// Responds with a line of text.
pub fn text(status: StatusCode, body: &'static str) -> Response<Chunks> {
    respond(status, TEXT, [Bytes::from_static(body.as_bytes())])
}

/// Responds that the server failed, and why.
pub fn failed(why: String) -> Response<Chunks> {
    respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, [why.into()])
}

fn respond(
    status: StatusCode,
    kind: &'static str,
    body: impl IntoIterator<Item = Bytes>,
) -> Response<Chunks> {
    let mut response = Response::new(Chunks::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::verdict::Verdict;
    use crate::metrics::Exposition;
    use crate::report::events::Events;
    use flate2::read::GzDecoder;
    use std::io::Read as _;
    use std::time::{Duration, Instant};

    fn settings(enable_lifecycle: bool) -> Settings {
        Settings {
            telemetry_path: "/metrics".to_owned(),
            sample_interval: Duration::from_secs(5),
            max_requests: 0,
            enable_lifecycle,
            config_file: None,
        }
    }

    fn page(age: u64) -> Page {
        let metrics = Exposition { metrics: vec!["a 1\n".into()] };
        let mut page = Page::new(metrics, Verdict::default(), Events::default(), 1000, "/metrics");
        page.rendered = Instant::now().checked_sub(Duration::from_secs(age)).unwrap();
        page
    }

    fn ask(method: &Method, path: &str, page: Option<&Page>) -> Response<Chunks> {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        answer(&request, &settings(false), page)
    }

    #[test]
    fn each_path_answers() {
        let (fresh, old) = (page(0), page(60));
        let table = [
            (Method::GET, "/metrics", Some(&fresh), 200),
            (Method::HEAD, "/metrics?x=1", Some(&fresh), 200),
            (Method::GET, "/metrics", None, 503),
            (Method::POST, "/metrics", Some(&fresh), 405),
            (Method::GET, "/", None, 200),
            (Method::GET, "/?haproxy=lb&kind=%ff", None, 200),
            (Method::GET, "/?haproxy=no+such&kind=none", Some(&fresh), 200),
            (Method::POST, "/?haproxy=lb", Some(&fresh), 405),
            (Method::GET, "/state.json", None, 503),
            (Method::GET, "/state.json", Some(&fresh), 200),
            (Method::GET, "/runbooks/", None, 200),
            (Method::POST, "/runbooks/", None, 405),
            (Method::GET, "/runbooks/port_blocked", None, 200),
            (Method::GET, "/runbooks/HAProxyDown", None, 200),
            (Method::POST, "/runbooks/HAProxyDown", None, 405),
            (Method::GET, "/runbooks/../README", None, 404),
            (Method::GET, "/-/healthy", None, 200),
            (Method::GET, "/-/ready", None, 503),
            (Method::GET, "/-/ready", Some(&fresh), 200),
            (Method::GET, "/-/ready", Some(&old), 503),
            (Method::GET, "/-/reload", Some(&fresh), 405),
            (Method::POST, "/-/reload", Some(&fresh), 403),
            (Method::GET, "/metrics/", Some(&fresh), 404),
        ];
        for (method, path, page, expected) in table {
            let response = ask(&method, path, page);
            assert_eq!(response.status().as_u16(), expected, "{method} {path}");
            assert_eq!(response.headers().contains_key(ALLOW), expected == 405, "{method} {path}");
        }
    }

    #[test]
    fn the_page_shows_its_age_even_when_samples_stop() {
        let text = |age| ask(&Method::GET, "/", Some(&page(age))).body().text();
        assert!(text(0).contains("0s ago"), "{}", text(0));
        assert!(text(60).contains("samples have stopped"), "{}", text(60));
    }

    #[test]
    fn the_list_of_runbooks_leads_to_each_of_them() {
        let list = ask(&Method::GET, "/runbooks/", None).body().text();
        for name in runbooks::names() {
            assert!(list.contains(&format!("<a href=\"{name}\">")), "{list}");
            let runbook = ask(&Method::GET, &format!("/runbooks/{name}"), None).body().text();
            assert!(runbook.starts_with(&format!("# {name}\n")), "{runbook}");
        }
    }

    #[test]
    fn gzip_when_asked_for() {
        let table = [
            ("gzip", true),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("GZIP", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0, *", false),
            ("*;q=0", false),
            ("identity", false),
            ("br", false),
            ("", false),
        ];
        for (value, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
            assert_eq!(takes_gzip(&headers), expected, "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn the_compressed_page_is_the_page() {
        let parts = ["a 1\n".repeat(100_000), "b{x=\"ü\"} 2\n".to_owned()];
        let metrics = Exposition { metrics: parts.iter().cloned().map(Bytes::from).collect() };
        let page = Page::new(metrics, Verdict::default(), Events::default(), 1000, "/metrics");
        let packed = page.metrics_gzip();
        let mut text = String::new();
        GzDecoder::new(packed.as_ref()).read_to_string(&mut text).unwrap();
        assert!(text == parts.concat() && packed.len() < text.len() / 10);
        assert_eq!(page.metrics_gzip().as_ptr(), packed.as_ptr(), "it is compressed once");
    }
}
