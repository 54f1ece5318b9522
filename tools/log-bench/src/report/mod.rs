//! What a measurement found, ready to be shown as text, as JSON or as a page.

pub(crate) mod chart;
pub(crate) mod html;
pub(crate) mod json;
mod scale;
pub(crate) mod table;

use chart::Chart;
use table::Table;

use crate::machine::Machine;

/// All that one run of log-bench has to say.
#[derive(Debug)]
pub(crate) struct Report {
    /// What was measured, in a few words.
    pub(crate) title: String,
    /// What it was measured on and with: name and value.
    pub(crate) facts: Vec<(&'static str, String)>,
    /// The figures.
    pub(crate) tables: Vec<Table>,
    /// The plots, for the page.
    pub(crate) charts: Vec<Chart>,
    /// What a reader needs to read the figures rightly, and what became of the data.
    pub(crate) notes: Vec<String>,
    /// Whether what was measured is wrong: the data are kept then, and the exit status says so.
    pub(crate) is_failed: bool,
    /// The figures for programs.
    pub(crate) json: serde_json::Map<String, serde_json::Value>,
}

impl Report {
    /// An empty report about `machine`.
    pub(crate) fn new(title: impl Into<String>, machine: &Machine) -> Report {
        let facts = vec![
            ("disk", machine.disk.clone()),
            ("file system", machine.filesystem.clone()),
            ("kernel", machine.kernel.clone()),
            ("processor", machine.processor.clone()),
        ];
        let mut json = serde_json::Map::new();
        for (name, value) in [
            ("disk", &machine.disk),
            ("filesystem", &machine.filesystem),
            ("kernel", &machine.kernel),
            ("processor", &machine.processor),
        ] {
            json.insert(name.to_string(), value.clone().into());
        }
        Report {
            title: title.into(),
            facts,
            tables: Vec::new(),
            charts: Vec::new(),
            notes: Vec::new(),
            is_failed: false,
            json,
        }
    }

    /// Sets `key` of the JSON object.
    pub(crate) fn set(&mut self, key: &str, value: impl serde::Serialize) {
        self.json.insert(key.to_string(), json::value(value));
    }

    /// The report as text for a terminal.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.title);
        let width = self.facts.iter().map(|fact| fact.0.len()).max().unwrap_or(0);
        for (name, value) in &self.facts {
            text.push_str(&format!("  {name:width$}  {value}\n"));
        }
        for table in self.tables.iter().filter(|table| !table.page_only) {
            text.push('\n');
            text.push_str(&table.text());
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        for note in &self.notes {
            text.push_str(note);
            text.push('\n');
        }
        text
    }
}
