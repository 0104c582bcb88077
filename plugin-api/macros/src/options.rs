//! Reads the options of an attribute by a table: one row for each option.
//!
//! Every fault is reported at its place, with the options that are allowed there. A new option needs a row in its
//! attribute's table and an arm where the attribute's values are stored.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens as _;
use syn::meta::ParseNestedMeta;
use syn::parse::Parser as _;
use syn::spanned::Spanned as _;
use syn::{Error, Expr, ExprLit, Lit, LitInt, LitStr, Path, Result, Token, Type};

use crate::event::{self, Event};
use crate::model::fault;
use crate::nearest::nearest;

/// One option of an attribute.
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// The way to write it, for error messages.
    pub form: &'static str,
    /// Its value.
    pub takes: Takes,
    /// An earlier name, which is still read.
    pub earlier: Option<&'static str>,
}

/// The value that an option takes.
#[derive(Clone, Copy)]
pub enum Takes {
    Nothing,
    Text,
    Version,
    Seconds,
    Type,
    Events,
}

/// The options of one attribute.
pub struct Table {
    /// The attribute as the author writes it, such as `#[command]`.
    pub attribute: &'static str,
    pub rows: &'static [Row],
}

/// The value of an option, as the author wrote it.
pub enum Value {
    Flag,
    Text(LitStr),
    Version(u32, LitInt),
    /// A positive number of milliseconds.
    Millis(u64),
    Type(Box<Type>),
    Events(Vec<Event>),
}

impl Row {
    pub const fn new(name: &'static str, form: &'static str, takes: Takes) -> Self {
        Row {
            name,
            form,
            takes,
            earlier: None,
        }
    }

    fn is_meant(&self, path: &Path) -> bool {
        path.is_ident(self.name) || self.earlier.is_some_and(|name| path.is_ident(name))
    }
}

