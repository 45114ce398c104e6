//! The source and the compiler that this program was built from, as `build.rs` found them.

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The abbreviated commit; `unknown` outside a git checkout.
pub const REVISION: &str = env!("BUILD_REVISION");

/// The version of the Rust compiler.
pub const RUSTVERSION: &str = env!("BUILD_RUSTVERSION");

/// The label values of `haproxy_host_exporter_build_info`, in the order of the catalogue.
pub const LABELS: [&str; 3] = [VERSION, REVISION, RUSTVERSION];

/// The line that `--version` prints.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (revision ",
    env!("BUILD_REVISION"),
    ", rustc ",
    env!("BUILD_RUSTVERSION"),
    ")"
);
