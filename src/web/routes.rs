//! What each path answers. Pure: a request and the last page in, a response out.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::{Page, Settings, landing};

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// Answers a request.
pub fn answer<B>(
    request: &Request<B>,
    settings: &Settings,
    page: Option<&Page>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let known = path == settings.telemetry_path || ["/", "/-/healthy", "/-/ready"].contains(&path);
    if !known {
        return text(StatusCode::NOT_FOUND, "not found; see / for what there is\n");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/" => respond(StatusCode::OK, HTML, landing::page(settings, page).into()),
        "/-/healthy" => text(StatusCode::OK, "healthy\n"),
        "/-/ready" => ready(settings, page),
        _ => match page {
            Some(page) => respond(StatusCode::OK, METRICS_TYPE, page.metrics.clone()),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "no sample has been taken yet\n"),
        },
    }
}

fn ready(settings: &Settings, page: Option<&Page>) -> Response<Full<Bytes>> {
    let late = settings.sample_interval * 3 + std::time::Duration::from_secs(5);
    match page.map(|page| page.rendered.elapsed()) {
        None => text(StatusCode::SERVICE_UNAVAILABLE, "no sample has been taken yet\n"),
        Some(age) if age > late => {
            let body = format!("the last sample is {} s old\n", age.as_secs());
            respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, body.into())
        }
        Some(_) => text(StatusCode::OK, "ready\n"),
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    respond(status, TEXT, Bytes::from_static(body.as_bytes()))
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::verdict::Verdict;
    use std::time::{Duration, Instant};

    fn status(method: Method, path: &str, page: Option<&Page>) -> u16 {
        let interval = Duration::from_secs(5);
        let settings =
            Settings { telemetry_path: "/metrics".to_owned(), sample_interval: interval };
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        answer(&request, &settings, page).status().as_u16()
    }

    #[test]
    fn each_path_answers() {
        let page = |age| Page {
            metrics: Bytes::from_static(b"a 1\n"),
            verdict: Verdict::default(),
            rendered: Instant::now().checked_sub(Duration::from_secs(age)).unwrap(),
        };
        let (fresh, old) = (page(0), page(60));
        let table = [
            (Method::GET, "/metrics", Some(&fresh), 200),
            (Method::HEAD, "/metrics?x=1", Some(&fresh), 200),
            (Method::GET, "/metrics", None, 503),
            (Method::POST, "/metrics", Some(&fresh), 405),
            (Method::GET, "/", None, 200),
            (Method::GET, "/-/healthy", None, 200),
            (Method::GET, "/-/ready", None, 503),
            (Method::GET, "/-/ready", Some(&fresh), 200),
            (Method::GET, "/-/ready", Some(&old), 503),
            (Method::GET, "/metrics/", Some(&fresh), 404),
        ];
        for (method, path, page, expected) in table {
            assert_eq!(status(method.clone(), path, page), expected, "{method} {path}");
        }
    }
}
