//! The credentials: which of them can be used, why others rest, and how much each has served.

use std::time::Instant;

use serde::Serialize;

use crate::credentials::{Cooling, RestScope};
use crate::observability::StatusClass;
use crate::server::admin::gateway_state::GatewayState;

/// One credential.
#[derive(Debug, Serialize)]
pub struct CredentialView {
    name: String,
    weight: u16,
    state: CredentialState,
    /// The rest that matters most: of the whole credential, else the one that ends last.
    rest: Option<RestView>,
    rests: Vec<RestView>,
    requests: u64,
    errors: u64,
    /// Its part of the requests of all credentials since the start; `None` while there are none.
    share: Option<f64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum CredentialState {
    Up,
    /// Left alone as a whole.
    Resting,
    /// Left alone for some models or families of paths.
    Limited,
}

/// A time for which a credential is left alone.
#[derive(Debug, Clone, Serialize)]
struct RestView {
    scope: &'static str,
    /// The name of the model or of the family of paths.
    what: Option<String>,
    reason: &'static str,
    /// In seconds.
    ends_in: f64,
}

impl RestView {
    fn of(scope: Option<&RestScope>, cooling: Cooling, now: Instant) -> Self {
        RestView {
            scope: scope.map_or("all", RestScope::kind),
            what: scope.map(|scope| scope.name().to_owned()),
            reason: cooling.kind.as_str(),
            ends_in: cooling.until.saturating_duration_since(now).as_secs_f64(),
        }
    }
}

/// Returns all credentials, in the order of their file.
pub fn all(gateway: &GatewayState, now: Instant) -> Vec<CredentialView> {
    let credentials = gateway.shared.credentials.load();
    let mut views: Vec<CredentialView> = credentials
        .entries()
        .map(|(id, entry)| {
            let whole = credentials.cooling(id, now).map(|cooling| RestView::of(None, cooling, now));
            let state = if whole.is_some() { CredentialState::Resting } else { CredentialState::Up };
            let scoped = credentials.scoped_rests(id, now);
            let mut rests: Vec<RestView> =
                scoped.iter().map(|(scope, cooling)| RestView::of(Some(scope), *cooling, now)).collect();
            rests.sort_by(|one, other| other.ends_in.total_cmp(&one.ends_in));
            let state = if rests.is_empty() || whole.is_some() { state } else { CredentialState::Limited };
            rests.splice(..0, whole);
            let account = gateway.shared.ledger.account(&entry.name);
            let served = |classes: &[StatusClass]| classes.iter().map(|class| account.total(*class)).sum();
            CredentialView {
                name: entry.name.clone(),
                weight: entry.weight,
                state,
                rest: rests.first().cloned(),
                rests,
                requests: served(&StatusClass::ALL),
                errors: served(&[StatusClass::ClientError, StatusClass::ServerError, StatusClass::None]),
                share: None,
            }
        })
        .collect();
    let requests: u64 = views.iter().map(|view| view.requests).sum();
    for view in &mut views {
        view.share = (requests > 0).then(|| view.requests as f64 / requests as f64);
    }
    views
}
