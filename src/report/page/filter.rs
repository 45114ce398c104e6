//! The filter in the address of the page: `/?haproxy=NAME&kind=KIND` shows one service, the causes of
//! one kind, or both.

use maud::{Markup, html};

use crate::judge::verdict::{Cause, ServiceVerdict, Verdict};
use crate::model::shortened::shortened;
use crate::policy::kind::Kind;
use crate::report::events::Event;
use crate::report::text::printable;

/// A name of the address is repeated on the page with at most this many characters.
const MOST_REPEATED: usize = 64;

/// What the address asks for. A name that is empty or missing asks for everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    service: Option<String>,
    kind: Option<String>,
}

impl Filter {
    /// Reads the query of an address, which may contain anything. The first of repeated keys counts,
    /// and unknown ones are ignored.
    #[must_use]
    pub fn from_query(query: Option<&str>) -> Filter {
        let query = query.unwrap_or_default();
        let value = |wanted: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            let (_, value) = pairs.find(|(key, _)| key == wanted)?;
            Some(value.into_owned()).filter(|value| !value.is_empty())
        };
        Filter { service: value("haproxy"), kind: value("kind") }
    }

    /// The whole page is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.service.is_none() && self.kind.is_none()
    }

    /// Causes of one kind are asked for.
    #[must_use]
    pub fn has_kind(&self) -> bool {
        self.kind.is_some()
    }

    /// Whether content about the service of this name is shown; `None` is content about no single service.
    #[must_use]
    pub fn takes_service(&self, name: Option<&str>) -> bool {
        self.service.is_none() || name.is_none() || self.service.as_deref() == name
    }

    /// Whether a service is shown. Where a kind is asked for, it needs a cause of that kind, unless it is
    /// asked for too.
    #[must_use]
    pub fn takes(&self, service: &ServiceVerdict) -> bool {
        self.takes_service(Some(&service.name))
            && (self.service.is_some()
                || self.kind.is_none()
                || service.causes.iter().any(|cause| self.takes_cause(cause)))
    }

    /// Whether a cause is shown: one of its anomalies is of the kind.
    #[must_use]
    pub fn takes_cause(&self, cause: &Cause) -> bool {
        self.takes_kinds(&cause.kinds)
    }

    /// Whether an event is shown.
    #[must_use]
    pub fn takes_event(&self, event: &Event) -> bool {
        let is_of_service = self.service.is_none() || self.service == event.service;
        is_of_service && self.takes_kinds(&event.kinds)
    }

    fn takes_kinds(&self, kinds: &[Kind]) -> bool {
        let kind = self.kind.as_deref();
        kind.is_none_or(|wanted| kinds.iter().any(|kind| kind.as_str() == wanted))
    }

    /// The sentences that say what is shown, with a link to the whole page.
    pub(super) fn note(&self, verdict: &Verdict) -> Markup {
        let service = self.service.as_deref();
        let is_known =
            service.is_none_or(|name| verdict.services.iter().any(|one| one.name == name));
        let kind = self.kind.as_deref();
        let is_kind = kind.is_none_or(|name| Kind::from_name(name).is_some());
        let any = verdict.services.iter().any(|service| {
            self.takes(service) && service.causes.iter().any(|cause| self.takes_cause(cause))
        });
        html! {
            p.filter {
                "This page shows only "
                @if let Some(name) = service { "the service " b { (repeated(name)) } }
                @if service.is_some() && kind.is_some() { " and " }
                @if let Some(name) = kind { "problems of the kind " b { (repeated(name)) } }
                ". " a href="/" { "Show the whole page" } "."
            }
            @if let Some(name) = service.filter(|_| !is_known) {
                p { strong { "There is no such service: " (repeated(name)) } "." }
            }
            @if let Some(name) = kind.filter(|_| !is_kind) {
                p { strong { "There is no such kind: " (repeated(name)) } "." }
            }
            @if is_known && is_kind && kind.is_some() && !any { p { "There is no such problem now." } }
        }
    }
}

/// A name of the address, made harmless and cut.
fn repeated(name: &str) -> String {
    printable(&shortened(name, MOST_REPEATED))
}

/// The name of a service, as a link to the page of this service alone.
pub(super) fn service_link(name: &str) -> Markup {
    let value: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    html! { a href={ "/?haproxy=" (value) } { (printable(name)) } }
}

/// The name of a kind, as a link to the causes of this kind on all services.
pub(super) fn kind_link(kind: Kind) -> Markup {
    html! { a href={ "/?kind=" (kind.as_str()) } { (kind.as_str()) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read() {
        let table = [
            (None, None, None),
            (Some(""), None, None),
            (Some("haproxy=lb"), Some("lb"), None),
            (Some("kind=port_split&haproxy=a%26b+c%2F"), Some("a&b c/"), Some("port_split")),
            (Some("haproxy=&kind="), None, None),
            (Some("haproxy=a&haproxy=b&x=y"), Some("a"), None),
            (Some("haproxy"), None, None),
            (Some("haproxy=%ff%zz"), Some("\u{fffd}%zz"), None),
        ];
        for (query, service, kind) in table {
            let [service, kind] = [service, kind].map(|name: Option<&str>| name.map(str::to_owned));
            assert_eq!(Filter::from_query(query), Filter { service, kind }, "{query:?}");
        }
    }

    #[test]
    fn a_link_leads_to_its_service_whatever_its_name() {
        for name in ["lb", "a&b=c", "<img src=x onerror=f(1)>", "é \"'/?#%+@1000"] {
            let link = service_link(name).into_string();
            let (_, rest) = link.split_once("href=\"/?").unwrap();
            let (query, _) = rest.split_once('"').unwrap();
            assert!(Filter::from_query(Some(query)).takes_service(Some(name)), "{link}");
            assert!(!link.contains("<img") && query.is_ascii(), "{link}");
        }
    }
}
