//! A report as one page that needs nothing else: no script, no font, no network.

use super::Report;
use super::table::Table;

/// Text that may stand anywhere in a page.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const GLANCE_ROWS: usize = 16;

/// The page of `report`.
pub(crate) fn page(report: &Report) -> String {
    let mut body = format!("<h1>{}</h1>\n", escaped(&report.title));
    // Figures to begin with, then plots; what is too long to take in at a glance comes last.
    let (short, long): (Vec<_>, Vec<_>) =
        report.tables.iter().partition(|table| table.rows.len() <= GLANCE_ROWS);
    short.into_iter().for_each(|table| body.push_str(&table_element(table)));
    body.push_str("<div class=\"plots\">\n");
    for chart in &report.charts {
        let svg = chart.svg();
        if !svg.is_empty() {
            let names: String =
                chart.legend().iter().map(|(name, colour)| legend_item(name, colour)).collect();
            let legend = if names.is_empty() { String::new() } else { format!("<ul>{names}</ul>\n") };
            let caption = escaped(&chart.title);
            body.push_str(&format!("<figure><figcaption>{caption}</figcaption>\n{legend}{svg}</figure>\n"));
        }
    }
    body.push_str("</div>\n");
    long.into_iter().for_each(|table| body.push_str(&table_element(table)));
    for note in &report.notes {
        body.push_str(&format!("<p>{}</p>\n", escaped(note)));
    }
    body.push_str("<h2>Measured on</h2>\n<dl>\n");
    for (name, value) in &report.facts {
        body.push_str(&format!("<dt>{}</dt><dd>{}</dd>\n", escaped(name), escaped(value)));
    }
    body.push_str("</dl>\n");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>log-bench: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\
         <footer>log-bench {} of annals</footer>\n</main>\n</body>\n</html>\n",
        escaped(&report.title),
        env!("CARGO_PKG_VERSION"),
    )
}

fn legend_item(name: &str, colour: &str) -> String {
    format!("<li><span style=\"background:{colour}\"></span>{}</li>", escaped(name))
}

fn table_element(table: &Table) -> String {
    let cells = |row: &[String], tag: &str| {
        row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect::<String>()
    };
    let rows: String = table.rows.iter().map(|row| format!("<tr>{}</tr>\n", cells(row, "td"))).collect();
    format!(
        "<div class=\"wide\"><table>\n<caption>{}</caption>\n<thead><tr>{}</tr></thead>\n<tbody>\n{rows}</tbody>\n\
         </table></div>\n",
        escaped(&table.title),
        cells(&table.columns, "th"),
    )
}

/// Colours 1 and 2 are those that `chart` draws text and rules in.
const STYLE: &str = r##":root { color-scheme: light dark; --paper: #ffffff; --ink: #1c2024; --faint: #6b7280; --rule: #e2e5e9; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181c; --ink: #e4e7eb; --faint: #9aa2ad; --rule: #30363d; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1640px; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 1rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 0 0 1.5rem; font-size: .95rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; white-space: nowrap; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th { color: var(--faint); font-weight: 500; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.plots { display: grid; margin-bottom: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 560px), 1fr)); gap: 1.5rem; }
figure { margin: 0; min-width: 0; }
figcaption { font-weight: 600; margin-bottom: .25rem; }
figure ul { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; margin: 0; padding: 0; font-size: .85rem; }
figure span { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 2px; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); font-family: system-ui, sans-serif; }
svg [fill="#010101"] { fill: var(--ink); }
svg [stroke="#010101"] { stroke: var(--ink); }
svg [stroke="#020202"] { stroke: var(--rule); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 2rem; color: var(--faint); font-size: .85rem; }
"##;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_cannot_break_out_of_the_page() {
        let mut table = Table::new("t", &["<script>"]);
        table.row(["a & b".to_string()]);
        let element = table_element(&table);
        assert!(element.contains("&lt;script&gt;") && element.contains("a &amp; b"));
        assert!(!element.contains("<script>"));
    }
}
