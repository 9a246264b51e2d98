//! Where everything of a map is drawn: in columns, along the way that most of it goes. A way over more than one column gets a place of
//! its own in each of those between, so that it crosses nothing. Each column is put in the order of what it is connected to (the
//! method is Sugiyama's); that is exact enough for a dozen nodes.

use std::collections::{BTreeMap, HashMap};

const WIDTH: f64 = 168.0;
const HEIGHT: f64 = 46.0;
const COLUMN_GAP: f64 = 130.0;
const ROW_GAP: f64 = 34.0;
/// Of a way that passes.
const PASSAGE_HEIGHT: f64 = 18.0;
const MARGIN: f64 = 34.0;
const SWEEPS: usize = 12;

/// The middle of something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::traces) struct Place {
    pub(in crate::traces) x: f64,
    pub(in crate::traces) y: f64,
}

pub(in crate::traces) struct Layout {
    pub(in crate::traces) width: f64,
    pub(in crate::traces) height: f64,
    /// Of the nodes, by number.
    pub(in crate::traces) places: Vec<Place>,
    /// Between two nodes, the one in the lower column first: the places where a way passes.
    passages: HashMap<(usize, usize), Vec<Place>>,
}

impl Layout {
    /// Every node is as wide as this ...
    pub(in crate::traces) const NODE_WIDTH: f64 = WIDTH;
    /// ... and as high.
    pub(in crate::traces) const NODE_HEIGHT: f64 = HEIGHT;

    /// `edges`: from, to, and how much goes there. Edges from a node to itself do not matter here.
    pub(in crate::traces) fn of(nodes: usize, edges: &[(usize, usize, u64)]) -> Self {
        let ways: Vec<_> = edges.iter().copied().filter(|(from, to, _)| from != to).collect();
        let position = positions(nodes, &ways);
        let forward = |(from, to, _): &(usize, usize, u64)| {
            if position.get(from) < position.get(to) { (*from, *to) } else { (*to, *from) }
        };
        let mut pairs: Vec<_> = ways.iter().map(forward).collect();
        pairs.sort_unstable();
        pairs.dedup();
        let column = columns(nodes, &position, &pairs);
        let (columns, chains) = slots(nodes, &column, &pairs);
        let columns = untangle(columns, &chains);
        place(nodes, &columns, &chains)
    }

    /// The points that a way goes through, from node to node.
    pub(in crate::traces) fn way(&self, from: usize, to: usize) -> Vec<Place> {
        let ends = (self.places.get(from).copied(), self.places.get(to).copied());
        let (Some(begin), Some(end)) = ends else { return Vec::new() };
        if let Some(between) = self.passages.get(&(from, to)) {
            return [begin].into_iter().chain(between.iter().copied()).chain([end]).collect();
        }
        let between = self.passages.get(&(to, from)).into_iter().flatten().rev().copied();
        [begin].into_iter().chain(between).chain([end]).collect()
    }
}

/// A sequence in which little goes backwards: what only sends comes first, what only receives last, and between them who sends most
/// more than they receive (Eades, Lin and Smyth).
fn positions(nodes: usize, ways: &[(usize, usize, u64)]) -> HashMap<usize, usize> {
    let mut left: Vec<usize> = (0..nodes).collect();
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    while !left.is_empty() {
        let balance = |node: usize| {
            let of = |end: fn(&(usize, usize, u64)) -> (usize, usize)| -> i64 {
                let here = ways.iter().filter(|way| end(way).0 == node && left.contains(&end(way).1));
                here.map(|(_, _, count)| i64::try_from(*count).unwrap_or(i64::MAX / 1_024)).sum()
            };
            (of(|(from, to, _)| (*from, *to)), of(|(from, to, _)| (*to, *from)))
        };
        let sink = left.iter().position(|node| balance(*node).0 == 0);
        if let Some(at) = sink {
            tail.push(left.remove(at));
            continue;
        }
        let source = left.iter().position(|node| balance(*node).1 == 0);
        let most = || {
            let by_surplus = |at: &usize| left.get(*at).map(|node| balance(*node)).map(|(sent, heard)| sent - heard);
            // The first of equals, so that the picture does not change by itself.
            (0..left.len()).rev().max_by_key(by_surplus).unwrap_or_default()
        };
        let at = source.unwrap_or_else(most);
        head.push(left.remove(at));
    }
    head.into_iter().chain(tail.into_iter().rev()).enumerate().map(|(position, node)| (node, position)).collect()
}

