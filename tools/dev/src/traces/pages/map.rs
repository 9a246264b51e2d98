//! The map of services: a drawing, and the same as a table.

use std::{collections::BTreeMap, fmt::Write as _};

use super::NAVIGATION;
use crate::{
    endpoint::encode,
    http_server::{Reply, escape},
    look::{self, Colours, Page},
    traces::map::{How, Layout, Map, Node, Place, Traffic, What},
};

const WINDOWS: [(&str, &str); 4] =
    [("", "all"), ("5m", "the last 5 minutes"), ("15m", "the last 15 minutes"), ("1h", "the last hour")];
/// Where two ways between a pair pass other nodes, each is so far from the middle.
const APART: f64 = 7.0;
/// So far from the corners of a node ways begin and end.
const CORNER: f64 = 9.0;
/// So many operations of an edge are named in the table.
const OPERATIONS_MAX: usize = 4;

/// One end of a way: the height that it comes from, its number, and whether it arrives here.
type End = (f64, usize, bool);
type Edge<'a> = (&'a (Node, Node, How), &'a Traffic);

pub(in crate::traces) fn map(map: &Map, window: &str, leaves: bool) -> Reply {
    let link = |window: &str, leaves: bool| {
        let leaves = if leaves { "" } else { "&leaves=hide" };
        format!("/map?lookback={}{leaves}", encode(window))
    };
    let windows: String = WINDOWS
        .iter()
        .map(|(value, name)| {
            if *value == window {
                format!("<b aria-current=true>{name}</b> &nbsp; ")
            } else {
                format!("<a href=\"{}\">{name}</a> &nbsp; ", escape(&link(value, leaves)))
            }
        })
        .collect();
    let other = if leaves { "services only" } else { "with databases, brokers and the rest" };
    let body = format!(
        "<h1>Map of services</h1><div class=tools><span class=muted>Of these traces:</span><span>{windows}</span>\
         <a href=\"{}\">{other}</a></div>{}",
        escape(&link(window, !leaves)),
        if map.nodes.is_empty() {
            "<p class=note>No trace tells of anything yet. Make a request to a service, then look again.</p>".to_owned()
        } else {
            format!("{}{}", drawing(map), table(map))
        }
    );
    Page { title: "Map of services", navigation: NAVIGATION, here: "/map", body, ..Page::default() }.reply()
}

fn drawing(map: &Map) -> String {
    let nodes: Vec<&Node> = map.nodes.keys().collect();
    let number: BTreeMap<&Node, usize> = nodes.iter().enumerate().map(|(at, node)| (*node, at)).collect();
    let ends = |edge: &(Node, Node, How)| Some((*number.get(&edge.0)?, *number.get(&edge.1)?));
    let weights: Vec<_> =
        map.edges.iter().filter_map(|(edge, traffic)| ends(edge).map(|(from, to)| (from, to, traffic.count))).collect();
    let layout = Layout::of(nodes.len(), &weights);
    let mut svg = String::new();
    let mut labels = String::new();
    let drawn: Vec<_> = map.edges.iter().filter_map(|edge| ends(edge.0).map(|ends| (edge, ends))).collect();
    let ways = ways(&layout, &drawn.iter().map(|(_, ends)| *ends).collect::<Vec<_>>());
    for ((edge, _), way) in drawn.iter().zip(&ways) {
        line(&mut svg, &mut labels, *edge, way);
    }
    let colours = Colours::of(nodes.iter().filter(|node| node.what == What::Service).map(|node| node.name.as_str()));
    for (node, place) in nodes.iter().zip(&layout.places) {
        svg.push_str(&box_of(node, map.nodes.get(*node).copied().unwrap_or_default(), *place, &colours));
    }
    format!(
        "<div class=map tabindex=0 role=group aria-label=\"The map as a drawing; the table below says the same\">\
         <svg width={w:.0} height={h:.0} viewBox=\"0 0 {w:.0} {h:.0}\"><defs>\
         <marker id=tip viewBox=\"0 0 8 8\" refX=7 refY=4 markerWidth=7 markerHeight=7 orient=auto><path class=tip d=\"M0 0l8 4-8 4z\"/></marker>\
         <marker id=tip-wrong viewBox=\"0 0 8 8\" refX=7 refY=4 markerWidth=7 markerHeight=7 orient=auto><path class=\"tip wrong\" d=\"M0 0l8 4-8 4z\"/></marker>\
         </defs>{svg}{labels}</svg></div><div class=legend>\
         <span><svg class=sample width=26 height=10><path d=\"M0 5h26\" fill=none stroke=currentColor stroke-width=2 /></svg>a call: how often, and how long in the median</span>\
         <span><svg class=sample width=26 height=10><path d=\"M0 5h26\" fill=none stroke=currentColor stroke-width=2 stroke-dasharray=\"6 4\"/></svg>events: how many, and how long in the median until their handling begins</span></div>",
        w = layout.width,
        h = layout.height,
    )
}

