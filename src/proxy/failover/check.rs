//! The check of an identity that got a 403 where another was served: does the upstream still know it?
//!
//! In the background, on the shard, beside the request that gave the reason, which it holds back by nothing: at most a
//! few at a time, one a minute for an identity, each on connections of its own that are closed after the head of their
//! answer, for [`CHECK_LIMIT`] at most, and none once the drain has begun.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::credentials::{CheckClaim, Cooling, CredentialFault, CredentialId, FaultKind};
use crate::io::{Either, Lifecycle, Phase, pause, race};
use crate::observability::{Activity, Count};
use crate::proxy::failover::rest_log::tell_rest;
use crate::proxy::own_request::{get_request, status_of};
use crate::proxy::resources::Resources;
use crate::proxy::resources::checks::CheckPlace;
use crate::proxy::snapshot::Snapshot;
use crate::upstream::Connector;

/// The longest that a check takes: listing models is quick.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// The path below the base path that every identity may ask for.
const CHECKED_PATH: &str = "/v1/models";

/// The identity to check, and the reason.
pub struct RefusedCheck {
    pub refused: CredentialId,
    /// The time at which it was chosen.
    pub chosen_at: Instant,
    /// The credential that was served.
    pub successful: CredentialId,
    /// The time of the refusal, from which on the refused one may be left alone for its model.
    pub at: Instant,
}

/// Everything that a check needs after the request that gave the reason is over.
struct CheckTask {
    check: RefusedCheck,
    requests: [Zeroizing<Vec<u8>>; 2],
    connector: Rc<Connector>,
    lifecycle: Rc<Lifecycle>,
    snapshot: Rc<Snapshot>,
    activity: Arc<Activity>,
    _place: CheckPlace,
}

/// Begins the check, if there was none of this identity within the minute; otherwise what is known stands. While one is
/// under way it concludes for all.
pub fn begin(resources: &Resources, snapshot: &Rc<Snapshot>, check: RefusedCheck) {
    let refused = check.refused;
    let is_serving = resources.lifecycle.phase() == Phase::Serving;
    let place = is_serving.then(|| resources.checks.take()).flatten();
    let Some(place) = place else { return tell_models(&resources.activity, snapshot, &check) };
    match snapshot.credentials.claim_check(refused, Instant::now()) {
        CheckClaim::Granted => {}
        CheckClaim::UnderWay => return,
        CheckClaim::Needless => return tell_models(&resources.activity, snapshot, &check),
    }
    let request = |credential| {
        let upstream = &resources.rules.upstream;
        snapshot.with_authorization(credential, |authorization| get_request(upstream, CHECKED_PATH, authorization)).ok()
    };
    let (Some(of_refused), Some(of_successful)) = (request(refused), request(check.successful)) else {
        snapshot.credentials.end_check(refused);
        return tell_models(&resources.activity, snapshot, &check);
    };
    let requests = [of_refused, of_successful];
    resources.activity.counters.add(Count::Checks);
    let task = CheckTask {
        check,
        requests,
        connector: resources.connector.clone(),
        lifecycle: resources.lifecycle.clone(),
        snapshot: snapshot.clone(),
        activity: resources.activity.clone(),
        _place: place,
    };
    monoio::spawn(task.run());
}

impl CheckTask {
    async fn run(self) {
        let CheckTask { check, snapshot, activity, .. } = &self;
        let interrupted = race(pause(CHECK_LIMIT), self.lifecycle.reached(Phase::Draining));
        let is_refused = match race(self.is_refused(), interrupted).await {
            Either::First(is_refused) => is_refused,
            Either::Second(_) => false,
        };
        let (credential, at) = (check.refused, check.chosen_at);
        tracing::info!(credential = snapshot.name(credential), is_refused, "credential was checked");
        let credentials = &snapshot.credentials;
        credentials.end_check(credential);
        if !is_refused {
            return tell_models(activity, snapshot, check);
        }
        if let Some(time) = credentials.cool(credential, CredentialFault::Refused, at, Instant::now()) {
            tell_rest(activity, snapshot, credential, CredentialFault::Refused, None, time);
        }
        // After the rest has begun, before which other shards may still leave it alone for a model.
        credentials.forget_forbidden(credential);
    }

    /// Asks with the refused identity, and with the other one where that is refused again: a path that nobody may ask
    /// for proves nothing.
    async fn is_refused(&self) -> bool {
        let [refused, successful] = &self.requests;
        if !matches!(status_of(&self.connector, refused).await, Ok(401 | 403)) {
            return false;
        }
        matches!(status_of(&self.connector, successful).await, Ok(200..=299))
    }
}

/// Tells the rests for models that have begun since the refusal, where those are what remains.
fn tell_models(activity: &Activity, snapshot: &Snapshot, check: &RefusedCheck) {
    let credential = check.refused;
    for (scope, Cooling { kind, began, until }) in snapshot.credentials.scoped_rests(credential, Instant::now()) {
        if kind == FaultKind::Forbidden && began >= check.at {
            tell_rest(activity, snapshot, credential, CredentialFault::Forbidden, Some(&scope), until - began);
        }
    }
}