/// Each node stands right of all that lead to it.
fn columns(nodes: usize, position: &HashMap<usize, usize>, pairs: &[(usize, usize)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..nodes).collect();
    order.sort_by_key(|node| position.get(node));
    let mut column = vec![0; nodes];
    for node in order {
        let before = pairs.iter().filter(|(_, to)| *to == node).filter_map(|(from, _)| column.get(*from));
        let own = before.max().map_or(0, |last| last + 1);
        if let Some(place) = column.get_mut(node) {
            *place = own;
        }
    }
    column
}

/// What is in a column: a node, or the passage of the pair of this number.
type Slot = (Option<usize>, usize);
/// For each pair its slots, from node to node.
type Chains = BTreeMap<(usize, usize), Vec<Slot>>;

fn slots(nodes: usize, column: &[usize], pairs: &[(usize, usize)]) -> (Vec<Vec<Slot>>, Chains) {
    let of = |node: usize| column.get(node).copied().unwrap_or_default();
    let mut columns: Vec<Vec<Slot>> = vec![Vec::new(); column.iter().max().map_or(0, |last| last + 1)];
    for node in 0..nodes {
        if let Some(slots) = columns.get_mut(of(node)) {
            slots.push((Some(node), node));
        }
    }
    let mut chains = Chains::new();
    for (number, (from, to)) in pairs.iter().enumerate() {
        let mut chain = vec![(Some(*from), *from)];
        for slots in columns.iter_mut().take(of(*to)).skip(of(*from) + 1) {
            slots.push((None, number));
            chain.push((None, number));
        }
        chain.push((Some(*to), *to));
        chains.insert((*from, *to), chain);
    }
    (columns, chains)
}

/// Puts each column into the order of the middle of its neighbours, forth and back some times.
fn untangle(mut columns: Vec<Vec<Slot>>, chains: &Chains) -> Vec<Vec<Slot>> {
    for sweep in 0..SWEEPS {
        let forth = sweep % 2 == 0;
        let numbers: Vec<usize> = (1..columns.len()).collect();
        for number in numbers {
            let (this, other) =
                if forth { (number, number - 1) } else { (columns.len() - 1 - number, columns.len() - number) };
            let Some(neighbours) = columns.get(other).cloned() else { continue };
            let middle = |at: usize, slot: &Slot| {
                let steps = chains.values().flat_map(|chain| chain.windows(2));
                let connected = steps.filter_map(|step| match step {
                    [before, after] if forth && after == slot => Some(before),
                    [before, after] if !forth && before == slot => Some(after),
                    _ => None,
                });
                let (sum, count) = connected
                    .filter_map(|slot| neighbours.iter().position(|other| other == slot))
                    .fold((0.0, 0.0), |(sum, count), at| (sum + relative(at, neighbours.len()), count + 1.0));
                if count > 0.0 { sum / count } else { relative(at, 1) }
            };
            if let Some(slots) = columns.get_mut(this) {
                let mut keyed: Vec<(f64, Slot)> =
                    slots.iter().enumerate().map(|(at, slot)| (middle(at, slot), *slot)).collect();
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                *slots = keyed.into_iter().map(|(_, slot)| slot).collect();
            }
        }
    }
    columns
}

