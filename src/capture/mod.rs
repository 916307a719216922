//! Failed exchanges, kept as files for those who look into them.
//!
//! While an exchange runs it is noted down (`recording`, heads as `head` copies them, without a credential, whose
//! keys `seen` knows by their digests; where others may stand tells `key_places`); when it has
//! failed, a thread of its own (`recorder`) masks what else is secret in it (`masker`), makes one JSON document of it
//! (`document`) and puts that into the directory (`directory`), of which the newest are kept. Invariant: nothing of a
//! document was made but by the masker, and no shard ever waits. Not here: the places of an exchange that are noted
//! (`proxy`), and the words of `explain` (`cli`).

pub mod directory;
pub mod document;
pub mod head;
mod key_places;
pub mod masker;
pub mod recorder;
pub mod recording;
pub mod seen;
