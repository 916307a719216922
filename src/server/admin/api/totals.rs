//! The requests since the start, and those of them that failed.

use serde::Serialize;

use crate::observability::StatusClass;
use crate::server::admin::gateway_state::GatewayState;

/// The requests that are over since the start.
#[derive(Debug, Serialize)]
pub struct TotalsView {
    requests: u64,
    errors: ErrorTotals,
}

#[derive(Debug, Serialize)]
struct ErrorTotals {
    #[serde(rename = "4xx")]
    client: u64,
    #[serde(rename = "5xx")]
    server: u64,
    /// No answer was begun.
    none: u64,
}

impl TotalsView {
    pub fn of(gateway: &GatewayState) -> Self {
        let accounts = gateway.shared.ledger.accounts();
        let total = |class| accounts.iter().map(|account| account.total(class)).sum::<u64>();
        TotalsView {
            requests: StatusClass::ALL.into_iter().map(total).sum(),
            errors: ErrorTotals {
                client: total(StatusClass::ClientError),
                server: total(StatusClass::ServerError),
                none: total(StatusClass::None),
            },
        }
    }
}
