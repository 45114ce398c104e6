//! The answer of `check`, and how it names what could not be read.

use crate::model::{Unreadable, What};
use crate::sample::files::problem::Problem;

/// The answer of `check`.
pub struct Answer {
    /// What goes to standard output.
    pub text: String,
    /// What goes to standard error, one line each.
    pub notes: Vec<String>,
    /// The exit code.
    pub code: u8,
}

/// What a file that could not be read hides, and which right is missing.
pub fn unreadable(problem: &Problem) -> Unreadable {
    let (subject, reason) = match problem {
        Problem::Forbidden { path } => {
            (path, "permission denied; needs CAP_DAC_READ_SEARCH".to_owned())
        }
        Problem::Missing { path }
        | Problem::Unreadable { path, .. }
        | Problem::NotAFile { path }
        | Problem::Withheld { path }
        | Problem::OverAllowance { path }
        | Problem::TooLarge { path, .. }
        | Problem::TooMany { path, .. } => (path, problem.to_string()),
    };
    Unreadable { what: What::Config, subject: subject.display().to_string(), reason }
}
