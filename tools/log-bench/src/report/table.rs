//! A table, as text.

/// Rows under named columns: the first column is left-aligned, the others right-aligned.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// What the table shows.
    pub(crate) title: String,
    /// The columns' names.
    pub(crate) columns: Vec<String>,
    /// As many cells in each as there are columns.
    pub(crate) rows: Vec<Vec<String>>,
    /// Whether it is too long for a terminal, and shown on a page only.
    pub(crate) page_only: bool,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(title: impl Into<String>, columns: &[&str]) -> Table {
        let columns = columns.iter().map(|&name| name.to_string()).collect();
        Table { title: title.into(), columns, rows: Vec::new(), page_only: false }
    }

    /// A table for rates, latencies and shares of a limit.
    pub(crate) fn figures(title: impl Into<String>) -> Table {
        Table::new(title, &["what", "a second", "MB/s", "p50", "p99", "max", "of the raw limit"])
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row: Vec<String> = cells.into_iter().collect();
        assert_eq!(row.len(), self.columns.len(), "a row of {:?} has the wrong number of cells", self.title);
        self.rows.push(row);
    }

    /// The table for a terminal.
    pub(crate) fn text(&self) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|i| self.rows.iter().chain([&self.columns]).map(|row| row[i].len()).max().unwrap_or(0))
            .collect();
        let line = |row: &[String]| {
            let cells = row.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| match i {
                0 => format!("{cell:width$}"),
                _ => format!("{cell:>width$}"),
            });
            format!("  {}\n", cells.collect::<Vec<_>>().join("  ")).trim_end().to_string() + "\n"
        };
        let rule =
            format!("  {}\n", "-".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)));
        let mut text = format!("{}\n{}{rule}", self.title, line(&self.columns));
        text.extend(self.rows.iter().map(|row| line(row)));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new("figures", &["what", "n"]);
        table.row(["appends".to_string(), "7".to_string()]);
        assert_eq!(table.text(), "figures\n  what     n\n  ----------\n  appends  7\n");
    }
}
