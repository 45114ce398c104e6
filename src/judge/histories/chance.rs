//! Chance that can be repeated: SplitMix64 from a seed. The campaign of `tests/campaign` draws by it, too.

/// A source of draws. Two with one seed draw the same.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// One of the items.
    pub fn one<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Some of the items, at least one, in their order.
    pub fn some<T: Copy>(&mut self, items: &[T]) -> Vec<T> {
        let sure = self.below(items.len());
        let drawn = |(index, item): (usize, &T)| {
            (index == sure || self.next().is_multiple_of(2)).then_some(*item)
        };
        items.iter().enumerate().filter_map(drawn).collect()
    }

    /// One of the items, each as often as its weight says.
    pub fn weighted<T: Copy>(&mut self, items: &[(T, usize)]) -> T {
        let mut place = self.below(items.iter().map(|(_, weight)| weight).sum());
        for (item, weight) in items {
            if place < *weight {
                return *item;
            }
            place -= weight;
        }
        unreachable!("a place below the sum of the weights")
    }
}
