//! The collections of objects that the upstream keeps, by the segments of a path: after the name of one comes the id of an
//! object, which only the credential that made it can find.

use crate::credentials::Shelf;

/// A collection.
struct Collection {
    name: &'static str,
    makers: Makers,
}

/// The makers of a collection's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Makers {
    /// Each object's is remembered, so that requests for it go to that credential.
    Remembered,
    /// The same, below this segment.
    RememberedBelow(&'static str),
    /// They are not: the objects are within others, or few ask for them.
    Unknown,
}

const COLLECTIONS: [Collection; 15] = [
    Collection::of("responses", Makers::Remembered),
    Collection::of("files", Makers::Remembered),
    Collection::of("batches", Makers::Remembered),
    Collection::of("uploads", Makers::Remembered),
    Collection::of("vector_stores", Makers::Remembered),
    Collection::of("containers", Makers::Remembered),
    Collection::of("conversations", Makers::Remembered),
    Collection::of("threads", Makers::Remembered),
    Collection::of("assistants", Makers::Remembered),
    Collection::of("videos", Makers::Remembered),
    Collection::of("jobs", Makers::RememberedBelow("fine_tuning")),
    Collection::of("runs", Makers::Unknown),
    Collection::of("completions", Makers::Unknown),
    Collection::of("evals", Makers::Unknown),
    Collection::of("caches", Makers::Unknown),
];

/// Names of operations and of inner collections, which stand where an id does.
const OPERATIONS: [&str; 9] =
    ["compact", "input_tokens", "runs", "batches", "search", "edits", "extensions", "characters", "cancel"];

impl Collection {
    const fn of(name: &'static str, makers: Makers) -> Self {
        Collection { name, makers }
    }
}

/// Divides a path at the first collection the makers of whose objects are remembered, into its name and what follows.
pub fn split_at_remembered(path: &str) -> Option<(&str, &str)> {
    let mut before = "";
    let mut rest = path;
    loop {
        let (segment, after) = rest.split_once('/').unwrap_or((rest, ""));
        match makers(segment) {
            Some(Makers::Remembered) => return Some((segment, after)),
            Some(Makers::RememberedBelow(parent)) if parent == before => return Some((segment, after)),
            _ if after.is_empty() => return None,
            _ => (before, rest) = (segment, after),
        }
    }
}

/// Tells whether an object of any collection is named in a path.
pub fn names_object(path: &str) -> bool {
    let segments = || path.split('/').filter(|segment| !segment.is_empty());
    let mut pairs = segments().zip(segments().skip(1));
    pairs.any(|(collection, id)| makers(collection).is_some() && !is_operation(id))
}

/// Tells whether a segment that stands where an id does is the name of an operation.
pub fn is_operation(segment: &str) -> bool {
    OPERATIONS.contains(&segment)
}

/// Returns on which shelf the owners of a collection's objects are kept.
pub fn shelf(collection: &str) -> Shelf {
    if collection == "responses" { Shelf::Responses } else { Shelf::Others }
}

fn makers(segment: &str) -> Option<Makers> {
    COLLECTIONS.iter().find(|collection| collection.name == segment).map(|collection| collection.makers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_divided_at_the_first_collection_whose_makers_are_remembered() {
        for (path, expected) in [
            ("/v1/responses", Some(("responses", ""))),
            ("/v1/responses/r_1/input_items", Some(("responses", "r_1/input_items"))),
            ("/v1/threads/t_1/runs/r_1", Some(("threads", "t_1/runs/r_1"))),
            ("/v1/evals/e_1/files/f_1", Some(("files", "f_1"))),
            ("/v1/fine_tuning/jobs/j_1", Some(("jobs", "j_1"))),
            ("/v1/jobs/j_1", None),
            ("/v1/chat/completions/c_1", None),
            ("/v1/messages", None),
            ("", None),
        ] {
            assert_eq!(split_at_remembered(path), expected, "{path}");
        }
    }

    #[test]
    fn every_collection_has_objects_and_no_operation_is_one() {
        for Collection { name, .. } in COLLECTIONS {
            assert!(names_object(&format!("/v1/{name}/id")), "{name}");
            for operation in OPERATIONS {
                assert!(!names_object(&format!("/v1/{name}/{operation}")), "{name} {operation}");
            }
            assert!(!names_object(&format!("/v1/{name}/")) && !names_object(&format!("/v1/{name}")), "{name}");
        }
    }
}
