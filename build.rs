//! Tells the program which source and compiler it was built from.

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let rustversion = output(Command::new(rustc).arg("--version"));
    let revision = output(Command::new("git").args(["rev-parse", "--short=12", "HEAD"]));
    println!("cargo:rustc-env=BUILD_RUSTVERSION={}", second_word(&rustversion));
    println!("cargo:rustc-env=BUILD_REVISION={}", or_unknown(revision.trim()));
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/refs/heads");
}

fn output(command: &mut Command) -> String {
    let output = command.output().ok().filter(|output| output.status.success());
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn second_word(text: &str) -> &str {
    or_unknown(text.split_ascii_whitespace().nth(1).unwrap_or_default())
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}