impl Value {
    /// Returns the text of an option whose row says [`Takes::Text`].
    pub fn into_text(self) -> Option<LitStr> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads the options between the parentheses of an attribute, and gives each to `take`, by its name in the table.
pub fn read(
    table: &Table,
    tokens: TokenStream,
    mut take: impl FnMut(&'static str, Value),
) -> Result<()> {
    let mut seen: Vec<&'static str> = Vec::new();
    let mut is_ours = false;
    let parser = syn::meta::parser(|meta| {
        let option = table.option(&meta, &mut seen);
        is_ours = option.is_err();
        option.map(|(name, value)| take(name, value))
    });
    let parsed = parser.parse2(tokens);
    parsed.map_err(|fault| match is_ours {
        true => fault,
        // The list itself is no list of names.
        false => Error::new(fault.span(), table.known()),
    })
}

impl Table {
    /// Reads one option, and refuses one that stands twice.
    fn option(
        &self,
        meta: &ParseNestedMeta<'_>,
        seen: &mut Vec<&'static str>,
    ) -> Result<(&'static str, Value)> {
        let Some(row) = self.rows.iter().find(|row| row.is_meant(&meta.path)) else {
            return Err(meta.error(self.unknown(&meta.path.to_token_stream().to_string())));
        };
        if seen.contains(&row.name) {
            let text = format!("`{}` stands here a second time; write it once", row.name);
            return Err(meta.error(text));
        }
        seen.push(row.name);
        row.value(meta).map(|value| (row.name, value))
    }

    /// Returns the list of all options, for error messages.
    pub fn known(&self) -> String {
        let forms: Vec<String> = self
            .rows
            .iter()
            .map(|row| format!("`{}`", row.form))
            .collect();
        match forms.split_last() {
            Some((last, [])) => format!("{} knows {last}, and nothing else", self.attribute),
            Some((last, before)) => {
                let before = before.join(", ");
                format!(
                    "{} knows {before} and {last}, and nothing else",
                    self.attribute
                )
            }
            None => format!("{} has no options", self.attribute),
        }
    }

    fn unknown(&self, name: &str) -> String {
        let names = self.rows.iter().map(|row| row.name);
        match nearest(name, names) {
            Some(near) => format!("did you mean `{near}`? {}", self.known()),
            None => self.known(),
        }
    }
}

impl Row {
    fn value(&self, meta: &ParseNestedMeta<'_>) -> Result<Value> {
        if let Takes::Events = self.takes {
            return event::read_list(meta, self).map(Value::Events);
        }
        let has_value = meta.input.peek(Token![=]);
        if let Takes::Nothing = self.takes {
            return match meta.input.is_empty() || meta.input.peek(Token![,]) {
                true => Ok(Value::Flag),
                false => Err(meta.error(format!(
                    "`{}` takes no value; write `{}`, or leave it out",
                    self.name, self.form
                ))),
            };
        }
        if !has_value {
            return Err(meta.error(format!("`{}` takes a value: `{}`", self.name, self.form)));
        }
        let input = meta.value()?;
        if let Takes::Type = self.takes {
            let place = input.span();
            return match input.parse() {
                Ok(ty) => Ok(Value::Type(Box::new(ty))),
                Err(_) => Err(self.misfit(place, "the name of a type")),
            };
        }
        let place = input.span();
        let given: Expr = input
            .parse()
            .map_err(|_| self.misfit(place, self.takes.spoken()))?;
        self.literal(&given)
    }

    fn literal(&self, given: &Expr) -> Result<Value> {
        let value = match (self.takes, lit_of(given)) {
            (Takes::Text, Some(Lit::Str(text))) => Some(Value::Text(text.clone())),
            (Takes::Version, Some(Lit::Int(number))) => {
                version(number).map(|version| Value::Version(version, number.clone()))
            }
            (Takes::Seconds, Some(lit)) => millis(lit).map(Value::Millis),
            _ => None,
        };
        value.map_or_else(|| Err(self.misfit(given.span(), self.takes.spoken())), Ok)
    }

    fn misfit(&self, place: Span, takes: &str) -> Error {
        Error::new(
            place,
            format!("`{}` takes {takes}: `{}`", self.name, self.form),
        )
    }
}

impl Takes {
    fn spoken(self) -> &'static str {
        match self {
            Takes::Nothing => "no value",
            Takes::Text => "a string",
            Takes::Version => "a whole number from 0 to 4294967295",
            Takes::Seconds => "a number of seconds from 0.001 to 86400 (a day), such as 5 or 0.5",
            Takes::Type => "the name of a type",
            Takes::Events => "a list of events",
        }
    }
}

/// Returns the literal of an expression. A literal with a minus has none: no option takes one.
fn lit_of(given: &Expr) -> Option<&Lit> {
    match given {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        Expr::Group(group) => lit_of(&group.expr),
        _ => None,
    }
}

fn version(number: &LitInt) -> Option<u32> {
    match number.suffix() {
        "" | "u32" => number.base10_parse().ok(),
        _ => None,
    }
}

/// The longest time limit of a command (ms): a day. A longer limit is as good as none.
const MILLIS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Returns a number of seconds in milliseconds, rounded to the nearest one.
fn millis(lit: &Lit) -> Option<u64> {
    let millis = match lit {
        Lit::Int(whole) if whole.suffix().is_empty() => {
            whole.base10_parse::<u64>().ok()?.checked_mul(1000)?
        }
        Lit::Float(number) if number.suffix().is_empty() => {
            let millis = (number.base10_parse::<f64>().ok()? * 1000.0).round();
            #[allow(clippy::cast_precision_loss, reason = "the limit is far below 2^53")]
            let fits = (1.0..=MILLIS_MAX as f64).contains(&millis);
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is whole, and within the range above"
            )]
            fits.then_some(millis as u64)?
        }
        _ => return None,
    };
    (1..=MILLIS_MAX).contains(&millis).then_some(millis)
}

/// Returns an error at an attribute that takes its options in parentheses, if it has them after `=`.
pub fn check_list(attr: &syn::Attribute, table: &Table) -> Result<()> {
    match &attr.meta {
        syn::Meta::NameValue(pair) => {
            let example = table.rows.first().map_or("", |row| row.form);
            let known = table.known();
            let name = pair.path.to_token_stream();
            fault(
                &attr.meta,
                format!("{known}; options stand in parentheses: #[{name}({example})]"),
            )
        }
        _ => Ok(()),
    }
}
