//! Disjoint sets of members: which of them have been found to be one service.

use std::cell::Cell;

/// Disjoint sets of indices. A set may have the name of the service that its processes were first
/// seen in, and two sets with different names are never joined.
pub struct Sets<'n> {
    /// An index nearer to the one that stands for the set; [`Sets::find`] shortens the way.
    parent: Vec<Cell<usize>>,
    /// The number of members, of each index that stands for a set.
    sizes: Vec<usize>,
    names: Vec<Option<&'n str>>,
}

impl<'n> Sets<'n> {
    /// One set for each index; `names`: of the services they were seen in.
    #[must_use]
    pub fn new(names: Vec<Option<&'n str>>) -> Sets<'n> {
        let parent = (0..names.len()).map(Cell::new).collect();
        Sets { parent, sizes: vec![1; names.len()], names }
    }

    /// The index that represents the set of `index`.
    #[must_use]
    pub fn find(&self, mut index: usize) -> usize {
        while let Some(slot) = self.parent.get(index).filter(|slot| slot.get() != index) {
            let next = slot.get();
            slot.set(self.parent.get(next).map_or(next, Cell::get));
            index = next;
        }
        index
    }

    /// Joins the sets of two indices, and answers whether they are one now.
    ///
    /// The smaller index, which is the older process, represents the set.
    pub fn join(&mut self, a: usize, b: usize) -> bool {
        let (a, b) = (self.find(a), self.find(b));
        let name = |index: usize| self.names.get(index).copied().flatten();
        let (one, other) = (name(a), name(b));
        if one.is_some() && other.is_some() && one != other {
            return false;
        }
        if let Some(slot) = self.names.get_mut(a.min(b)) {
            *slot = one.or(other);
        }
        self.attach(a, b);
        true
    }

    /// Joins two members although they were seen in different services: a master and its worker.
    pub fn unite(&mut self, a: usize, b: usize) {
        if !self.join(a, b) {
            self.attach(self.find(a), self.find(b));
        }
    }

    /// Makes one set of those for which `a` and `b` stand.
    fn attach(&mut self, a: usize, b: usize) {
        let (first, second) = (a.min(b), a.max(b));
        if first == second {
            return;
        }
        let joined = self.size(second);
        if let Some(slot) = self.parent.get(second) {
            slot.set(first);
        }
        if let Some(size) = self.sizes.get_mut(first) {
            *size += joined;
        }
    }

    /// The number of members in the set of an index.
    #[must_use]
    pub fn size(&self, index: usize) -> usize {
        self.sizes.get(self.find(index)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Sets;

    #[test]
    fn a_set_is_stood_for_by_its_smallest_index_and_knows_its_size() {
        let mut sets = Sets::new(vec![None, Some("a"), None, Some("b"), None, None]);
        let heads = |sets: &Sets<'_>| (0..6).map(|index| sets.find(index)).collect::<Vec<_>>();
        assert!(sets.join(4, 5) && sets.join(3, 4) && sets.join(5, 3));
        assert_eq!(heads(&sets), [0, 1, 2, 3, 3, 3]);
        assert!(sets.join(2, 1) && !sets.join(5, 2), "two names");
        assert_eq!([0, 1, 2, 3, 4, 5].map(|index| sets.size(index)), [1, 2, 2, 3, 3, 3]);
        sets.unite(5, 2);
        assert_eq!(heads(&sets), [0, 1, 1, 1, 1, 1]);
        assert_eq!([0, 5].map(|index| sets.size(index)), [1, 5]);
        assert!(sets.join(0, 1) && sets.size(3) == 6 && sets.find(5) == 0);
    }
}
