//! Finds the first of many boxes that a flow meets: a tree of boxes around boxes.
//!
//! Each branch knows the smallest box around what is below it, and the lowest rank in there. A search goes into a
//! branch only if the flow meets its box and the rank can still win, the lower rank first.
//!
//! Memory and time to build depend on the number of policies alone, however they overlap: n boxes, fewer than n
//! nodes, and O(n log n) comparisons. A search among policies that can be told apart by any one selector visits
//! O(log n) nodes. Where they overlap a flow in each single selector, but not in all at once, it visits more; it never
//! looks at a box or a node twice, so that their number is its bound (benches/spd.rs shows what they cost).
//!
//! A copy shares everything with its original. What changes afterwards is the path from the root to one leaf, and, when
//! one side of a node has become twice as heavy as the other, all below that node is built anew: a change costs
//! O(log² n) comparisons, seen over many (Galperin and Rivest, "Scapegoat Trees", 1993).

use std::sync::Arc;

use super::Policy;
use super::bounds::{Address, Bounds, Dimension};

/// A leaf holds at most so many.
const LEAF: u32 = 8;

/// A box and its place in the order of policies.
#[derive(Clone, Debug)]
pub(super) struct Entry<A> {
    pub(super) bounds: Bounds<A>,
    pub(super) rank: Rank<A>,
    pub(super) policy: Arc<Policy>,
}

/// The lowest wins. No two entries have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank<A> {
    pub(super) priority: u32,
    /// How many remote addresses the selector has, less one.
    pub(super) width: A,
    /// Between equals.
    pub(super) order: u64,
}

/// Copied at no cost.
#[derive(Clone, Debug)]
pub(super) struct Tree<A> {
    root: Branch<A>,
}

#[derive(Clone, Debug)]
struct Branch<A> {
    hull: Bounds<A>,
    /// The lowest rank below.
    best: Rank<A>,
    /// Entries below.
    count: u32,
    below: Below<A>,
}

#[derive(Clone, Debug)]
enum Below<A> {
    Node(Arc<Node<A>>),
    /// In the order of their ranks; empty in an empty tree alone.
    Leaf(Arc<[Entry<A>]>),
}

#[derive(Clone, Debug)]
struct Node<A> {
    /// What lies before the cut, and the rest.
    children: [Branch<A>; 2],
    cut: Cut<A>,
}

/// Divides boxes by their middles in one dimension, and equals by their ranks.
#[derive(Clone, Copy, Debug)]
struct Cut<A> {
    /// `None` where all boxes are the same.
    dimension: Option<Dimension>,
    middle: A,
    rank: Rank<A>,
}

impl<A: Address> Cut<A> {
    /// The child that a box belongs to.
    fn side(&self, bounds: &Bounds<A>, rank: Rank<A>) -> usize {
        let middle = self.dimension.map_or(self.middle, |dimension| bounds.middle(dimension));
        usize::from((middle, rank) >= (self.middle, self.rank))
    }
}

/// The best that a search has found so far.
struct Found<'t, A> {
    rank: Rank<A>,
    entry: Option<&'t Entry<A>>,
}

impl<A: Address> Default for Tree<A> {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl<A: Address> Tree<A> {
    pub(super) fn new(mut entries: Vec<Entry<A>>) -> Self {
        Self { root: Branch::grow(&mut entries) }
    }

    /// The entry of the lowest rank whose box meets the flow's.
    #[inline]
    pub(super) fn first(&self, flow: &Bounds<A>) -> Option<&Entry<A>> {
        let mut found = Found { rank: Rank::LAST, entry: None };
        if self.root.may_have(flow, &found) {
            self.root.search(flow, &mut found);
        }
        found.entry
    }

    pub(super) fn insert(&mut self, entry: Entry<A>) {
        self.root.insert(entry);
    }

