//! The pages: whether the process is alive, whether it is ready, and what it has counted.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use prometheus::TEXT_FORMAT;
use serde_json::{Value, json};

use super::api::events;
use super::api::history::{STEPS_MAX, StateHistory};
use super::api::sample::CountSample;
use super::api::state::StateView;
use super::api::usage::costs::Costs;
use super::api::usage::file_totals::FileTotals;
use super::api::usage::report::{self, TotalsQuestion};
use super::gateway_state::GatewayState;
use super::liveness_probe::ShardLiveness;
use super::metrics;
use super::refusal::AdminRefusal;
use super::reply::AdminReply;
use super::stage::Stage;
use crate::credentials::{Cooling, Credentials, RestScope};
use crate::io::pause;
use crate::server::shard::shared::Shared;

/// The time within which a shard must answer. A busy one does within milliseconds; one that does not in a second is
/// stuck.
const ALIVE_LIMIT: Duration = Duration::from_secs(1);

/// The same for the page of figures, which is to come also where a shard hangs.
const STATE_PATIENCE: Duration = Duration::from_millis(200);

/// The pause between two samples of what was counted.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Less than the pause between two events of one who follows.
const EVENT_AGE_MAX: Duration = Duration::from_millis(800);

/// The pages about one gateway.
pub struct Pages {
    pub gateway: GatewayState,
    history: RefCell<StateHistory>,
    costs: Costs,
    /// The last event, and when it was made.
    event: RefCell<Option<(Instant, Rc<[u8]>)>>,
}

impl Pages {
    pub fn new(gateway: GatewayState) -> Self {
        let Shared { config, unwritten, .. } = &*gateway.shared;
        let file = config.usage.written_file().map(|path| FileTotals::new(path.clone(), unwritten.clone()));
        Pages { gateway, history: RefCell::default(), costs: Costs::new(file), event: RefCell::default() }
    }

    /// Samples what the shards have counted, for as long as it is polled: also while nobody looks.
    pub async fn keep_history(&self) -> ! {
        loop {
            self.history.borrow_mut().add(CountSample::of(&self.gateway, Instant::now()), SystemTime::now());
            pause(SAMPLE_INTERVAL).await;
        }
    }

    /// Asks every shard, and reports which of them answer.
    pub async fn health(&self) -> AdminReply {
        let liveness = self.gateway.liveness_probe.ask(ALIVE_LIMIT).await;
        let shard = |(number, liveness): (usize, &ShardLiveness)| json!({"shard": number, "state": liveness.as_str()});
        let shards: Vec<Value> = liveness.iter().enumerate().map(shard).collect();
        let silent: Vec<String> = (0..liveness.len())
            .filter(|number| liveness[*number] == ShardLiveness::Silent)
            .map(|number| number.to_string())
            .collect();
        if silent.is_empty() {
            return AdminReply::json(200, &json!({"status": "ok", "shards": shards}));
        }
        let reason = format!("no answer within {} s from shard {}", ALIVE_LIMIT.as_secs(), silent.join(", "));
        AdminReply::json(503, &json!({"status": "failing", "reason": reason, "shards": shards}))
    }

    /// Reports whether new requests are served. Credentials that cool down are listed and change nothing: the gateway
    /// still serves with the others, so a load balancer should not take it out.
    pub fn readiness(&self) -> AdminReply {
        let (status, word, reason) = match self.gateway.stage.get() {
            Stage::Starting => (503, "starting", Some("the listener is not served yet")),
            Stage::Serving => (200, "ready", None),
            Stage::Draining => (503, "draining", Some("open requests are ended and no new ones are taken")),
        };
        let credentials = self.gateway.shared.credentials.load();
        let now = Instant::now();
        let mut page = json!({
            "status": word,
            "name": "flow-uring",
            "version": env!("CARGO_PKG_VERSION"),
            "process": std::process::id(),
            "credentials": credentials.len(),
            "cooldowns": cooldowns(&credentials, now),
            "limited_for_all": limits(&credentials, now),
        });
        if let Some(reason) = reason {
            page["reason"] = reason.into();
        }
        AdminReply::json(status, &page)
    }

    /// Returns the whole state. The shards are asked first: so the page shows at once where one hangs.
    pub async fn state(&self) -> AdminReply {
        AdminReply::json(200, &self.view(STEPS_MAX).await)
    }

