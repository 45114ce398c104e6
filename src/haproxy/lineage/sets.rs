//! Disjoint sets of members: which of them have been found to be one service.

/// Disjoint sets of indices. A set may have the name of the service that its processes were first
/// seen in, and two sets with different names are never joined.
pub struct Sets<'n> {
    parent: Vec<usize>,
    names: Vec<Option<&'n str>>,
}

impl<'n> Sets<'n> {
    /// One set for each index; `names`: of the services they were seen in.
    #[must_use]
    pub fn new(names: Vec<Option<&'n str>>) -> Sets<'n> {
        Sets { parent: (0..names.len()).collect(), names }
    }

    /// The index that represents the set of `index`.
    #[must_use]
    pub fn find(&self, mut index: usize) -> usize {
        while let Some(&parent) = self.parent.get(index).filter(|&&parent| parent != index) {
            index = parent;
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
        if let Some(slot) = self.parent.get_mut(a.max(b)) {
            *slot = a.min(b);
        }
        true
    }

    /// Joins two members although they were seen in different services: a master and its worker.
    pub fn unite(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        if !self.join(a, b)
            && let Some(slot) = self.parent.get_mut(a.max(b))
        {
            *slot = a.min(b);
        }
    }

    /// The number of members in the set of an index.
    #[must_use]
    pub fn size(&self, index: usize) -> usize {
        let head = self.find(index);
        (0..self.parent.len()).filter(|&i| self.find(i) == head).count()
    }
}
