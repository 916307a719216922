//! The names of models that are told apart, so that a count has a small number for each and no client fills the memory.

use std::sync::{Arc, OnceLock};

/// The most models that are told apart.
pub const MODELS_MAX: usize = 200;

/// The number of different [`ModelId`]s: one for the other models, and one for none.
pub const PLACES: usize = MODELS_MAX + 2;

/// Stands for all models beyond [`MODELS_MAX`].
const OTHER: &str = "other";

/// A model of one [`ModelNames`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModelId(u16);

impl Default for ModelId {
    fn default() -> Self {
        ModelId::NONE
    }
}

impl ModelId {
    /// Stands where no model is known.
    pub const NONE: ModelId = ModelId(MODELS_MAX as u16 + 1);
    /// Stands for the models that are not told apart.
    const OTHER: ModelId = ModelId(MODELS_MAX as u16);

    /// Returns a number below [`PLACES`].
    pub fn place(self) -> usize {
        usize::from(self.0)
    }
}

/// The model of an answer that may be counted. Only what is counted takes a place among the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelRef {
    Known(ModelId),
    New(Box<str>),
}

/// The models that the process has counted, shared by all shards.
///
/// Invariant: a place that is taken keeps its name, so a number means the same on every shard. Nothing is ever waited
/// for: a name is there before it is put in its place.
#[derive(Debug)]
pub struct ModelNames {
    places: Box<[OnceLock<Arc<str>>]>,
    none: Arc<str>,
    other: Arc<str>,
}

impl Default for ModelNames {
    fn default() -> Self {
        ModelNames {
            places: (0..MODELS_MAX).map(|_| OnceLock::new()).collect(),
            none: Arc::from(""),
            other: Arc::from(OTHER),
        }
    }
}

impl ModelNames {
    /// Refers to a name without a place for it: it is copied if it has none.
    pub fn refer(&self, name: &str) -> ModelRef {
        let names = self.places.iter().map_while(OnceLock::get);
        match names.enumerate().find(|(_, taken)| ***taken == *name) {
            Some((index, _)) => ModelRef::Known(ModelId(index as u16)),
            None => ModelRef::New(name.into()),
        }
    }

    /// Returns the name as it was referred to.
    pub fn text<'a>(&'a self, model: &'a ModelRef) -> &'a str {
        match model {
            ModelRef::Known(id) => self.name(*id),
            ModelRef::New(name) => name,
        }
    }

    /// Returns the number of a model that is counted.
    pub fn admit(&self, model: &ModelRef) -> ModelId {
        match model {
            ModelRef::Known(id) => *id,
            ModelRef::New(name) => self.id(name),
        }
    }

    /// Returns the number of a name, which gets the next free place if it has none.
    pub fn id(&self, name: &str) -> ModelId {
        let is_this = |place: &OnceLock<Arc<str>>| place.get().is_none_or(|taken| **taken == *name);
        let mut made: Option<Arc<str>> = None;
        for (index, place) in self.places.iter().enumerate().filter(|(_, place)| is_this(place)) {
            if place.get().is_none() {
                // Another shard may be quicker, with this name or another.
                let _ = place.set(made.get_or_insert_with(|| Arc::from(name)).clone());
            }
            if is_this(place) {
                return ModelId(index as u16);
            }
        }
        ModelId::OTHER
    }

    /// Returns all numbers that have been given, and those of the others and of none.
    pub fn ids(&self) -> impl Iterator<Item = ModelId> {
        let taken = self.places.iter().take_while(|place| place.get().is_some()).count();
        (0..taken).map(|place| ModelId(place as u16)).chain([ModelId::OTHER, ModelId::NONE])
    }

    pub fn name(&self, id: ModelId) -> &Arc<str> {
        match self.places.get(usize::from(id.0)) {
            Some(place) => place.get().unwrap_or(&self.none),
            None if id == ModelId::OTHER => &self.other,
            None => &self.none,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_same_number_each_time() {
        let names = ModelNames::default();
        let (one, other) = (names.id("gpt-4o"), names.id("claude"));
        assert_ne!(one, other);
        assert_eq!((names.id("gpt-4o"), names.id("claude")), (one, other));
        assert_eq!((&**names.name(one), &**names.name(other)), ("gpt-4o", "claude"));
        assert_eq!(&**names.name(ModelId::NONE), "");
    }

    #[test]
    fn beyond_the_limit_all_are_the_other() {
        let names = ModelNames::default();
        let known: Vec<ModelId> = (0..MODELS_MAX).map(|number| names.id(&number.to_string())).collect();
        let (one, other) = (names.id("one too many"), names.id("another"));
        assert_eq!((one, &**names.name(one)), (other, "other"));
        assert!(known.iter().enumerate().all(|(number, id)| **names.name(*id) == number.to_string()));
        assert_eq!(names.id("17"), known[17]);
    }

    #[test]
    fn a_name_that_is_only_referred_to_takes_no_place() {
        let names = ModelNames::default();
        (0..2 * MODELS_MAX).for_each(|number| drop(names.refer(&number.to_string())));
        let model = names.refer("counted");
        assert_eq!((names.text(&model), names.ids().count()), ("counted", 2));
        let id = names.admit(&model);
        assert_eq!((names.refer("counted"), names.ids().count()), (ModelRef::Known(id), 3));
    }

    #[test]
    fn threads_agree() {
        let names = ModelNames::default();
        let ids: Vec<Vec<ModelId>> = std::thread::scope(|scope| {
            let look = |_| scope.spawn(|| (0..150).map(|number| names.id(&number.to_string())).collect());
            let threads: Vec<_> = (0..4).map(look).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(ids.iter().all(|of_thread| *of_thread == ids[0]));
    }
}
