//! A table, as text.

/// Rows under named columns, indented by two; which columns hold numbers says the first row.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    #[must_use]
    pub fn new(columns: &[&str]) -> Table {
        Table { rows: vec![columns.iter().map(|&name| name.to_owned()).collect()] }
    }

    /// Adds a row; one that is shorter than the others leaves the last cells empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table for a terminal: numbers to the right, all else to the left.
    #[must_use]
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let widths: Vec<usize> = (0..columns)
            .map(|column| cells(column).map(|cell| cell.chars().count()).max().unwrap_or(0))
            .collect();
        let is_number = |cell: &String| cell.is_empty() || cell.bytes().all(|byte| byte.is_ascii_digit());
        let to_the_right: Vec<bool> =
            (0..columns).map(|column| cells(column).skip(1).all(is_number)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().enumerate().map(|(column, cell)| match widths[column] {
                width if to_the_right[column] => format!("{cell:>width$}"),
                width => format!("{cell:width$}"),
            });
            text.push_str(format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let mut table = Table::new(&["file", "n", "what"]);
        table.row(["a".to_owned(), "1000".to_owned()]);
        table.row(["bcdef".to_owned(), "7".to_owned(), "odd".to_owned()]);
        assert_eq!(table.text(), "  file      n  what\n  a      1000\n  bcdef     7  odd\n");
    }
}
