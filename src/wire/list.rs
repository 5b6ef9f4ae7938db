//! A list that stands where it is made as long as it is short, so that decoding what peers commonly
//! send takes no memory of its own.

use std::fmt;
use std::ops::{Deref, DerefMut};

use arrayvec::ArrayVec;

/// A list; the first `N` items need no allocation.
#[derive(Clone)]
pub enum List<T, const N: usize> {
    /// All of them stand here.
    Short(ArrayVec<T, N>),
    /// There are more.
    Long(Vec<T>),
}

impl<T, const N: usize> List<T, N> {
    /// An empty list.
    pub const fn new() -> Self {
        Self::Short(ArrayVec::new_const())
    }

    /// All items.
    pub fn as_slice(&self) -> &[T] {
        self
    }

    /// Appends an item.
    pub fn push(&mut self, item: T) {
        match self {
            Self::Long(list) => list.push(item),
            Self::Short(list) => {
                if let Err(full) = list.try_push(item) {
                    let mut long: Vec<T> = list.take().into_iter().collect();
                    long.push(full.element());
                    *self = Self::Long(long);
                }
            }
        }
    }
}

impl<T, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Short(list) => list,
            Self::Long(list) => list,
        }
    }
}

impl<T, const N: usize> DerefMut for List<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::Short(list) => list,
            Self::Long(list) => list,
        }
    }
}

impl<T, const N: usize> FromIterator<T> for List<T, N> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut list = Self::new();
        for item in items {
            list.push(item);
        }
        list
    }
}

impl<T, const N: usize> From<Vec<T>> for List<T, N> {
    fn from(list: Vec<T>) -> Self {
        Self::Long(list)
    }
}

impl<T, const N: usize, const M: usize> From<[T; M]> for List<T, N> {
    fn from(items: [T; M]) -> Self {
        items.into_iter().collect()
    }
}

impl<'a, T, const N: usize> IntoIterator for &'a List<T, N> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: PartialEq, const N: usize> PartialEq for List<T, N> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: PartialEq, const N: usize> PartialEq<Vec<T>> for List<T, N> {
    fn eq(&self, other: &Vec<T>) -> bool {
        **self == **other
    }
}

impl<T: PartialEq, const N: usize, const M: usize> PartialEq<[T; M]> for List<T, N> {
    fn eq(&self, other: &[T; M]) -> bool {
        **self == *other
    }
}

impl<T: Eq, const N: usize> Eq for List<T, N> {}

impl<T: fmt::Debug, const N: usize> fmt::Debug for List<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_same_however_long_and_wherever_it_stands() {
        let mut list = List::<u8, 2>::new();
        for (count, item) in (1..).zip([7, 8, 9, 10]) {
            list.push(item);
            assert_eq!(list.len(), count);
            assert_eq!(matches!(list, List::Long(_)), count > 2);
        }
        assert_eq!(list, [7, 8, 9, 10]);
        let short = List::<u8, 2>::from([1]);
        assert_eq!(short, vec![1]);
        assert_eq!(format!("{short:?}"), "[1]");
        assert_ne!(short, list);
    }
}
