//! The owners of the stored objects in one exchange: whom it goes to, and what its answers tell of whose they are.
//!
//! An exchange about an object whose owner is known stays with the owner. One about an object that nobody knows is
//! tried by others where the answer is that there is none, and who finds it is the owner.

use std::cell::RefCell;
use std::time::Instant;

use crate::credentials::{CredentialId, Credentials, ObjectKey, Owner, Owners, Selector, Shelf, Turn};
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::request::stored::objects::{BodySearch, ObjectAction, Objects, key_in_target};
use crate::proxy::request::stored::references::{ReferenceSearch, Searched};
use crate::proxy::resources::Resources;
use crate::proxy::response::body_tap::{BodyTap, MadeObjects};
use crate::proxy::response::head::ResponseFacts;

/// The values of a query that are looked at: no API has so many.
const QUERY_VALUES_MAX: usize = 32;

/// Returns whom an object is known to belong to.
pub fn known_owner(owners: &Owners, selector: Selector<'_>, shelf: Shelf, object: ObjectKey) -> Owner {
    owners.find(shelf, object, Instant::now()).map_or(Owner::Unknown, |owner| selector.owner(owner))
}

/// Returns whether no other object that a body names changes whose they are: none does once the first owner is known, but
/// where the request may not use all credentials, one outside.
pub fn is_settled(owner: Owner, selector: Selector<'_>) -> bool {
    match owner {
        Owner::Unknown => false,
        Owner::Within(_) => !selector.is_restricted(),
        Owner::Outside => true,
    }
}

/// Returns whom the objects in the path are known to belong to: the first of them whose owner is known, unless one is
/// outside.
pub fn owner_in_path(owners: &Owners, selector: Selector<'_>, objects: &Objects) -> Owner {
    let named = objects.named.iter().flatten();
    named.map(|object| known_owner(owners, selector, objects.shelf, *object)).fold(Owner::Unknown, Owner::or)
}

/// Returns whether the query names an object that is known to belong to a credential outside. Nobody who may use all
/// pays for it.
pub fn is_outside_by_query(owners: &Owners, selector: Selector<'_>, query: &str) -> bool {
    if !selector.is_restricted() || !owners.has_entries() {
        return false;
    }
    let values = query.split('&').take(QUERY_VALUES_MAX).filter_map(|part| Some(part.split_once('=')?.1));
    let is_outside = |object, shelf| known_owner(owners, selector, shelf, object) == Owner::Outside;
    values
        .filter_map(key_in_target)
        .any(|object| is_outside(object, Shelf::Responses) || is_outside(object, Shelf::Others))
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
pub async fn search(owners: &Owners, selector: Selector<'_>, objects: &mut Objects, replay: &RefCell<ReplayBuffer>) {
    if !replay.borrow().is_whole() {
        return;
    }
    let mut search = ReferenceSearch::new(&replay.borrow(), objects.body, objects.shelf, true);
    let Objects { unknown_reference, late_owner, body_search, .. } = objects;
    let mut owner = Owner::Unknown;
    let find = |shelf, object| {
        if owner == Owner::Unknown {
            unknown_reference.get_or_insert((shelf, object));
        }
        owner = owner.or(known_owner(owners, selector, shelf, object));
        *late_owner = owner.within();
        if owner == Owner::Outside {
            // Nobody whom the request may use has it.
            *unknown_reference = None;
        }
        is_settled(owner, selector)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::credentials::{Rotations, from_json};
    use crate::http1::framing::BodyLength;
    use crate::io::deadline::on_a_shard;
    use crate::proxy::replay::budget::ReplayBudget;

    const TOTAL: usize = 16 << 20;
    const START: &str = r#"{"input":""#;
    const NAME: &str = r#"","previous_response_id":"resp_1""#;

    fn objects() -> Objects {
        Objects {
            shelf: Shelf::Responses,
            named: [None; 3],
            action: ObjectAction::Make,
            body: BodyLength::Chunked,
            has_json: true,
            owner: None,
            body_search: BodySearch::OnRefusal,
            unknown_reference: None,
            late_owner: None,
        }
    }

    /// The beginning of a body with an object's name, of which this is the last of so many bytes.
    fn naming_at(bytes: usize) -> String {
        format!("{START}{}{NAME}", "x".repeat(bytes - START.len() - NAME.len()))
    }

    /// Searches what came of a body in chunks of so many bytes. Returns whether an owner was found, and whether more of
    /// the body is to be searched.
    fn searched(body: &str, chunk: usize) -> (bool, bool) {
        let loaded = from_json(r#"[{"clientId":"a","clientSecret":"s","tenant":"t"}]"#).expect("valid");
        let rotations = Rotations::new(Arc::new(loaded.credentials), None);
        let selector = rotations.selector(rotations.selection(None, None).expect("all"));
        let (id, _) = rotations.credentials.entries().next().expect("one");
        let owners = Owners::default();
        let owner = rotations.credentials.owner_key(id);
        owners.note(Shelf::Responses, ObjectKey::of(b"resp_1"), owner, Instant::now());
        let budget = ReplayBudget::new(Arc::new(AtomicUsize::new(TOTAL)), TOTAL, 1);
        let replay = RefCell::new(ReplayBuffer::default());
        replay.borrow_mut().begin(&budget).extend_from_slice(b"POST /v1/responses HTTP/1.1\r\n\r\n");
        for part in body.as_bytes().chunks(chunk) {
            let framed = [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
            assert!(replay.borrow_mut().push(&framed, TOTAL, &budget));
        }
        let mut objects = objects();
        assert!(awaits_search(&objects));
        on_a_shard(search(&owners, selector, &mut objects, &replay));
        replay.borrow_mut().release(&budget);
        (objects.late_owner == Some(id), awaits_search(&objects))
    }

    #[test]
    fn a_body_is_searched_for_an_owner_as_far_as_the_limits_and_then_no_more() {
        const BYTES: usize = 1024 * 1024;
        const PIECES: usize = 16 * 1024;
        for (body, chunk, expected) in [
            (naming_at(100), 7, (true, false)),
            (naming_at(BYTES), 10_000, (true, false)),
            (naming_at(BYTES + 1), 10_000, (false, false)),
            (naming_at(PIECES), 1, (true, false)),
            (naming_at(PIECES + 1), 1, (false, false)),
            (START.to_owned(), 7, (false, true)),
            (naming_at(BYTES)[..BYTES - NAME.len()].to_owned(), 10_000, (false, true)),
        ] {
            assert_eq!(searched(&body, chunk), expected, "{} bytes in chunks of {chunk}", body.len());
        }
    }
}
