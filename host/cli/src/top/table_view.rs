//! The table of `top`: its rows in order, those that the filter lets through, the selected one, and the rates of the
//! last minute.

use std::collections::{HashMap, HashSet, VecDeque};

use clap::ValueEnum as _;

use crate::list::{Listed, SortColumn, sort};

/// The rates that are held of each daemon: as many as a sparkline may have cells.
const RATES_MAX: usize = 60;

/// The table.
#[derive(Debug)]
pub(super) struct TableView {
    rows: Vec<Listed>,
    pub(super) sort: SortColumn,
    /// Only daemons whose names contain this are shown, in any case of letters.
    pub(super) filter: String,
    /// The selected daemon by name, so that it stays selected in any order.
    selected: String,
    /// The commands per second, the newest last, by name.
    rates: HashMap<String, VecDeque<f64>>,
}

impl TableView {
    pub(super) fn new(sort: SortColumn) -> Self {
        TableView {
            rows: Vec::new(),
            sort,
            filter: String::new(),
            selected: String::new(),
            rates: HashMap::new(),
        }
    }

    /// Takes the rows of an answer. Rows that were not measured keep the measurement before.
    pub(super) fn take(&mut self, mut rows: Vec<Listed>, is_measured: bool) {
        if is_measured {
            let names: HashSet<&str> = rows.iter().map(|row| row.status.name.as_str()).collect();
            self.rates.retain(|name, _| names.contains(name.as_str()));
            rows.iter().for_each(|row| self.count(row));
        } else {
            let earlier = self.rows.drain(..);
            let mut earlier: HashMap<String, Listed> =
                earlier.map(|row| (row.status.name.clone(), row)).collect();
            for row in &mut rows {
                let before = earlier.remove(&row.status.name);
                row.usage = before.and_then(|before| before.usage);
            }
        }
        self.rows = rows;
        self.arrange();
    }

    fn count(&mut self, row: &Listed) {
        let Some(usage) = &row.usage else { return };
        let rates = self.rates.entry(row.status.name.clone()).or_default();
        rates.push_back(usage.commands.calls_per_s);
        if rates.len() > RATES_MAX {
            rates.pop_front();
        }
    }

    fn arrange(&mut self) {
        sort(&mut self.rows, self.sort);
        let is_there = self.rows.iter().any(|row| row.status.name == self.selected);
        if !is_there && let Some(first) = self.rows.first() {
            self.selected = first.status.name.clone();
        }
    }

    /// Sorts by the next column, and behind the last one by the first.
    pub(super) fn sort_by_next(&mut self) {
        let all = SortColumn::value_variants();
        let at = all.iter().position(|one| *one == self.sort).unwrap_or(0);
        self.sort = all[(at + 1) % all.len()];
        self.arrange();
    }

    /// Returns all rows in order.
    pub(super) fn rows(&self) -> &[Listed] {
        &self.rows
    }

    /// Returns the rows that the filter lets through.
    pub(super) fn shown(&self) -> Vec<&Listed> {
        let wanted = self.filter.to_lowercase();
        let has =
            |row: &&Listed| wanted.is_empty() || row.status.name.to_lowercase().contains(&wanted);
        self.rows.iter().filter(has).collect()
    }

    /// Returns the place of the selected daemon among the shown ones. If it is not among them, the first one counts as
    /// selected.
    pub(super) fn place(&self) -> usize {
        let shown = self.shown();
        let place = shown
            .iter()
            .position(|row| row.status.name == self.selected);
        place.unwrap_or(0)
    }

    /// Returns the selected daemon.
    pub(super) fn selected(&self) -> Option<&Listed> {
        self.shown().get(self.place()).copied()
    }

    /// Selects the daemon that stands so many rows further down, or up.
    pub(super) fn step(&mut self, rows: isize) {
        let last = self.shown().len().saturating_sub(1);
        self.select(self.place().saturating_add_signed(rows).min(last));
    }

    /// Selects the first daemon or the last one.
    pub(super) fn select_end(&mut self, is_last: bool) {
        let last = self.shown().len().saturating_sub(1);
        self.select(if is_last { last } else { 0 });
    }

    fn select(&mut self, place: usize) {
        let name = self.shown().get(place).map(|row| row.status.name.clone());
        self.selected = name.unwrap_or_default();
    }

    /// Returns the commands per second of a daemon, the newest last.
    pub(super) fn rates(&self, name: &str) -> impl DoubleEndedIterator<Item = f64> {
        self.rates.get(name).into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dae_store::report::Status;

    fn rows(names: &[&str]) -> Vec<Listed> {
        let row = |name: &&str| {
            Listed::from(Status {
                name: (*name).to_owned(),
                calls: name.len() as u64,
                ..Status::default()
            })
        };
        names.iter().map(row).collect()
    }

    fn selected(table: &TableView) -> &str {
        table.selected().map_or("", |row| row.status.name.as_str())
    }

    #[test]
    fn the_selected_daemon_stays_selected_in_any_order_and_goes_with_itself() {
        let mut table = TableView::new(SortColumn::Name);
        assert_eq!(selected(&table), "");
        table.take(rows(&["Dae", "Aa", "Bbb", "C"]), true);
        assert_eq!(selected(&table), "Dae");
        table.step(2);
        assert_eq!((selected(&table), table.place()), ("Bbb", 2));
        table.sort = SortColumn::Calls;
        table.arrange();
        assert_eq!((selected(&table), table.place()), ("Bbb", 1));
        table.step(-9);
        assert_eq!(selected(&table), "Dae");
        table.select_end(true);
        assert_eq!(selected(&table), "C");
        table.take(rows(&["Dae", "Aa"]), true);
        assert_eq!(selected(&table), "Dae");
    }

    #[test]
    fn a_filter_hides_all_others_and_selects_what_is_left() {
        let mut table = TableView::new(SortColumn::Name);
        table.take(rows(&["Dae", "Sample", "Sorter"]), true);
        table.filter = "SO".to_owned();
        assert_eq!((table.shown().len(), selected(&table)), (1, "Sorter"));
        table.filter = "none".to_owned();
        assert_eq!((table.shown().len(), selected(&table)), (0, ""));
        table.step(1);
        table.filter.clear();
        assert_eq!(selected(&table), "Dae");
    }
}
