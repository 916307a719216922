//! The scope of a rest that is not the whole identity's: one model, or one family of paths where no model is known.

use std::sync::Arc;

/// The requests for which an identity rests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestScope {
    Model(Arc<str>),
    Paths(PathFamily),
}

/// The paths of one kind of request: where a request names no model, what limits it most likely limits its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathFamily {
    Chat,
    Messages,
    Responses,
    Embeddings,
    Files,
    Batches,
    Other,
}

impl RestScope {
    pub fn is_model(&self) -> bool {
        matches!(self, RestScope::Model(_))
    }

    /// Returns the name of its kind in the log, the metrics and the readiness page.
    pub fn kind(&self) -> &'static str {
        match self {
            RestScope::Model(_) => "model",
            RestScope::Paths(_) => "path_family",
        }
    }

    /// Returns the name of the model, or of the family.
    pub fn name(&self) -> &str {
        match self {
            RestScope::Model(name) => name,
            RestScope::Paths(family) => family.as_str(),
        }
    }
}

impl PathFamily {
    pub fn as_str(self) -> &'static str {
        match self {
            PathFamily::Chat => "chat",
            PathFamily::Messages => "messages",
            PathFamily::Responses => "responses",
            PathFamily::Embeddings => "embeddings",
            PathFamily::Files => "files",
            PathFamily::Batches => "batches",
            PathFamily::Other => "other",
        }
    }
}
