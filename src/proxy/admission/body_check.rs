//! The check of what a request asks for, for a key that may not ask for everything.
//!
//! The body is held until it is whole: of several members of one name most parsers take the last, so there is no answer
//! before the end. Invariant: a request passes only if every model that it names, in its path, its query and its body,
//! is allowed, and one is named where a model is called; and for a key whose use is limited nothing is done whose cost
//! is not known when its answer ends.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;

use crate::credentials::ModelPattern;
use crate::http1::body::BodyReader;
use crate::io::turns::spend;
use crate::proxy::admission::prices::check_price;
use crate::proxy::attempt::request_body::hold_body::hold_body;
use crate::proxy::attempt::request_body::upload::READ_ROOM;
use crate::proxy::downstream::Downstream;
use crate::proxy::error::GatewayError;
use crate::proxy::exchange::Exchange;
use crate::proxy::outcome::Outcome;
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::replay::content::ContentCursor;
use crate::proxy::request::head::RequestFacts;
use crate::proxy::request::model::asked::{
    AskedMembers, AskedModels, NotSure, begins_batch, begins_work, calls_a_model, decoded,
};
use crate::proxy::request::path::strip_base_path;
use crate::proxy::request::plan::UpstreamRequest;
use crate::proxy::resources::Resources;

/// Checks the request whose head stands in the copy. `unreadable` says why its body cannot be read, if it cannot. Returns whether the client was told to go on with the body.
///
/// # Errors
/// The end of the exchange: the request is not allowed or cannot be checked, or its body does not come whole.
pub async fn check_body(
    resources: &Resources,
    exchange: &Exchange,
    downstream: &mut Downstream,
    body: &mut BodyReader,
    request: &UpstreamRequest,
    unreadable: Option<NotSure>,
) -> Result<bool, Outcome> {
    let Exchange { snapshot, key, .. } = exchange;
    let Some(governed) = snapshot.governed(*key) else { return Ok(false) };
    let models = key.and_then(|key| snapshot.policy(key)?.models.as_deref());
    let (counts_use, counts_cost) = (governed.limits.count_usage(), governed.limits.count_cost());
    let base_path = &resources.rules.upstream.base_path;
    let target = request_target(&downstream.replay.borrow(), base_path);
    let call = Call::of(&target, &request.traits.facts).map_err(not_sure)?;
    check_upgrade(request, &call, counts_cost || models.is_some(), &target).map_err(Outcome::Failed)?;
    if counts_use && call.begins_work {
        return Err(Outcome::Failed(GatewayError::UseNotCounted));
    }
    if models.is_some() && call.begins_batch {
        return Err(not_sure("each request of a batch may name one"));
    }
    let mut asked = call.asked;
    let mut has_asked_for_body = false;
    if call.needs_model && request.upgrade.is_none() {
        let read = read_members(resources, downstream, body, request, unreadable).await?;
        has_asked_for_body = read.has_asked_for_body;
        for member in read.members.map_err(not_sure)? {
            match asked.add(&member) {
                // Of models nothing is to be known.
                Err(_) if models.is_none() && !counts_cost => {}
                added => added.map_err(not_sure)?,
            }
        }
    }
    if counts_use && asked.is_in_background {
        return Err(Outcome::Failed(GatewayError::UseNotCounted));
    }
    let names_none = call.needs_model && asked.names.is_empty();
    if let Some(models) = models {
        let is_allowed = |name: &String| models.iter().any(|pattern: &ModelPattern| pattern.matches(name));
        if names_none || !asked.names.iter().all(is_allowed) {
            return Err(Outcome::Failed(GatewayError::ModelNotAllowed));
        }
    }
    if counts_cost && call.needs_model {
        let Some((name, others)) = asked.names.split_first() else {
            return Err(Outcome::Failed(GatewayError::ModelWithoutPrice));
        };
        if asked.has_price || others.iter().any(|other| other != name) {
            return Err(not_sure("it names a price, or several models of which each may have another one"));
        }
        check_price(resources, downstream, snapshot, name).await?;
        // Known before the answer, and also if the client does not wait for that.
        let model = resources.usage.as_ref().map(|book| book.models().refer(name));
        exchange.progress.usage.request_model.replace(model);
    }
    Ok(has_asked_for_body)
}

/// Checks that an upgrade is for the model that its target names alone, where that matters. In Realtime no message can
/// change the model of a session; elsewhere, as in Responses, each may name any.
fn check_upgrade(
    request: &UpstreamRequest,
    call: &Call,
    is_model_checked: bool,
    target: &str,
) -> Result<(), GatewayError> {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let is_realtime = path.trim_end_matches('/').ends_with("/realtime");
    let may_be_any = request.upgrade.is_some() && (!is_realtime || call.asked.names.is_empty());
    if is_model_checked && may_be_any { Err(GatewayError::ModelNotAllowed) } else { Ok(()) }
}