    /// Takes the entry of this box and rank out, if there is one.
    pub(super) fn remove(&mut self, bounds: &Bounds<A>, rank: Rank<A>) {
        self.root.remove(bounds, rank);
    }

    /// Nodes, entries and the longest way to a leaf, as a test wants to know them.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize, usize) {
        self.root.size()
    }
}

impl<A: Address> Rank<A> {
    const LAST: Self = Self { priority: u32::MAX, width: A::ENDS.1, order: u64::MAX };
}

impl<A: Address> Branch<A> {
    /// Whether something below may meet the flow and win.
    #[inline]
    fn may_have(&self, flow: &Bounds<A>, found: &Found<'_, A>) -> bool {
        self.hull.meets(flow) && self.best < found.rank
    }

    fn search<'t>(&'t self, flow: &Bounds<A>, found: &mut Found<'t, A>) {
        let mut branch = self;
        while let Below::Node(node) = &branch.below {
            let [left, right] = &node.children;
            let (sooner, later) = if right.best < left.best { (right, left) } else { (left, right) };
            match (sooner.may_have(flow, found), later.may_have(flow, found)) {
                (true, true) => {
                    sooner.search(flow, found);
                    if later.best >= found.rank {
                        return;
                    }
                    branch = later;
                }
                (true, false) => branch = sooner,
                (false, true) => branch = later,
                (false, false) => return,
            }
        }
        branch.search_leaf(flow, found);
    }

    #[inline]
    fn search_leaf<'t>(&'t self, flow: &Bounds<A>, found: &mut Found<'t, A>) {
        let Below::Leaf(entries) = &self.below else { return };
        if let Some(entry) = entries.iter().find(|entry| entry.bounds.meets(flow))
            && entry.rank < found.rank
        {
            *found = Found { rank: entry.rank, entry: Some(entry) };
        }
    }

    /// The tree of these entries.
    fn grow(entries: &mut [Entry<A>]) -> Self {
        if entries.len() <= LEAF as usize {
            return Self::leaf(entries);
        }
        let cut = halve(entries);
        let (left, right) = entries.split_at_mut(entries.len() / 2);
        Self::node(Node { children: [Self::grow(left), Self::grow(right)], cut })
    }

    fn leaf(entries: &mut [Entry<A>]) -> Self {
        entries.sort_unstable_by_key(|entry| entry.rank);
        let hull = entries.iter().map(|entry| entry.bounds).reduce(|a, b| a.hull(&b));
        Self {
            // That of an empty tree matters to nobody: its rank wins against nothing.
            hull: hull.unwrap_or(Bounds::ORIGIN),
            best: entries.first().map_or(Rank::LAST, |entry| entry.rank),
            count: entries.len() as u32,
            below: Below::Leaf(entries.into()),
        }
    }

    fn node(node: Node<A>) -> Self {
        let [left, right] = &node.children;
        Self {
            hull: left.hull.hull(&right.hull),
            best: left.best.min(right.best),
            count: left.count + right.count,
            below: Below::Node(Arc::new(node)),
        }
    }

    fn insert(&mut self, entry: Entry<A>) {
        let Some(side) = self.side(&entry.bounds, entry.rank, 1) else {
            let mut entries = self.entries();
            entries.push(entry);
            *self = Self::grow(&mut entries);
            return;
        };
        self.hull = self.hull.hull(&entry.bounds);
        self.best = self.best.min(entry.rank);
        self.count += 1;
        if let Below::Node(node) = &mut self.below {
            Arc::make_mut(node).children[side].insert(entry);
        }
    }

    fn remove(&mut self, bounds: &Bounds<A>, rank: Rank<A>) {
        let Some(side) = self.side(bounds, rank, -1) else {
            let mut entries = self.entries();
            entries.retain(|entry| entry.rank != rank);
            *self = Self::grow(&mut entries);
            return;
        };
        let Below::Node(node) = &mut self.below else { return };
        let children = &mut Arc::make_mut(node).children;
        children[side].remove(bounds, rank);
        let [left, right] = children;
        self.hull = left.hull.hull(&right.hull);
        self.best = left.best.min(right.best);
        self.count = left.count + right.count;
    }

    /// The child that such an entry belongs to; `None` if what is here is to be built anew, because it is or becomes a
    /// leaf, or because with `change` entries more one child would be too heavy beside the other.
    fn side(&self, bounds: &Bounds<A>, rank: Rank<A>, change: i64) -> Option<usize> {
        let Below::Node(node) = &self.below else { return None };
        let side = node.cut.side(bounds, rank);
        let [mut changed, other] = [side, 1 - side].map(|child| i64::from(node.children[child].count));
        changed += change;
        let slack = i64::from(LEAF);
        let is_small = changed == 0 || changed + other <= slack / 2;
        let is_heavy = changed.max(other) > 2 * changed.min(other) + slack;
        (!is_small && !is_heavy).then_some(side)
    }

    /// All below.
    fn entries(&self) -> Vec<Entry<A>> {
        let mut entries = Vec::with_capacity(self.count as usize + 1);
        self.collect(&mut entries);
        entries
    }

    fn collect(&self, into: &mut Vec<Entry<A>>) {
        match &self.below {
            Below::Leaf(entries) => into.extend_from_slice(entries),
            Below::Node(node) => node.children.iter().for_each(|child| child.collect(into)),
        }
    }

    #[cfg(test)]
    fn size(&self) -> (usize, usize, usize) {
        match &self.below {
            Below::Leaf(entries) => (0, entries.len(), 0),
            Below::Node(node) => {
                let [left, right] = [0, 1].map(|child| node.children[child].size());
                (left.0 + right.0 + 1, left.1 + right.1, left.2.max(right.2) + 1)
            }
        }
    }
}

