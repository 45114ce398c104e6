//! `backup list`: which backups there are.

use serde_json::json;

use super::answer::{Answer, Stopped, now, size};
use super::lookup;
use crate::backup::disk::store::{Form, Store, Stored};
use crate::cli::BackupList;
use crate::cmd::ANOMALIES;
use crate::model::time::age;

/// Lists the backups, oldest first.
pub fn run(arguments: &BackupList, answer: &mut Answer) -> Result<(), Stopped> {
    let directory = lookup::directory(&arguments.options, arguments.to.as_deref())?;
    let mut all = Store::open(&directory, false)?.list()?;
    if let Some(name) = &arguments.haproxy {
        all.retain(|stored| {
            stored.manifest.as_ref().is_ok_and(|manifest| manifest.haproxy == *name)
        });
    }
    if all.is_empty() {
        answer.line(&format!("no backup in {}", directory.display()));
    }
    let width = all.iter().map(|stored| stored.name.len()).max().unwrap_or(0);
    for stored in &all {
        answer.line(&format!("{:width$}  {}", stored.name, about(stored)));
        if stored.manifest.is_err() {
            answer.worsen(ANOMALIES);
        }
    }
    answer.json = json!({"version": 1, "backups": all.iter().map(as_json).collect::<Vec<_>>()});
    Ok(())
}

fn about(stored: &Stored) -> String {
    let manifest = match &stored.manifest {
        Ok(manifest) => manifest,
        Err(why) => return why.clone(),
    };
    let verified = stored.verified.as_ref().and_then(|verified| verified.programs.last());
    let verified = verified.map_or_else(
        || "not verified".to_owned(),
        |by| format!("verified {} ago with HAProxy {}", since(by.timestamp), by.version),
    );
    let form = if stored.form == Form::Archive { ", archive" } else { "" };
    let kind = if manifest.safety { ", what a restore replaced" } else { "" };
    format!("{} old, {}{form}{kind}, {verified}", since(manifest.taken), size(manifest.bytes()))
}

#[allow(clippy::cast_precision_loss)] // an age is small
fn since(timestamp: i64) -> String {
    age((now() - timestamp) as f64)
}

fn as_json(stored: &Stored) -> serde_json::Value {
    let manifest = stored.manifest.as_ref();
    json!({
        "name": stored.name,
        "haproxy": manifest.ok().map(|manifest| &manifest.haproxy),
        "taken_timestamp": manifest.ok().map(|manifest| manifest.taken),
        "bytes": manifest.ok().map(crate::backup::manifest::Manifest::bytes),
        "safety": manifest.ok().map(|manifest| manifest.safety),
        "archive": stored.form == Form::Archive,
        "fault": manifest.err(),
        "verified": stored.verified.as_ref().map(|verified| &verified.programs),
    })
}
