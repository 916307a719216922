//! The prices of models, where a request may not go on without them.

use std::time::{Duration, Instant};

use crate::proxy::downstream::Downstream;
use crate::proxy::error::GatewayError;
use crate::proxy::failover::wait::pause;
use crate::proxy::outcome::Outcome;
use crate::proxy::price_question;
use crate::proxy::resources::Resources;
use crate::proxy::snapshot::Snapshot;
use crate::usage::tokens::EstimatedTokens;

/// The longest wait for the upstream's list of prices, with the first request of a key that needs it.
const WAIT_MAX: Duration = Duration::from_secs(10);
const ONE_OF_EACH: EstimatedTokens = EstimatedTokens { input: 1, output: 1 };
/// The time between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Checks that a model has a price for what goes in and what comes out. Those of the upstream are asked for with the
/// first request that needs them.
///
/// # Errors
/// The end of the exchange: the model has no price, none are known, or the client has left.
pub async fn check_price(
    resources: &Resources,
    downstream: &Downstream,
    snapshot: &Snapshot,
    model: &str,
) -> Result<(), Outcome> {
    let due = Instant::now() + WAIT_MAX;
    let prices = &resources.prices;
    price_question::ask_if_due(resources, snapshot, true);
    let table = loop {
        if let Some(table) = prices.table() {
            break table;
        }
        if !prices.are_asked_for() || Instant::now() >= due {
            return Err(Outcome::Failed(GatewayError::PricesUnknown));
        }
        pause(resources, downstream, LOOK).await?;
    };
    if table.estimate(model, ONE_OF_EACH).is_some() {
        Ok(())
    } else {
        Err(Outcome::Failed(GatewayError::ModelWithoutPrice))
    }
}
