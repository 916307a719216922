//! The things that the upstream remembers of its requests: what it `served`, which prompts are in a `prompt_cache`, and
//! what its users have left (`quota`).

pub mod prompt_cache;
pub mod quota;
pub mod served;

use self::prompt_cache::PromptCache;
use self::quota::DemoQuotas;
use self::served::{ServedSums, ServedUsage};

/// The memory of one upstream.
pub struct DemoMemory {
    pub sums: ServedSums,
    pub cache: PromptCache,
    pub quotas: DemoQuotas,
}

impl DemoMemory {
    pub fn new(quotas: DemoQuotas) -> Self {
        DemoMemory { sums: ServedSums::default(), cache: PromptCache::default(), quotas }
    }

    /// Counts an answer to a credential.
    pub fn note(&self, credential: &str, usage: &ServedUsage) {
        self.sums.add(usage);
        self.quotas.note(credential, usage);
    }
}