/// Columns are centred, so a place in one is compared by its distance from the middle.
fn relative(at: usize, of: usize) -> f64 {
    at as f64 - (of as f64 - 1.0) / 2.0
}

fn height(slot: &Slot) -> f64 {
    if slot.0.is_some() { HEIGHT } else { PASSAGE_HEIGHT }
}

fn place(nodes: usize, columns: &[Vec<Slot>], chains: &Chains) -> Layout {
    let tall = |slots: &Vec<Slot>| slots.iter().map(|slot| height(slot) + ROW_GAP).sum::<f64>() - ROW_GAP;
    let inner = columns.iter().map(tall).fold(HEIGHT, f64::max);
    let mut of: BTreeMap<(usize, Slot), Place> = BTreeMap::new();
    for (number, slots) in columns.iter().enumerate() {
        let x = MARGIN + WIDTH / 2.0 + number as f64 * (WIDTH + COLUMN_GAP);
        let mut y = MARGIN + (inner - tall(slots)) / 2.0;
        for slot in slots {
            of.insert((number, *slot), Place { x, y: y + height(slot) / 2.0 });
            y += height(slot) + ROW_GAP;
        }
    }
    let find =
        |wanted: &Slot| of.iter().filter(|((_, slot), _)| slot == wanted).map(|(_, place)| *place).collect::<Vec<_>>();
    let places =
        (0..nodes).map(|node| find(&(Some(node), node)).first().copied().unwrap_or(Place { x: 0.0, y: 0.0 })).collect();
    // A passage has one slot in each column between its ends, and a map is sorted by column.
    let passages = chains
        .iter()
        .map(|(pair, chain)| (*pair, chain.get(1).filter(|slot| slot.0.is_none()).map(find).unwrap_or_default()))
        .collect();
    let across = columns.len().max(1) as f64;
    Layout {
        width: 2.0 * MARGIN + across * WIDTH + (across - 1.0) * COLUMN_GAP,
        height: 2.0 * MARGIN + inner,
        places,
        passages,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// users → orders ⇄ inventory, orders ⇄ payments, all → notifications.
    const SHOP: [(usize, usize, u64); 9] =
        [(0, 1, 2), (1, 2, 9), (2, 1, 8), (1, 3, 7), (3, 1, 6), (0, 4, 3), (1, 4, 5), (2, 4, 1), (3, 4, 1)];

    #[test]
    fn what_is_reached_stands_right_of_what_reaches_it() {
        let layout = Layout::of(5, &SHOP);
        let x: Vec<f64> = layout.places.iter().map(|place| place.x).collect();
        assert!(x[0] < x[1] && x[1] < x[2] && x[1] < x[3] && x[2] < x[4] && x[3] < x[4], "{x:?}");
        assert_eq!(x[2], x[3], "both are called by orders");
        assert!(layout.places.iter().all(|place| place.x < layout.width && place.y < layout.height));
    }

    #[test]
    fn a_long_way_passes_between_the_nodes_and_none_covers_another() {
        let layout = Layout::of(5, &SHOP);
        let way = layout.way(0, 4);
        assert_eq!(way.len(), 4, "two columns are passed");
        let back: Vec<_> = layout.way(4, 0).into_iter().rev().collect();
        assert_eq!(back, way);
        let passages = &way[1..3];
        for (at, place) in layout.places.iter().enumerate() {
            for other in layout.places.iter().skip(at + 1).chain(passages) {
                let apart =
                    (place.x - other.x).abs() >= WIDTH || (place.y - other.y).abs() >= (HEIGHT + PASSAGE_HEIGHT) / 2.0;
                assert!(apart, "{place:?} {other:?}");
            }
        }
    }

    #[test]
    fn nothing_and_a_node_alone_are_maps_too() {
        assert_eq!(Layout::of(0, &[]).places, []);
        assert_eq!(Layout::of(1, &[(0, 0, 5)]).places.len(), 1);
    }
}
