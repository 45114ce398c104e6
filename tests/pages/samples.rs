//! What README.md shows of `inspect` is the sample of a runbook, which `tests/samples` takes from a real host.

use std::path::Path;

use super::read;

#[test]
fn the_readme_shows_the_sample_of_a_runbook() {
    let runbook = read(Path::new("alerts/runbooks/HAProxyPortBlocked.md"));
    let (_, sample) = runbook.split_once("## What inspect shows\n\n```\n").unwrap();
    let (sample, _) = sample.split_once("```").unwrap();
    let readme = read(Path::new("README.md"));
    assert!(
        readme.contains(&format!("```console\n{sample}```")),
        "README.md does not show\n{sample}"
    );
}
