//! `explain`: the runbook about a kind of anomaly or an alert.

use std::io::Write as _;

use super::{Error, OK};
use crate::policy::kind::Kind;
use crate::report::runbooks;

/// Prints the runbook.
pub fn run(name: &str) -> Result<u8, Error> {
    let Some(text) = runbooks::runbook(name) else {
        let kinds = Kind::ALL.into_iter().map(Kind::as_str);
        let names = kinds.chain(runbooks::names()).collect();
        return Err(Error::UnknownRunbook { name: name.to_owned(), names });
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(OK)
}
