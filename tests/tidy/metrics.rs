//! That whoever watches can look up what each metric means.

use std::collections::BTreeMap;

use crate::Finding;
use crate::scan::Source;

/// The page that explains them.
const PAGE: &str = "docs/operations.md";
/// How a metric is begun.
const MACROS: [&str; 3] = ["gauge!(\"", "counter!(\"", "histogram!(\""];

/// Metrics that the page does not name.
pub(crate) fn unexplained(source: &Source, pages: &BTreeMap<String, String>) -> Vec<Finding> {
    let page = pages.get(PAGE).map_or("", String::as_str);
    let mut findings = vec![];
    if !source.path.starts_with("src/") {
        return findings;
    }
    for (text, line) in source.text.lines().zip(1..) {
        for begin in MACROS {
            let names = text.split(begin).skip(1).filter_map(|rest| rest.split('"').next());
            for name in names.filter(|name| !page.contains(&format!("`{name}`"))) {
                let advice = format!("`{name}` is not explained; say in {PAGE} what it means");
                findings.push(Finding::new(&source.path, line, "metrics", advice));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_that_no_page_explains_is_found() {
        let pages = [(PAGE.to_owned(), "| `annals_known_total` | known |".to_owned())].into();
        let text = "fn a() { metrics::counter!(\"annals_known_total\").increment(1);\n\
                    metrics::gauge!(\"annals_odd\").set(1.0); }";
        let source = Source::parse("src/a.rs", text);
        let found: Vec<usize> =
            unexplained(&source, &pages).into_iter().map(|finding| finding.line).collect();
        assert_eq!(found, [2]);
    }
}
