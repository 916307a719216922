//! The choice of a credential for a request: the credentials that it may use and their turns (`rotation`, in the `order`
//! of nginx), one for each set that keys name (`rotations`), the rank that a session gives them (`affinity`), and whose
//! name an attempt gets (`balancer`) by that and by how each stands (`candidates`).
//!
//! The order of precedence is that of [`Selector::first`]. Invariant: no lock; while nobody cools down or is suspected
//! a turn costs one atomic add and two loads.

mod affinity;
mod balancer;
mod candidates;
mod order;
mod rotation;
mod rotations;
mod turn;

pub use affinity::SessionKey;
pub use balancer::{OwnedByOthers, Selector};
pub use rotations::{RotationId, Rotations, Selection};
pub use turn::{Choice, Owner, Turn};
