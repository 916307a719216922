//! The prices of models, by which the cost of an answer is estimated where it is not reported.
//!
//! From a file in LiteLLM's form (`file`) or from the upstream's own list (`model_info`), each an object a model
//! (`entry`, `fields`) with its `rates`, comes the `table` that is asked; `error` says why not. Not here: when the
//! upstream is asked.

mod entry;
mod error;
mod fields;
mod file;
mod model_info;
mod rates;
mod table;

pub use error::{PricesFault, PricesFileError};
pub use file::{LoadedPrices, load_prices};
pub use model_info::MODEL_INFO_BYTES_MAX;
pub use table::PriceTable;
