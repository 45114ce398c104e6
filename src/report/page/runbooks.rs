//! `/runbooks/`: the list of the runbooks that the program has.

use maud::html;

use super::landing::framed;
use crate::report::runbooks;

/// The whole page, with a link to each runbook.
#[must_use]
pub fn list() -> String {
    let lead = html! { "The runbooks of all alerts. A kind of anomaly has that of its alert." };
    let list = html! {
        ul { @for name in runbooks::names() { li { a href=(name) { (name) } } } }
    };
    framed(&lead, &list)
}
