//! Finds the first of many boxes that a flow meets: a tree of boxes around boxes.
//!
//! Each node knows the smallest box around what is below it, and the lowest rank in there. A search goes into a
//! node only if the flow meets its box and the rank can still win, the lower rank first.
//!
//! Memory and time to build depend on the number of policies alone, however they overlap: n boxes, fewer than n / 2
//! nodes, and O(n log n) comparisons. A search among policies that can be told apart by any one selector visits
//! O(log n) nodes. Where they overlap a flow in each single selector, but not in all at once, it visits more; it never
//! looks at a box or a node twice, so 3 n / 2 comparisons are its bound (benches/spd.rs shows what they cost).

use super::bounds::{Address, Bounds, Dimension};

/// A leaf holds at most so many.
const LEAF: usize = 8;
/// A tree halves what is below at each step and 32 bits count the policies; one waits per level, and the next.
const MOST_WAITING: usize = 34;
/// Behind the last rank.
const NONE: u32 = u32::MAX;

/// A box and its place in the order of policies: the lowest wins.
pub(super) type Ranked<A> = (Bounds<A>, u32);

/// Immutable.
#[derive(Clone, Debug)]
pub(super) struct Tree<A> {
    /// A node's left child follows it.
    nodes: Vec<Node<A>>,
    leaves: Vec<Ranked<A>>,
}

#[derive(Clone, Copy, Debug)]
struct Node<A> {
    hull: Bounds<A>,
    /// The lowest rank below.
    best: u32,
    below: Below,
}

#[derive(Clone, Copy, Debug)]
enum Below {
    /// The right child.
    Nodes(u32),
    /// This many leaves from the first one on, in the order of their ranks.
    Leaves(u32, u32),
}

impl<A: Address> Tree<A> {
    pub(super) fn new(mut boxes: Vec<Ranked<A>>) -> Self {
        let mut tree = Self { nodes: Vec::new(), leaves: Vec::with_capacity(boxes.len()) };
        tree.grow(&mut boxes);
        tree.nodes.shrink_to_fit();
        tree
    }

    fn grow(&mut self, boxes: &mut [Ranked<A>]) {
        let Some(best) = boxes.iter().map(|(_, rank)| *rank).min() else { return };
        let hull = boxes.iter().map(|(bounds, _)| *bounds).reduce(|a, b| a.hull(&b));
        let Some(hull) = hull else { return };
        let index = self.nodes.len();
        let (first, count) = (self.leaves.len() as u32, boxes.len() as u32);
        self.nodes.push(Node { hull, best, below: Below::Leaves(first, count) });
        if boxes.len() <= LEAF {
            boxes.sort_unstable_by_key(|(_, rank)| *rank);
            self.leaves.extend_from_slice(boxes);
        } else {
            let (left, right) = halve(boxes);
            self.grow(left);
            self.nodes[index].below = Below::Nodes(self.nodes.len() as u32);
            self.grow(right);
        }
    }

    /// The lowest rank of a box that the flow's box meets.
    #[inline]
    pub(super) fn first(&self, flow: &Bounds<A>) -> Option<u32> {
        let mut best = NONE;
        let mut waiting = [0_u32; MOST_WAITING];
        let mut count = usize::from(!self.nodes.is_empty());
        while count > 0 {
            count -= 1;
            let index = waiting[count];
            let node = &self.nodes[index as usize];
            if node.best >= best || !node.hull.meets(flow) {
                continue;
            }
            match node.below {
                Below::Leaves(first, leaves) => best = self.first_of_leaf(first, leaves, flow).min(best),
                Below::Nodes(right) => {
                    let left = index + 1;
                    let right_wins = self.nodes[right as usize].best < self.nodes[left as usize].best;
                    let (sooner, later) = if right_wins { (right, left) } else { (left, right) };
                    waiting[count] = later;
                    waiting[count + 1] = sooner;
                    count += 2;
                }
            }
        }
        (best != NONE).then_some(best)
    }

    #[inline]
    fn first_of_leaf(&self, first: u32, count: u32, flow: &Bounds<A>) -> u32 {
        let leaves = &self.leaves[first as usize..(first + count) as usize];
        leaves.iter().find(|(bounds, _)| bounds.meets(flow)).map_or(NONE, |(_, rank)| *rank)
    }

    /// Nodes and boxes, as a test of its memory wants to know them.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.nodes.len(), self.leaves.len())
    }
}

/// Halves them where the fewest boxes lie on both sides of the cut.
fn halve<A: Address>(boxes: &mut [Ranked<A>]) -> (&mut [Ranked<A>], &mut [Ranked<A>]) {
    let middle = boxes.len() / 2;
    let mut chosen = None;
    for dimension in Dimension::ALL {
        if !varies(boxes, dimension) {
            continue;
        }
        cut(boxes, middle, dimension);
        let crossing = crossing(boxes, middle, dimension);
        if crossing == 0 {
            return boxes.split_at_mut(middle);
        }
        if chosen.is_none_or(|(least, _)| crossing < least) {
            chosen = Some((crossing, dimension));
        }
    }
    if let Some((_, dimension)) = chosen {
        cut(boxes, middle, dimension);
    }
    boxes.split_at_mut(middle)
}

fn varies<A: Address>(boxes: &[Ranked<A>], dimension: Dimension) -> bool {
    boxes.iter().any(|(bounds, _)| bounds.along(dimension) != boxes[0].0.along(dimension))
}

/// The lower half by the boxes' middles to the front.
fn cut<A: Address>(boxes: &mut [Ranked<A>], middle: usize, dimension: Dimension) {
    boxes.select_nth_unstable_by_key(middle, |(bounds, _)| {
        let (first, last) = bounds.along(dimension);
        first + (last - first) / 2
    });
}

/// How many boxes of either half reach into the other's span.
fn crossing<A: Address>(boxes: &[Ranked<A>], middle: usize, dimension: Dimension) -> usize {
    let (left, right) = boxes.split_at(middle);
    let spans = |half: &'_ [Ranked<A>]| half.iter().map(|(b, _)| b.along(dimension)).collect::<Vec<_>>();
    let (left, right) = (spans(left), spans(right));
    let end = left.iter().map(|(_, last)| *last).max();
    let start = right.iter().map(|(first, _)| *first).min();
    let (Some(end), Some(start)) = (end, start) else { return 0 };
    left.iter().filter(|(_, last)| *last >= start).count()
        + right.iter().filter(|(first, _)| *first <= end).count()
}
