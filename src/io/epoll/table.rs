//! A table of what waits for an epoll descriptor's events, whose entries are known by the tokens of their watches.
//!
//! Invariant: a token never reaches an entry but its own. An event that was taken from the kernel before its entry was
//! removed finds nothing, also where another one has the place by then. Not here: the watches.

use slab::Slab;

/// The key of an entry of a [`TokenTable`], and of the watch that was made for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    key: u32,
    /// Distinguishes a late event for a place's former entry from one for its present one.
    generation: u32,
}

/// The bit of a key that says which of two watches of an entry it is. Fewer than 2^31 descriptors can be open.
const SECOND: u32 = 1 << 31;

impl Token {
    /// Returns the token for another watch of the same entry.
    pub fn second(self) -> Self {
        Token { key: self.key | SECOND, ..self }
    }

    pub fn is_second(self) -> bool {
        self.key & SECOND != 0
    }

    fn place(self) -> usize {
        (self.key & !SECOND) as usize
    }

    /// Returns it as the kernel keeps it with a watch.
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.key)
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        Token { key: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// A table whose places are used again.
pub struct TokenTable<T> {
    places: Slab<TablePlace<T>>,
    generation: u32,
}

struct TablePlace<T> {
    generation: u32,
    entry: T,
}

impl<T> TokenTable<T> {
    pub const fn new() -> Self {
        TokenTable { places: Slab::new(), generation: 0 }
    }

    /// Inserts the entry that `watch` makes, which is to watch something by the token.
    ///
    /// # Errors
    /// That of `watch`; nothing is inserted.
    pub fn insert_with<E>(&mut self, watch: impl FnOnce(Token) -> Result<T, E>) -> Result<Token, E> {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let place = self.places.vacant_entry();
        let token = Token { key: place.key() as u32, generation };
        place.insert(TablePlace { generation, entry: watch(token)? });
        Ok(token)
    }

    pub fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let place = self.places.get_mut(token.place())?;
        (place.generation == token.generation).then_some(&mut place.entry)
    }

    pub fn remove(&mut self, token: Token) -> Option<T> {
        self.get_mut(token)?;
        Some(self.places.remove(token.place()).entry)
    }

    /// Returns the entry of a place, if it has one; places are numbered from 0.
    pub fn at(&mut self, place: usize) -> Option<(Token, &mut T)> {
        let TablePlace { generation, entry } = self.places.get_mut(place)?;
        Some((Token { key: place as u32, generation: *generation }, entry))
    }

    /// Returns the number of entries.
    pub fn entries_count(&self) -> usize {
        self.places.len()
    }

    /// Returns the number of places, those without an entry included.
    pub fn places_count(&self) -> usize {
        self.places.capacity()
    }

    /// Empties the table.
    pub fn take_all(&mut self) -> impl ExactSizeIterator<Item = T> + use<T> {
        // The generations go on: events of what is taken may yet come.
        std::mem::take(&mut self.places).into_iter().map(|(_, place)| place.entry)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Token, &T)> {
        self.places
            .iter()
            .map(|(key, TablePlace { generation, entry })| (Token { key: key as u32, generation: *generation }, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(table: &mut TokenTable<char>, entry: char) -> Token {
        table.insert_with(|_| Ok::<_, ()>(entry)).expect("a watch")
    }

    #[test]
    fn both_watches_of_an_entry_reach_it() {
        let mut table = TokenTable::new();
        let token = insert(&mut table, 'a');
        let second = Token::from_bits(token.second().to_bits());
        assert_eq!((token.is_second(), second.is_second()), (false, true));
        assert_eq!(table.get_mut(second), Some(&mut 'a'));
        assert_eq!(table.remove(second), Some('a'));
        assert_eq!(table.get_mut(token), None);
        assert_eq!(table.get_mut(second), None);
    }

    #[test]
    fn every_place_can_be_looked_at() {
        let mut table = TokenTable::new();
        let tokens = ['a', 'b', 'c'].map(|entry| insert(&mut table, entry));
        table.remove(tokens[1]);
        let seen: Vec<_> = (0..table.places_count())
            .filter_map(|place| table.at(place).map(|(token, entry)| (token, *entry)))
            .collect();
        assert_eq!(seen, [(tokens[0], 'a'), (tokens[2], 'c')]);
    }

    #[test]
    fn a_token_reaches_its_own_entry_alone() {
        let mut table = TokenTable::new();
        let (first, second) = (insert(&mut table, 'a'), insert(&mut table, 'b'));
        assert_eq!(table.remove(first), Some('a'));
        let third = insert(&mut table, 'c');
        assert_eq!(third.key, first.key, "its place is used again");
        assert_eq!([first, second, third].map(|token| table.get_mut(token).copied()), [None, Some('b'), Some('c')]);
        assert_eq!(table.remove(first), None);
        let entries = table.iter().map(|(token, entry)| (token, *entry));
        assert_eq!(entries.collect::<Vec<_>>(), [(third, 'c'), (second, 'b')]);
    }

    #[test]
    fn nothing_is_inserted_without_a_watch() {
        let mut table = TokenTable::<char>::new();
        let mut refused = None;
        let result = table.insert_with(|token| {
            refused = Some(token);
            Err("no watch")
        });
        assert_eq!((result, table.iter().len()), (Err("no watch"), 0));
        let token = insert(&mut table, 'a');
        assert_eq!(refused.map(|refused| (refused.key, table.get_mut(refused).is_some())), Some((token.key, false)));
    }

    #[test]
    fn what_is_taken_is_reached_by_no_token_whatever_comes_after_it() {
        let mut table = TokenTable::new();
        let tokens = ['a', 'b'].map(|entry| insert(&mut table, entry));
        let all = table.take_all();
        assert_eq!((all.len(), all.collect::<String>()), (2, "ab".to_owned()));
        let later = ['c', 'd'].map(|entry| insert(&mut table, entry));
        assert_eq!(tokens.map(|token| token.key), later.map(|token| token.key));
        assert_eq!(tokens.map(|token| table.remove(token)), [None, None]);
    }

    #[test]
    fn a_token_comes_back_from_the_kernel_as_it_was() {
        for (key, generation) in [(0, 0), (1, 2), (u32::MAX, 0), (0, u32::MAX), (u32::MAX, u32::MAX)] {
            let token = Token { key, generation };
            assert_eq!(Token::from_bits(token.to_bits()), token);
        }
    }
}