    /// Returns the event of this second, made once for all who follow.
    pub async fn event(&self) -> Rc<[u8]> {
        if let Some((made, event)) = &*self.event.borrow()
            && made.elapsed() < EVENT_AGE_MAX
        {
            return event.clone();
        }
        let event: Rc<[u8]> = events::event(&self.view(1).await).into();
        *self.event.borrow_mut() = Some((Instant::now(), event.clone()));
        event
    }

    pub fn is_draining(&self) -> bool {
        self.gateway.stage.get() == Stage::Draining
    }

    /// Ends the rests of a credential.
    ///
    /// # Errors
    /// [`AdminRefusal::UnknownCredential`].
    pub fn wake(&self, name: &str) -> Result<AdminReply, AdminRefusal> {
        let credentials = self.gateway.shared.credentials.load();
        let (id, entry) =
            credentials.entries().find(|(_, entry)| entry.name == name).ok_or(AdminRefusal::UnknownCredential)?;
        let was_resting = credentials.wake(id, Instant::now());
        tracing::info!(credential = entry.name, was_resting, "the credential was woken by hand");
        Ok(AdminReply::json(200, &json!({"woken": was_resting})))
    }

    /// Returns the totals of usage that a query asks for.
    ///
    /// # Errors
    /// [`AdminRefusal::BadQuery`], [`AdminRefusal::UsageUnavailable`].
    pub async fn usage(&self, query: &str, wants_csv: bool) -> Result<AdminReply, AdminRefusal> {
        let question = TotalsQuestion::of(query, SystemTime::now())?;
        report::answer(question, &self.gateway, &self.costs, wants_csv).await
    }

    async fn view(&self, steps_count: usize) -> StateView {
        self.gateway.liveness_probe.activities().for_each(|activity| activity.view.ask());
        let liveness = self.gateway.liveness_probe.ask(STATE_PATIENCE).await;
        let answering = liveness.iter().filter(|liveness| **liveness == ShardLiveness::Answers).count();
        let spent = self.costs.sums(&self.gateway).await;
        StateView::of(&self.gateway, &self.history.borrow(), &spent, answering, steps_count)
    }

    /// Writes all metrics. The shards are asked first, since only they know their idle connections.
    pub async fn metrics(&self) -> AdminReply {
        let liveness = self.gateway.liveness_probe.ask(ALIVE_LIMIT).await;
        // A shard that has drained and ended is not stuck.
        let alive = liveness.iter().filter(|liveness| **liveness != ShardLiveness::Silent).count();
        match metrics::text(&self.gateway, alive) {
            Ok(body) => AdminReply::new(200, TEXT_FORMAT, body),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                AdminReply::json(
                    500,
                    &json!({"error": {"message": "The metrics cannot be written; the log says why."}}),
                )
            }
        }
    }
}

/// Lists the rests, of whole credentials and for one model or family of paths.
fn cooldowns(credentials: &Credentials, now: Instant) -> Vec<Value> {
    let mut listed = Vec::new();
    for (id, entry) in credentials.entries() {
        let whole = credentials.cooling(id, now).map(|cooling| (None, cooling));
        let scoped = credentials.scoped_rests(id, now).into_iter().map(|(scope, cooling)| (Some(scope), cooling));
        listed.extend(whole.into_iter().chain(scoped).map(|(scope, cooling)| {
            let mut rest = rest(scope.as_ref(), cooling, now);
            rest["credential"] = entry.name.as_str().into();
            rest
        }));
    }
    listed
}

/// Lists the models and families of paths that are limited whoever asks.
fn limits(credentials: &Credentials, now: Instant) -> Vec<Value> {
    credentials.limits_for_all(now).iter().map(|(scope, cooling)| rest(Some(scope), *cooling, now)).collect()
}

fn rest(scope: Option<&RestScope>, cooling: Cooling, now: Instant) -> Value {
    let Cooling { kind, began, until } = cooling;
    let system_now = SystemTime::now();
    let at = |instant: Instant| {
        let time = match instant.checked_duration_since(now) {
            Some(ahead) => system_now.checked_add(ahead),
            None => system_now.checked_sub(now - instant),
        };
        httpdate::fmt_http_date(time.unwrap_or(system_now))
    };
    let mut rest = json!({
        "scope": scope.map_or("credential", RestScope::kind),
        "seconds": until.saturating_duration_since(now).as_secs_f64().ceil() as u64,
        "reason": kind.as_str(),
        "since": at(began),
        "until": at(until),
    });
    if let Some(scope) = scope {
        rest[scope.kind()] = scope.name().into();
    }
    rest
}