/// The points of every way, from the side of one node to the side of another. Ways that meet at a side share it, in the order of
/// where they come from, so that none crosses another there.
fn ways(layout: &Layout, ends: &[(usize, usize)]) -> Vec<Vec<Place>> {
    let mut ways: Vec<Vec<Place>> = Vec::with_capacity(ends.len());
    // By node, and whether it is the right side.
    let mut sides: BTreeMap<(usize, bool), Vec<End>> = BTreeMap::new();
    for (number, (from, to)) in ends.iter().enumerate() {
        if from == to {
            ways.push(loop_at(layout.places.get(*from)));
            continue;
        }
        let mut way = layout.way(*from, *to);
        let forward = way.last().map(|place| place.x) >= way.first().map(|place| place.x);
        let inner = way.len().saturating_sub(2);
        for passage in way.iter_mut().skip(1).take(inner) {
            passage.y += if forward { -APART } else { APART };
        }
        if let ([_, next, ..], [.., before, _]) = (way.as_slice(), way.as_slice()) {
            // Of the two ways between a pair, the one forward is above at both of its ends.
            let order = if forward { -0.1 } else { 0.1 };
            sides.entry((*from, forward)).or_default().push((next.y + order, number, false));
            sides.entry((*to, !forward)).or_default().push((before.y + order, number, true));
        }
        ways.push(way);
    }
    for ((_, right), mut meeting) in sides {
        meeting.sort_by(|a, b| a.0.total_cmp(&b.0));
        let room = Layout::NODE_HEIGHT - 2.0 * CORNER;
        for (rank, (_, number, is_end)) in meeting.iter().enumerate() {
            let share = (rank as f64 + 0.5) / meeting.len() as f64 - 0.5;
            let way = ways.get_mut(*number);
            if let Some(point) = way.and_then(|way| if *is_end { way.last_mut() } else { way.first_mut() }) {
                point.x += if right { 0.5 } else { -0.5 } * Layout::NODE_WIDTH;
                point.y += share * room;
            }
        }
    }
    ways
}

/// What a node announces to itself: out of its right upper corner, and in again from above.
fn loop_at(place: Option<&Place>) -> Vec<Place> {
    let Some(Place { x, y }) = place.copied() else { return Vec::new() };
    let (right, top) = (x + Layout::NODE_WIDTH / 2.0, y - Layout::NODE_HEIGHT / 2.0);
    vec![Place { x: right - 34.0, y: top }, Place { x: right - 8.0, y: top }]
}

fn line(svg: &mut String, labels: &mut String, ((from, to, how), traffic): Edge<'_>, way: &[Place]) {
    let (Some(first), Some(last)) = (way.first(), way.last()) else { return };
    let to_itself = from == to;
    let mut path = format!("M{:.1} {:.1}", first.x, first.y);
    for step in way.windows(2) {
        let [a, b] = step else { continue };
        if to_itself {
            let _ = write!(
                path,
                "C{:.1} {:.1} {:.1} {:.1} {:.1} {:.1}",
                a.x - 6.0,
                a.y - 26.0,
                b.x + 6.0,
                b.y - 26.0,
                b.x,
                b.y
            );
        } else {
            let middle = (a.x + b.x) / 2.0;
            let _ = write!(path, "C{middle:.1} {:.1} {middle:.1} {:.1} {:.1} {:.1}", a.y, b.y, b.x, b.y);
        }
    }
    let wrong = if traffic.errors > 0 { " wrong" } else { "" };
    let tip = if traffic.errors > 0 { "tip-wrong" } else { "tip" };
    let event = if *how == How::Event { " event" } else { "" };
    let mut label = format!("{} · {}", traffic.count, look::duration(traffic.median_ns()));
    if traffic.errors > 0 {
        let _ = write!(label, " · {} errors", look::percent(traffic.errors, traffic.count));
    }
    let _ = write!(
        svg,
        "<path class=\"edge{event}{wrong}\" d=\"{path}\" marker-end=\"url(#{tip})\"><title>{} {} {}: {label}</title></path>",
        escape(&from.name),
        how.name(),
        escape(&to.name),
    );
    // In the first column gap that the way crosses, where ways have not spread over other nodes yet.
    let (x, y) = if to_itself {
        ((first.x + last.x) / 2.0 + 14.0, first.y - 22.0)
    } else {
        let next = way.get(1).unwrap_or(last);
        ((first.x + next.x) / 2.0, (first.y + next.y) / 2.0 + if last.x >= first.x { -4.0 } else { 12.0 })
    };
    let _ = write!(labels, "<text class=\"label{wrong}\" x={x:.1} y={y:.1} text-anchor=middle>{label}</text>");
}

