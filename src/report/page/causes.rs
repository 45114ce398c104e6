//! The causes of what is wrong with a service, on the page for a person.

use maud::{Markup, html};

use super::filter::{Filter, kind_link};
use super::times::ago;
use crate::judge::verdict::Cause;
use crate::report::causes::ports_of;
use crate::report::text::{counted, more, printable};

/// The number of causes of a service that the page shows before it counts the rest.
const MOST_CAUSES: usize = 50;

/// Renders the causes of a service that the filter takes.
pub fn causes(causes: &[Cause], filter: &Filter, now: f64) -> Markup {
    let causes: Vec<&Cause> = causes.iter().filter(|cause| filter.takes_cause(cause)).collect();
    html! {
        h3 { "Problems" }
        @if causes.is_empty() { p { "None." } }
        @for cause in causes.iter().copied().take(MOST_CAUSES) { (article(cause, now)) }
        @if let Some(more) = more(causes.len(), MOST_CAUSES, "problems; inspect --output json lists them all") {
            p { (more) }
        }
    }
}

fn article(cause: &Cause, now: f64) -> Markup {
    let others: Vec<_> = cause.kinds.iter().filter(|kind| **kind != cause.kind).collect();
    html! {
        article class=(cause.severity.as_str()) id={ "cause-" (cause.id) } {
            h4 {
                span.severity { (cause.severity.as_str()) }
                " " (kind_link(cause.kind))
                @if !cause.subject.is_empty() { ": " (printable(&cause.subject)) }
            }
            p {
                (cause.kind.effect())
                @if cause.pending { ", pending, seen for " } @else { ", for " }
                (ago(cause.since, now))
            }
            @if !cause.ports.is_empty() {
                p { (counted(cause.ports.len(), "port", "ports")) ": " (ports_of(cause)) }
            }
            ul {
                @for fact in &cause.evidence { li { (printable(fact)) } }
                @if !others.is_empty() {
                    li {
                        "also "
                        @for (place, kind) in others.iter().enumerate() {
                            @if place > 0 { ", " }
                            (kind_link(**kind))
                        }
                    }
                }
            }
            p { b { "Do:" } " " (printable(&cause.advice)) }
            p { a href={ "/runbooks/" (cause.kind.as_str()) } { "Runbook" } }
        }
    }
}
