//! The flags of `healthcheck`.

use std::time::Duration;

use clap::Args;

use super::examples;
use super::options::timeout;

/// The options of `healthcheck`.
#[derive(Debug, Clone, Args)]
#[command(after_help = examples::HEALTHCHECK)]
pub struct Healthcheck {
    /// URL to request, such as http://127.0.0.1:10101/-/ready. Without it, /-/healthy of the address that
    /// `serve` listens on. With https the certificate is not verified, and a server that demands one of
    /// its clients cannot be asked.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The address that `serve` listens on; the first one, where there are several.
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = ":10101")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_WEB_LISTEN_ADDRESS", value_delimiter = ',')]
    pub listen_addresses: Vec<String>,
    /// The longest time until the answer.
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = timeout)]
    pub timeout: Duration,
}