fn box_of(node: &Node, (count, errors): (u64, u64), place: Place, colours: &Colours) -> String {
    let (w, h) = (Layout::NODE_WIDTH, Layout::NODE_HEIGHT);
    let (x, y) = (place.x - w / 2.0, place.y - h / 2.0);
    let errors = if errors == 0 { String::new() } else { format!(", {} errors", look::percent(errors, count)) };
    let sub = match node.what {
        What::Service => format!("{count} spans{errors}"),
        what => format!("{}{errors}", what.name()),
    };
    let name = escape(&shorten(&node.name));
    let texts = format!(
        "<title>{}</title><text class=title x={:.1} y={:.1} text-anchor=middle>{name}</text>\
         <text class=sub x={:.1} y={:.1} text-anchor=middle>{sub}</text>",
        escape(&node.name),
        place.x,
        place.y - 2.0,
        place.x,
        place.y + 14.0,
    );
    match node.what {
        What::Service => format!(
            "<a href=\"/search?service={}\"><rect class=\"node {colour}\" x={x:.1} y={y:.1} width={w} height={h} rx=6 />\
             <rect class=\"band {colour}\" x={x:.1} y={y:.1} width=7 height={h} rx=3 />{texts}</a>",
            encode(&node.name),
            colour = colours.class(&node.name),
        ),
        // A drum, as databases are drawn everywhere.
        What::Database => format!(
            "<path class=leaf d=\"M{x:.1} {top:.1}a{half} 6 0 0 1 {w} 0v{body}a{half} 6 0 0 1 -{w} 0z\"/>\
             <path class=leaf fill=none d=\"M{x:.1} {top:.1}a{half} 6 0 0 0 {w} 0\"/>{texts}",
            top = y + 6.0,
            half = w / 2.0,
            body = h - 12.0,
        ),
        What::Broker | What::Mail | What::Other => {
            format!("<rect class=leaf x={x:.1} y={y:.1} width={w} height={h} rx=22 />{texts}")
        }
    }
}

fn shorten(name: &str) -> String {
    if name.chars().count() <= 24 { name.to_owned() } else { name.chars().take(23).chain(['…']).collect() }
}

fn table(map: &Map) -> String {
    let mut edges: Vec<Edge<'_>> = map.edges.iter().collect();
    edges.sort_by_key(|(edge, _)| (edge.0.clone(), edge.1.what, edge.1.clone(), edge.2));
    let rows: String = edges.iter().map(|edge| row(*edge)).collect();
    format!(
        "<div class=wide><table class=edges><thead><tr><th>From</th><th></th><th>To</th><th class=n>How often</th><th class=n>Errors</th>\
         <th class=n>Median</th><th>What; the link finds its traces</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

fn row(((from, to, how), traffic): Edge<'_>) -> String {
    let mut operations: Vec<_> = traffic.operations.iter().collect();
    operations.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut what = String::new();
    for ((service, operation), count) in operations.iter().take(OPERATIONS_MAX) {
        let _ = write!(
            what,
            "<div><a href=\"/search?service={}&amp;operation={}\">{}</a> <span class=muted>{count}</span></div>",
            encode(service),
            encode(operation),
            escape(operation),
        );
    }
    if operations.len() > OPERATIONS_MAX {
        let _ = write!(what, "<div class=muted>and {} more</div>", operations.len() - OPERATIONS_MAX);
    }
    let errors = if traffic.errors == 0 {
        "<td class=\"n muted\">–</td>".to_owned()
    } else {
        format!("<td class=n><span class=\"tag bad\">{}</span></td>", look::percent(traffic.errors, traffic.count))
    };
    format!(
        "<tr><td>{}</td><td class=muted>{}</td><td>{}</td><td class=n>{}</td>{errors}<td class=n>{}</td><td>{what}</td></tr>",
        escape(&from.name),
        how.name(),
        escape(&to.name),
        traffic.count,
        look::duration(traffic.median_ns()),
    )
}
