//! The spans of a trace as a tree. Whatever is sent, each span is in it once: a parent that is missing, or spans that are each
//! other's parents, do not hide anything.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::store::Span;

/// A span at its place.
pub(super) struct Node<'a> {
    pub(super) span: &'a Arc<Span>,
    /// `None` at the top, also when the parent is missing.
    pub(super) parent: Option<&'a Arc<Span>>,
    /// How many spans are above it.
    pub(super) depth: usize,
    /// How many are below it; they follow it immediately.
    pub(super) below: usize,
}

/// Depth first, what began earlier before what began later.
pub(super) fn tree(spans: &[Arc<Span>]) -> Vec<Node<'_>> {
    let index: HashMap<&str, usize> =
        spans.iter().enumerate().map(|(index, span)| (span.span_id.as_str(), index)).collect();
    let parent_of = |at: usize| {
        let id = spans.get(at)?.parent_id.as_deref()?;
        index.get(id).copied().filter(|parent| *parent != at)
    };
    let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
    let (mut tops, mut others) = (Vec::new(), Vec::new());
    for at in 0..spans.len() {
        match parent_of(at) {
            Some(parent) => {
                children.entry(parent).or_default().push(at);
                others.push(at);
            }
            None => tops.push(at),
        }
    }
    let mut nodes: Vec<Node<'_>> = Vec::with_capacity(spans.len());
    let mut seen = HashSet::new();
    // Those that no top leads to are parents of each other: the earliest of them stands for a top.
    for top in tops.into_iter().chain(others) {
        let mut open = vec![(top, None, 0)];
        while let Some((at, parent, depth)) = open.pop() {
            let Some(span) = spans.get(at) else { continue };
            if !seen.insert(at) {
                continue;
            }
            nodes.push(Node { span, parent, depth, below: 0 });
            let below = children.remove(&at).unwrap_or_default();
            open.extend(below.into_iter().rev().map(|child| (child, Some(span), depth + 1)));
        }
    }
    count_below(&mut nodes);
    nodes
}

fn count_below(nodes: &mut [Node<'_>]) {
    let mut above: Vec<usize> = Vec::new();
    for at in 0..nodes.len() {
        above.truncate(nodes.get(at).map_or(0, |node| node.depth));
        for ancestor in &above {
            if let Some(node) = nodes.get_mut(*ancestor) {
                node.below += 1;
            }
        }
        above.push(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traces::store::tests::span;

    fn shape(spans: &[Arc<Span>]) -> Vec<(usize, &str, usize)> {
        tree(spans).iter().map(|node| (node.depth, node.span.name.as_str(), node.below)).collect()
    }

    #[test]
    fn a_tree_is_depth_first_and_orphans_are_roots() {
        let spans: Vec<_> = [
            span("1", "root", "", "root", 0, 100),
            span("1", "b", "root", "b", 20, 30),
            span("1", "c", "b", "c", 21, 22),
            span("1", "d", "root", "d", 40, 50),
            span("1", "orphan", "missing", "orphan", 60, 70),
        ]
        .map(Arc::new)
        .into();
        assert_eq!(shape(&spans), [(0, "root", 3), (1, "b", 1), (2, "c", 0), (1, "d", 0), (0, "orphan", 0)]);
    }

    #[test]
    fn spans_that_are_each_others_parents_are_shown_once() {
        let spans: Vec<_> = [
            span("1", "own", "own", "its own parent", 0, 1),
            span("1", "x", "y", "x", 2, 3),
            span("1", "y", "x", "y", 4, 5),
            span("1", "z", "y", "z", 5, 6),
        ]
        .map(Arc::new)
        .into();
        assert_eq!(shape(&spans), [(0, "its own parent", 0), (0, "x", 2), (1, "y", 1), (2, "z", 0)]);
    }
}
