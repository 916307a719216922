//! The parts of Flow that the demo takes over: its name, its base path and its credentials.

/// The host that the demo's certificate names.
pub const UPSTREAM_HOST: &str = "flow.ciandt.com";
/// The upstream URL that a gateway in front of the demo is configured with; its host is never resolved or contacted,
/// for the gateway connects to [`super::DemoUpstream::address`].
pub const UPSTREAM_URL: &str = "https://flow.ciandt.com/flow-llm-proxy";
/// The path below which the embedded upstream answers, as Flow does.
pub const BASE_PATH: &str = "/flow-llm-proxy";

/// One made-up credential of the demo.
#[derive(Clone)]
pub struct DemoCredential {
    pub client_id: String,
    pub client_secret: String,
    pub tenant: String,
}
