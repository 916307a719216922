//! The stored objects in a request, by its head: those that its path names, and whether its body may name others or its
//! answer bring a new one.
//!
//! Pure. Invariant: requests below no collection of objects (chat, messages, embeddings) cost one pass over their path.
//! Not here: the body (`references`), and who owns what.

use std::borrow::Cow;

use crate::credentials::{CredentialId, ObjectKey, Shelf};
use crate::http1::framing::BodyLength;
use crate::http1::head::RequestHead;
use crate::json::members::VALUE_BYTES_MAX;
use crate::proxy::request::head::{Method, RequestFacts};
use crate::proxy::request::stored::collections::{self, is_operation, split_at_remembered};

/// The ids that are looked at in a path: a container's file is the deepest known.
const NAMED_MAX: usize = 3;

/// The longest id that is looked at: the same in a path as in a body.
const ID_BYTES_MAX: usize = VALUE_BYTES_MAX;

/// The stored objects in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objects {
    pub shelf: Shelf,
    /// The ids in the path, from the left.
    pub named: [Option<ObjectKey>; NAMED_MAX],
    pub action: ObjectAction,
    /// The framing of the body.
    pub body: BodyLength,
    /// The body is JSON that can be read, so it may name objects.
    pub has_json: bool,
    /// The credential that one of the objects is known to belong to.
    pub owner: Option<CredentialId>,
    pub body_search: BodySearch,
    /// An object that the body names and nobody knows, once the body was searched.
    pub unknown_reference: Option<(Shelf, ObjectKey)>,
    /// The owner of an object that the body names, where that was found after the first attempt.
    pub late_owner: Option<CredentialId>,
}

/// The search for the objects that a body names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodySearch {
    /// For an owner, before the turn is taken; what that leaves, where the answer may be that there is no such object.
    BeforeTurn,
    /// For an owner once more, after an answer that there is no such object.
    OnRefusal,
    /// Nothing more can be found.
    Over,
}

/// The thing that a request does with the object that its path names, or in the collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectAction {
    /// `GET`, `HEAD`, or a `POST` to `…/cancel`: where there is no such object, nothing has happened.
    Look,
    /// A `GET` of a batch, whose answer names the files that it has made.
    LookAtBatch,
    /// The object itself is deleted.
    Delete,
    /// Something else is deleted, below the object.
    DeleteWithin,
    /// Any other `POST`: its answer may bring a new object.
    Make,
    Other,
}

impl ObjectAction {
    /// Tells whether a request that names an unknown object in its path may be tried by each identity in turn.
    pub fn may_be_tried_by_others(self) -> bool {
        match self {
            ObjectAction::Look | ObjectAction::LookAtBatch | ObjectAction::Delete | ObjectAction::DeleteWithin => true,
            ObjectAction::Make | ObjectAction::Other => false,
        }
    }
}

impl Objects {
    /// Finds them; `None`: the path, which is without query and base path, leads into no collection.
    pub fn of(head: &RequestHead<'_>, path: &str, facts: &RequestFacts) -> Option<Box<Self>> {
        let (collection, rest) = split_at_remembered(path)?;
        let mut named = [None; NAMED_MAX];
        // Ids and names of inner collections alternate.
        let ids = rest.split('/').step_by(2).filter(|segment| !segment.is_empty() && !is_operation(segment));
        named.iter_mut().zip(ids).for_each(|(place, id)| *place = key_in_target(id));
        Some(Box::new(Objects {
            shelf: collections::shelf(collection),
            named,
            action: action(facts.method, collection, rest),
            body: facts.body,
            has_json: !facts.body.is_empty() && has_json(head),
            owner: None,
            body_search: BodySearch::OnRefusal,
            unknown_reference: None,
            late_owner: None,
        }))
    }

    /// Tells whether the body may name an object, so that it is worth a look: only where the path names none.
    pub fn may_refer(&self) -> bool {
        self.has_json && self.action == ObjectAction::Make && self.owner.is_none()
    }

    /// Returns the object that the path is about: the outermost.
    pub fn subject(&self) -> Option<ObjectKey> {
        self.named[0]
    }
}

fn action(method: Method, collection: &str, rest: &str) -> ObjectAction {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    match method {
        Method::Get if collection == "batches" && !rest.is_empty() && !rest.contains('/') => ObjectAction::LookAtBatch,
        Method::Get | Method::Head => ObjectAction::Look,
        Method::Delete if rest.contains('/') => ObjectAction::DeleteWithin,
        Method::Delete => ObjectAction::Delete,
        Method::Post if rest.ends_with("/cancel") => ObjectAction::Look,
        Method::Post => ObjectAction::Make,
        _ => ObjectAction::Other,
    }
}

/// Tells whether the body is JSON and not encoded. Most clients say so; one that says nothing of its type is read too.
fn has_json(head: &RequestHead<'_>) -> bool {
    let value = |name: &str| head.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    let is_json = |value: &[u8]| memchr::memmem::find(&value.to_ascii_lowercase(), b"json").is_some();
    value("content-encoding").is_none_or(|field| field.value.eq_ignore_ascii_case(b"identity"))
        && value("content-type").is_none_or(|field| is_json(field.value))
}

/// Returns the key of an id in a path or a query, where it may be encoded.
pub fn key_in_target(id: &str) -> Option<ObjectKey> {
    let id = decoded(id.as_bytes());
    (id.len() <= ID_BYTES_MAX).then(|| ObjectKey::of(&id))
}

/// Decodes `%3D` and its like (RFC 3986 §2.1); what is no encoding stays as it is.
fn decoded(segment: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', segment).is_none() {
        return Cow::Borrowed(segment);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut out = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let [byte, after @ ..] = rest {
        let encoded = match rest {
            [b'%', high, low, after @ ..] => digit(*high).zip(digit(*low)).map(|(high, low)| (high * 16 + low, after)),
            _ => None,
        };
        let (byte, after) = encoded.unwrap_or((*byte, after));
        out.push(byte);
        rest = after;
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;
