//! The dashboards of Grafana, made of `deploy/grafana/dashboards.yml`, where they can be read: the same layout everywhere, one dashboard for each
//! service. What they show is decided there; how a panel looks is decided here.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use saphyr::{LoadableYamlNode, Yaml};
use serde_json::{Value, json};

use crate::services::SERVICES;

const SOURCE: &str = "deploy/grafana/dashboards.yml";
const FOLDER: &str = "deploy/grafana/dashboards";
/// Grafana's grid.
const COLUMNS: u64 = 24;

/// Writes every dashboard anew, and removes those that are no more.
pub(crate) fn write(root: &Path) -> Result<()> {
    let made = generate(root)?;
    let folder = root.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {FOLDER}"))?;
    for old in present(&folder)? {
        fs::remove_file(&old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    for (name, dashboard) in made {
        fs::write(folder.join(&name), format!("{dashboard:#}\n")).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(())
}

/// The files that are not what would be made now.
pub(crate) fn outdated(root: &Path) -> Result<Vec<String>> {
    let made = generate(root)?;
    let folder = root.join(FOLDER);
    let is = |name: &str| {
        let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
        serde_json::from_str::<Value>(&text).unwrap_or_default()
    };
    let mut wrong: Vec<_> =
        made.iter().filter(|(name, dashboard)| is(name) != **dashboard).map(|(name, _)| name.clone()).collect();
    let files = present(&folder)?.into_iter().filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()));
    wrong.extend(files.filter(|file| !made.contains_key(file)));
    Ok(wrong)
}

fn present(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Every dashboard, by the name of its file.
fn generate(root: &Path) -> Result<BTreeMap<String, Value>> {
    let source = fs::read_to_string(root.join(SOURCE)).with_context(|| format!("cannot read {SOURCE}"))?;
    let documents = Yaml::load_from_str(&source).with_context(|| format!("{SOURCE} is not YAML"))?;
    let source = documents.first().with_context(|| format!("{SOURCE} is empty"))?;
    let mut made = BTreeMap::new();
    for dashboard in list(source, "dashboards") {
        let uid = text(dashboard, "uid")?;
        let rows = list(dashboard, "rows").iter().collect::<Vec<_>>();
        let (title, help) = (text(dashboard, "title")?, text(dashboard, "help")?);
        made.insert(format!("{uid}.json"), self::dashboard(uid, title, help, &rows, "")?);
    }
    let own = source.as_mapping_get("services").context("no dashboards of services")?;
    for service in SERVICES {
        let name = service.name;
        let rows = list(own, name).iter().chain(list(source, "every_service")).collect::<Vec<_>>();
        let help = format!("The service {name}: what it does, its requests, its events, its processes.");
        made.insert(format!("service-{name}.json"), dashboard(&format!("service-{name}"), name, &help, &rows, name)?);
    }
    Ok(made)
}

fn dashboard(uid: &str, title: &str, help: &str, rows: &[&Yaml<'_>], service: &str) -> Result<Value> {
    let mut grid = Grid::default();
    for row in rows {
        grid.row(text(row, "title")?);
        for panel in list(row, "panels") {
            let name = text(panel, "title")?;
            let body = self::panel(panel, service).with_context(|| format!("{SOURCE}: {title}: {name}"))?;
            let is_number = body["type"] == "stat";
            grid.add(body, if is_number { (4, 4) } else { (8, 8) });
        }
    }
    Ok(json!({
        "uid": format!("postrider-{uid}"),
        "title": title,
        "description": help,
        "tags": ["postrider"],
        "editable": false,
        "schemaVersion": 39,
        "refresh": "10s",
        "time": { "from": "now-30m", "to": "now" },
        "timezone": "browser",
        "graphTooltip": 1,
        "links": [{ "type": "dashboards", "title": "Postrider", "tags": ["postrider"], "asDropdown": true, "includeVars": false, "keepTime": true }],
        "panels": grid.panels,
    }))
}

/// Places panels from left to right and from top to bottom.
#[derive(Default)]
struct Grid {
    panels: Vec<Value>,
    x: u64,
    y: u64,
    /// Of the line that is being filled.
    height: u64,
}

impl Grid {
    fn row(&mut self, title: &str) {
        self.end_line();
        self.add(json!({ "type": "row", "title": title, "collapsed": false, "panels": [] }), (COLUMNS, 1));
    }

    fn add(&mut self, mut panel: Value, (width, height): (u64, u64)) {
        if self.x + width > COLUMNS {
            self.end_line();
        }
        panel["id"] = json!(self.panels.len() + 1);
        panel["gridPos"] = json!({ "x": self.x, "y": self.y, "w": width, "h": height });
        self.panels.push(panel);
        self.x += width;
        self.height = self.height.max(height);
    }

    fn end_line(&mut self) {
        self.y += self.height;
        (self.x, self.height) = (0, 0);
    }
}

fn panel(panel: &Yaml<'_>, service: &str) -> Result<Value> {
    let stat = panel.as_mapping_get("stat").and_then(|stat| stat.as_bool()).unwrap_or_default();
    let mut steps = vec![json!({ "color": "green", "value": null })];
    for (key, color) in [("warn", "orange"), ("bad", "red")] {
        if let Some(value) = panel.as_mapping_get(key) {
            let value = value.as_floating_point().or_else(|| value.as_integer().map(|value| value as f64));
            steps.push(json!({ "color": color, "value": value.with_context(|| format!("{key} is not a number"))? }));
        }
    }
    let has_limits = steps.len() > 1;
    let source = json!({ "type": "prometheus", "uid": "prometheus" });
    let targets = queries(panel, service)?.into_iter().enumerate().map(|(index, (legend, query))| {
        let letter = char::from_digit(u32::try_from(index).unwrap_or_default() + 10, 36).unwrap_or('a');
        json!({ "refId": letter.to_ascii_uppercase().to_string(), "datasource": source, "expr": query, "legendFormat": legend, "instant": stat, "range": !stat })
    });
    let targets: Vec<_> = targets.collect();
    let mut defaults =
        json!({ "unit": text(panel, "unit")?, "min": 0, "thresholds": { "mode": "absolute", "steps": steps } });
    let options = if stat {
        defaults["color"] = json!({ "mode": "thresholds" });
        json!({ "colorMode": "background", "graphMode": "none", "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false } })
    } else {
        let style = if has_limits { "dashed" } else { "off" };
        defaults["custom"] =
            json!({ "fillOpacity": 8, "lineWidth": 1, "showPoints": "never", "thresholdsStyle": { "mode": style } });
        json!({ "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true }, "tooltip": { "mode": "multi", "sort": "desc" } })
    };
    Ok(json!({
        "type": if stat { "stat" } else { "timeseries" },
        "title": text(panel, "title")?,
        "description": text(panel, "help")?,
        "datasource": source,
        "targets": targets,
        "fieldConfig": { "defaults": defaults, "overrides": [] },
        "options": options,
    }))
}

/// Legends and queries of a panel.
fn queries(panel: &Yaml<'_>, service: &str) -> Result<Vec<(String, String)>> {
    let of = |query: &str| query.replace("SERVICE", service);
    if let Some(several) = panel.as_mapping_get("queries").and_then(|queries| queries.as_mapping()) {
        let each = several.iter().map(|(legend, query)| {
            let legend = legend.as_str().context("a legend is text")?;
            Ok((legend.to_owned(), of(query.as_str().context("a query is text")?)))
        });
        return each.collect();
    }
    let legend = panel.as_mapping_get("legend").and_then(|legend| legend.as_str());
    ensure!(panel.as_mapping_get("query").is_some(), "it has no query");
    Ok(vec![(legend.unwrap_or("{{__name__}}").to_owned(), of(text(panel, "query")?))])
}

fn list<'a, 'b>(of: &'a Yaml<'b>, key: &str) -> &'a [Yaml<'b>] {
    of.as_mapping_get(key).and_then(|found| found.as_sequence()).map_or(&[], |found| found.as_slice())
}

fn text<'a>(of: &'a Yaml<'_>, key: &str) -> Result<&'a str> {
    of.as_mapping_get(key)
        .and_then(|found| found.as_str())
        .with_context(|| format!("{SOURCE}: {key} is missing or not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_panels_of_a_dashboard_overlap_and_each_is_explained() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let made = generate(&root).unwrap();
        assert!(made.len() > SERVICES.len(), "one for each service, and those of the whole");
        for (name, dashboard) in made {
            let mut taken = std::collections::BTreeSet::new();
            for panel in dashboard["panels"].as_array().unwrap() {
                let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
                assert!(at("x") + at("w") <= COLUMNS, "{name}: {panel}");
                for x in at("x")..at("x") + at("w") {
                    for y in at("y")..at("y") + at("h") {
                        assert!(taken.insert((x, y)), "{name}: {panel} lies over another");
                    }
                }
                let is_row = panel["type"] == "row";
                assert!(is_row || panel["description"].as_str().is_some_and(|help| help.len() > 10), "{name}: {panel}");
            }
        }
    }
}
