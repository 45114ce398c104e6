//! The last events, on the page for a person.

use maud::{Markup, html};

use super::filter::{Filter, kind_link, service_link};
use super::times::date_and_age;
use crate::report::events::Events;

/// Renders the events that the filter takes, newest first.
pub fn events(events: &Events, filter: &Filter, now: f64) -> Markup {
    let mut shown = events.newest_first().filter(|event| filter.takes_event(event)).peekable();
    html! {
        section aria-labelledby="events" {
            h2 id="events" { "Last events" }
            @if shown.peek().is_none() {
                p { "None since the exporter was started." }
            } @else {
                ul.events {
                    @for event in shown {
                        li {
                            (date_and_age(event.time, now)) ": "
                            @if let Some(name) = &event.service { (service_link(name)) ": " }
                            @if let Some(kind) = event.kinds.first() { (kind_link(*kind)) " " }
                            (event.words)
                        }
                    }
                }
            }
        }
    }
}
