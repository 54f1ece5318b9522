//! A map in parts that are shared until they are written: a view of it costs as little as it has parts.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many parts. While a view is written to a snapshot, a change copies one part of the map.
const PARTS: usize = 64;

/// A map in parts. A clone is a view of it as it is now: nothing is copied before it is changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Shards<K, V> {
    parts: Vec<Arc<BTreeMap<K, V>>>,
}

impl<K: Ord + Clone + AsRef<[u8]>, V: Clone> Shards<K, V> {
    pub(crate) fn find(&self, key: &K) -> Option<&V> {
        self.parts[part_of(key)].get(key)
    }

    pub(crate) fn find_mut(&mut self, key: &K) -> Option<&mut V> {
        // A part that does not have it is not copied.
        self.find(key)?;
        Arc::make_mut(&mut self.parts[part_of(key)]).get_mut(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        Arc::make_mut(&mut self.parts[part_of(&key)]).insert(key, value)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.find(key)?;
        Arc::make_mut(&mut self.parts[part_of(key)]).remove(key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.parts.iter().flat_map(|part| part.values())
    }

    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }
}

/// The same on every node and in every version: an order that depends on it goes into snapshots. FNV-1a.
fn part_of(key: &impl AsRef<[u8]>) -> usize {
    let mix = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    key.as_ref().iter().fold(0x811c_9dc5, mix) as usize % PARTS
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Shards<K, V> {
        Shards { parts: (0..PARTS).map(|_| Arc::default()).collect() }
    }
}

impl<K: Serialize, V: Serialize> Serialize for Shards<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.parts.iter().flat_map(|part| part.iter()))
    }
}

impl<'de, K, V> Deserialize<'de> for Shards<K, V>
where
    K: Deserialize<'de> + Ord + Clone + AsRef<[u8]>,
    V: Deserialize<'de> + Clone,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shards<K, V>, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// Takes the entries of a map one by one.
struct Entries<K, V>(PhantomData<(K, V)>);

impl<'de, K, V> Visitor<'de> for Entries<K, V>
where
    K: Deserialize<'de> + Ord + Clone + AsRef<[u8]>,
    V: Deserialize<'de> + Clone,
{
    type Value = Shards<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shards<K, V>, A::Error> {
        let mut shards = Shards::default();
        while let Some((key, value)) = entries.next_entry()? {
            shards.insert(key, value);
        }
        Ok(shards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_stays_as_it_was() {
        let mut shards = Shards::default();
        for number in 0..1000_u32 {
            shards.insert(number.to_string(), number);
        }
        let view = shards.clone();
        shards.insert("7".to_owned(), 0);
        shards.remove(&"8".to_owned());
        *shards.find_mut(&"9".to_owned()).unwrap() = 0;
        assert_eq!(view.len(), 1000);
        assert_eq!([7, 8, 9].map(|number| *view.find(&number.to_string()).unwrap()), [7, 8, 9]);
        assert_eq!(shards.len(), 999);
    }

    #[test]
    fn a_change_copies_only_its_part() {
        let mut shards: Shards<String, u32> = Shards::default();
        let view = shards.clone();
        shards.insert("ada".to_owned(), 1);
        let copied = (0..PARTS).filter(|&part| !Arc::ptr_eq(&view.parts[part], &shards.parts[part])).count();
        assert_eq!(copied, 1);
        assert_eq!(shards.remove(&"nobody".to_owned()), None);
    }
}
