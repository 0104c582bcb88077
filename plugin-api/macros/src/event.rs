//! Reads the events that a daemon declares: `events(tick(u64), moved(x: f64, y: f64), "went-away")`.

use syn::ext::IdentExt as _;
use syn::meta::ParseNestedMeta;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Ident, LitStr, Result, Token, Type, parenthesized, token};

use crate::command;
use crate::model::fault;
use crate::options::Row;

/// An event that a daemon sends to its guests, or a topic of it.
pub struct Event {
    pub name: String,
    pub arguments: Vec<EventArgument>,
}

/// An argument of an event.
pub struct EventArgument {
    /// Its name, or its position if the author gave none.
    pub name: Option<String>,
    pub ty: Type,
}

/// Reads the list in parentheses after the option's name.
pub fn read_list(meta: &ParseNestedMeta<'_>, row: &Row) -> Result<Vec<Event>> {
    if !meta.input.peek(token::Paren) {
        return Err(meta.error(format!(
            "`{}` takes a list in parentheses: `{}`",
            row.name, row.form
        )));
    }
    let list;
    parenthesized!(list in meta.input);
    let events: Vec<Event> = Punctuated::<Event, Token![,]>::parse_terminated(&list)?
        .into_iter()
        .collect();
    let mut names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(meta.error(format!("the event `{}` stands here twice", pair[0]))),
        None => Ok(events),
    }
}

impl Parse for Event {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let (name, place) = match input.peek(LitStr) {
            true => {
                let text: LitStr = input.parse()?;
                (text.value(), quote::ToTokens::into_token_stream(text))
            }
            false => {
                let ident = input.call(Ident::parse_any)?;
                (
                    ident.unraw().to_string(),
                    quote::ToTokens::into_token_stream(ident),
                )
            }
        };
        if !command::is_name(&name) {
            let text =
                "an event's name is 1 to 128 bytes without white space, control characters or `#`";
            return fault(place, text);
        }
        let mut arguments = Vec::new();
        if input.peek(token::Paren) {
            let list;
            parenthesized!(list in input);
            arguments = Punctuated::<EventArgument, Token![,]>::parse_terminated(&list)?
                .into_iter()
                .collect();
        }
        Ok(Event { name, arguments })
    }
}

impl Parse for EventArgument {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let is_named =
            input.peek(Ident::peek_any) && input.peek2(Token![:]) && !input.peek2(Token![::]);
        let name = match is_named {
            true => {
                let ident = input.call(Ident::parse_any)?;
                let _: Token![:] = input.parse()?;
                Some(ident.unraw().to_string())
            }
            false => None,
        };
        let ty = input.parse()?;
        Ok(EventArgument { name, ty })
    }
}
