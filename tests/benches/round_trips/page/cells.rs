//! The cells of the tables, and how stored figures are found.

use serde_json::Value;

use crate::figures::spread::Spread;

/// Returns the first of the rows that is the given one, or null.
pub(super) fn find(rows: &Value, is_it: impl Fn(&Value) -> bool) -> &Value {
    let mut rows = rows.as_array().into_iter().flatten();
    rows.find(|row| is_it(row)).unwrap_or(&Value::Null)
}

/// Returns the row of a server under a load of `round_trips`, or null.
pub(super) fn row<'k>(kept: &'k Value, workload: &str, shape: &str, server: &str) -> &'k Value {
    find(&kept["rows"], |row| {
        row["workload"] == workload && row["shape"] == shape && row["server"] == server
    })
}

/// Returns a stored ratio with its spread, and a mark if it is no result; a dash if there is none.
pub(super) fn ratio(stored: &Value) -> String {
    Spread::read(stored).map_or("-".to_owned(), Spread::ratio)
}

/// Returns the median of a stored spread.
pub(super) fn median(stored: &Value) -> Option<f64> {
    Spread::read(stored).map(|spread| spread.median)
}

/// Returns the value with its unit.
pub(super) fn amount(value: Option<f64>, unit: &str) -> String {
    format!("{} {unit}", number(value, 1)).trim_end().to_owned()
}

/// Returns a dash if there is no value, as for a peer that was not installed.
pub(super) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

/// Returns a stored text.
pub(super) fn shown(text: &Value) -> &str {
    text.as_str().unwrap_or_default()
}

/// Returns the line of a table with the given cells.
pub(super) fn line<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> String {
    let cells = cells.into_iter();
    cells.fold("|".to_owned(), |line, cell| match cell.as_ref() {
        "" => line + " |",
        cell => format!("{line} {cell} |"),
    }) + "\n"
}

/// Returns the two lines that open a table with the given heads.
pub(super) fn head<T: AsRef<str>>(heads: &[T]) -> String {
    line(heads) + "|" + &"---|".repeat(heads.len()) + "\n"
}