/// The members of a body that matter.
struct ReadMembers {
    /// The text of each.
    members: Result<Vec<Vec<u8>>, NotSure>,
    has_asked_for_body: bool,
}

/// Holds the body until it is whole, and reads it as it comes.
async fn read_members(
    resources: &Resources,
    downstream: &mut Downstream,
    body: &mut BodyReader,
    request: &UpstreamRequest,
    unreadable: Option<NotSure>,
) -> Result<ReadMembers, Outcome> {
    if let Some(why) = unreadable {
        return Ok(ReadMembers { members: Err(why), has_asked_for_body: false });
    }
    let facts = &request.traits.facts;
    let mut search = MemberSearch::new(request.head_bytes, facts);
    // A read takes up to 0.3 ms.
    let wants_more = async |replay: &RefCell<ReplayBuffer>| spend(|| search.advance(&replay.borrow())).await;
    let held = hold_body(resources, downstream, body, facts, None, wants_more).await?;
    let has_room = search.cursor.read_bytes() + READ_ROOM < resources.limits.replay_bytes_max;
    if !held.is_whole && !search.has_failed && has_room {
        // All that the process keeps of requests is too much already.
        return Err(Outcome::Failed(GatewayError::NoRoomToRead));
    }
    let members = search.end(&downstream.replay.borrow(), request, held.is_whole);
    Ok(ReadMembers { members, has_asked_for_body: held.has_been_asked_for })
}

fn not_sure(why: NotSure) -> Outcome {
    Outcome::Failed(GatewayError::ModelNotChecked(why))
}

/// Returns path and query of the request in a copy, without the base path.
fn request_target(replay: &ReplayBuffer, base_path: &str) -> String {
    let line = replay.part(0).and_then(|head| head.split(|byte| *byte == b'\r').next()).unwrap_or_default();
    let target = std::str::from_utf8(line).ok().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    strip_base_path(target, base_path).unwrap_or(target).to_owned()
}

/// The call that a request makes, by its target.
struct Call {
    asked: AskedModels,
    needs_model: bool,
    begins_work: bool,
    begins_batch: bool,
}

impl Call {
    fn of(target: &str, facts: &RequestFacts) -> Result<Self, NotSure> {
        let asked = AskedModels::of_target(target)?;
        let path = target.split(['?', '#']).next().unwrap_or_default();
        // As the upstream reads it: `/v1/batche%73` is one of batches.
        let path = if path.contains('%') {
            Cow::Owned(decoded(path).ok_or("its path cannot be decoded")?)
        } else {
            Cow::Borrowed(path)
        };
        let needs_model = facts.wants_websocket || calls_a_model(facts.method, &path);
        let (begins_work, begins_batch) = (begins_work(&path), begins_batch(&path));
        Ok(Call {
            asked,
            needs_model,
            begins_work: needs_model && begins_work,
            begins_batch: needs_model && begins_batch,
        })
    }
}

/// Looks through a body for the members that matter, part by part as it comes.
struct MemberSearch {
    cursor: ContentCursor,
    members: AskedMembers,
    has_failed: bool,
}

impl MemberSearch {
    fn new(head_bytes: usize, facts: &RequestFacts) -> Self {
        MemberSearch {
            cursor: ContentCursor::new(head_bytes, facts.body),
            members: AskedMembers::new(),
            has_failed: false,
        }
    }

    /// Looks through what has come since the last call. Returns whether there is a point in more.
    fn advance(&mut self, replay: &ReplayBuffer) -> bool {
        let MemberSearch { cursor, members, has_failed } = self;
        while !*has_failed && cursor.read_part(replay, |content| *has_failed |= !members.read(content)) {}
        !*has_failed
    }

    /// Returns the text of each member that matters.
    fn end(self, replay: &ReplayBuffer, request: &UpstreamRequest, is_held: bool) -> Result<Vec<Vec<u8>>, NotSure> {
        if !is_held && !self.has_failed {
            return Err("the body is longer than what is kept of one");
        }
        let ranges = self.members.end()?;
        Ok(texts(replay, ContentCursor::new(request.head_bytes, request.traits.facts.body), &ranges))
    }
}

/// Copies parts of a body's content out of a copy that is whole.
fn texts(replay: &ReplayBuffer, mut cursor: ContentCursor, ranges: &[Range<usize>]) -> Vec<Vec<u8>> {
    let mut texts = vec![Vec::new(); ranges.len()];
    let last = ranges.iter().map(|range| range.end).max().unwrap_or(0);
    let mut place = 0;
    let mut take = |content: &[u8]| {
        for (text, range) in texts.iter_mut().zip(ranges) {
            let from = range.start.saturating_sub(place).min(content.len());
            let to = range.end.saturating_sub(place).min(content.len());
            text.extend_from_slice(&content[from..to]);
        }
        place += content.len();
        place
    };
    let mut read = 0;
    while read < last && cursor.read_part(replay, |content| read = take(content)) {}
    texts
}