/// Halves them where the fewest boxes lie on both sides of the cut: the second half begins with the cut.
fn halve<A: Address>(entries: &mut [Entry<A>]) -> Cut<A> {
    let mut chosen: Option<(usize, Dimension)> = None;
    for dimension in Dimension::ALL {
        if !varies(entries, dimension) {
            continue;
        }
        let cut = cut(entries, Some(dimension));
        let crossing = crossing(entries, dimension);
        if crossing == 0 {
            return cut;
        }
        if chosen.is_none_or(|(least, _)| crossing < least) {
            chosen = Some((crossing, dimension));
        }
    }
    cut(entries, chosen.map(|(_, dimension)| dimension))
}

fn varies<A: Address>(entries: &[Entry<A>], dimension: Dimension) -> bool {
    entries.iter().any(|entry| entry.bounds.along(dimension) != entries[0].bounds.along(dimension))
}

/// The lower half by the boxes' middles to the front.
fn cut<A: Address>(entries: &mut [Entry<A>], dimension: Option<Dimension>) -> Cut<A> {
    let middle = |bounds: &Bounds<A>| dimension.map_or(A::ENDS.0, |dimension| bounds.middle(dimension));
    let half = entries.len() / 2;
    let (_, first, _) = entries.select_nth_unstable_by_key(half, |entry| (middle(&entry.bounds), entry.rank));
    Cut { dimension, middle: middle(&first.bounds), rank: first.rank }
}

/// How many boxes of either half reach into the other's span.
fn crossing<A: Address>(entries: &[Entry<A>], dimension: Dimension) -> usize {
    let (left, right) = entries.split_at(entries.len() / 2);
    let span = |entry: &Entry<A>| entry.bounds.along(dimension);
    let end = left.iter().map(|entry| span(entry).1).max();
    let start = right.iter().map(|entry| span(entry).0).min();
    let (Some(end), Some(start)) = (end, start) else { return 0 };
    left.iter().filter(|entry| span(entry).1 >= start).count()
        + right.iter().filter(|entry| span(entry).0 <= end).count()
}
