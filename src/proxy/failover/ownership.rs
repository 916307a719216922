//! The owners of the stored objects in one exchange: whom it goes to, and what its answers tell of whose they are.
//!
//! An exchange about an object whose owner is known stays with the owner. One about an object that nobody knows is
//! tried by others where the answer is that there is none, and who finds it is the owner.

use std::cell::RefCell;
use std::time::Instant;

use crate::credentials::{CredentialId, Credentials, ObjectKey, Shelf, Turn};
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::request::stored::objects::{BodySearch, ObjectAction, Objects};
use crate::proxy::request::stored::references::{ReferenceSearch, Searched};
use crate::proxy::resources::Resources;
use crate::proxy::response::body_tap::{BodyTap, MadeObjects};
use crate::proxy::response::head::ResponseFacts;

/// Returns the credential that an object is known to belong to.
pub fn known_owner(
    resources: &Resources,
    credentials: &Credentials,
    shelf: Shelf,
    object: ObjectKey,
) -> Option<CredentialId> {
    let owner = resources.owners.find(shelf, object, Instant::now())?;
    credentials.of_owner(owner)
}

/// Returns the credential that one of the objects in the path is known to belong to.
pub fn known_owner_in_path(
    resources: &Resources,
    credentials: &Credentials,
    objects: &Objects,
) -> Option<CredentialId> {
    let named = objects.named.iter().flatten();
    named.into_iter().find_map(|object| known_owner(resources, credentials, objects.shelf, *object))
}

/// Tells whether it is still to be looked for what the body names, where the answer is that there is no such object.
pub fn awaits_search(objects: &Objects) -> bool {
    objects.body_search != BodySearch::Over
        && objects.owner.is_none()
        && objects.subject().is_none()
        && names_in_body(objects)
        && objects.unknown_reference.is_none()
        && objects.late_owner.is_none()
}

/// Looks for what the body names, as far as it has come.
///
/// # Cancel safety
/// Keeps what it has found.
pub async fn search(
    resources: &Resources,
    credentials: &Credentials,
    objects: &mut Objects,
    replay: &RefCell<ReplayBuffer>,
) {
    if !replay.borrow().is_whole() {
        return;
    }
    let mut search = ReferenceSearch::new(&replay.borrow(), objects.body, objects.shelf, true);
    let Objects { unknown_reference, late_owner, body_search, .. } = objects;
    let find = |shelf, object| {
        *late_owner = known_owner(resources, credentials, shelf, object);
        unknown_reference.get_or_insert((shelf, object));
        late_owner.is_some()
    };
    if search.advance(replay, find).await != Searched::GoesOn {
        *body_search = BodySearch::Over;
    }
}

/// Tells whether the body of a request may name an object that makes it worth another attempt: only what may be sent
/// twice.
fn names_in_body(objects: &Objects) -> bool {
    objects.shelf == Shelf::Responses && objects.may_refer()
}

/// Tells whether an answer to `credential` that there is no such object may be because another identity has it. What
/// the body names is known, if that [was looked for](search).
pub fn may_be_of_another(credentials: &Credentials, objects: &Objects, credential: CredentialId) -> bool {
    if objects.owner.is_some() {
        return false;
    }
    if objects.subject().is_some() {
        return objects.action.may_be_tried_by_others();
    }
    if !names_in_body(objects) {
        return false;
    }
    match objects.late_owner {
        Some(owner) => credentials.owner_key(owner) != credentials.owner_key(credential),
        None => objects.unknown_reference.is_some(),
    }
}

/// Returns the turn of the owner that became known after the first attempt, where it is another than `credential`.
pub fn late_turn(credentials: &Credentials, objects: Option<&Objects>, credential: CredentialId) -> Option<Turn> {
    let owner = objects?.late_owner?;
    let is_another = credentials.owner_key(owner) != credentials.owner_key(credential);
    is_another.then_some(Turn::of(owner))
}

/// Keeps, or forgets, whose the objects in the request are, by the answer that `credential` got.
pub fn learn(
    resources: &Resources,
    credentials: &Credentials,
    objects: &Objects,
    credential: CredentialId,
    facts: &ResponseFacts,
) {
    if !is_success(facts) {
        return;
    }
    let Objects { shelf, action, unknown_reference, .. } = *objects;
    let subject = objects.subject().map(|object| (shelf, object));
    if let Some((shelf, object)) = subject
        && action == ObjectAction::Delete
    {
        return resources.owners.forget(shelf, object);
    }
    if objects.owner.is_none() {
        let now = Instant::now();
        let owner = credentials.owner_key(credential);
        for (shelf, object) in subject.into_iter().chain(unknown_reference) {
            resources.owners.note(shelf, object, owner, now);
        }
    }
}

/// Returns what looks at an answer for objects that it says `credential` made.
pub fn tap(
    resources: &Resources,
    credentials: &Credentials,
    objects: &Objects,
    credential: CredentialId,
    facts: &ResponseFacts,
) -> Option<Box<BodyTap>> {
    let has_new_id = objects.action == ObjectAction::Make;
    let tells = has_new_id || objects.action == ObjectAction::LookAtBatch;
    if !tells || !is_success(facts) || !facts.is_identity_coded() {
        return None;
    }
    let owner = credentials.owner_key(credential);
    let made = MadeObjects {
        owners: resources.owners.clone(),
        owner,
        shelf: objects.shelf,
        has_new_id,
        held: Some(Vec::new()),
    };
    Some(BodyTap::of_made(made, facts.is_event_stream))
}

fn is_success(facts: &ResponseFacts) -> bool {
    (200..300).contains(&facts.status)
}
