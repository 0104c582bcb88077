//! Replies in parts: recognises the commands that send them, writes their glue and their entry in the manifest.
//!
//! A macro sees names, not types: `impl Stream<…>` and `Progress<…>` are recognised by their last name.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{GenericArgument, PathArguments, ReturnType, Type, TypeParamBound};

use crate::model::{Command, Kind, Parameter, PartsKind, fault};
use crate::types;

/// Returns the kind of parts that a command sends, if any.
pub fn read(
    kind: Option<Kind>,
    parameters: &[Parameter],
    output: &ReturnType,
) -> syn::Result<Option<PartsKind>> {
    let report = parameters.iter().find_map(|one| match one {
        Parameter::Progress(ty) => Some(ty),
        _ => None,
    });
    match (stream_of(output), report, kind) {
        (Some((stream, _)), _, Some(Kind::Blocking)) => {
            let text = "the host polls a stream, and doesn't block for it; leave `blocking` out";
            fault(stream, text)
        }
        (Some(_), Some(report), _) => {
            let text = "a command sends the items of its stream or reports, not both; leave `Progress` out";
            fault(report, text)
        }
        (None, Some(report), Some(Kind::Sync | Kind::Blocking)) => {
            let text =
                "a report waits for a caller that reads slowly; make the command an `async fn`";
            fault(report, text)
        }
        (Some((_, fallible)), None, _) => Ok(Some(PartsKind::Items { fallible })),
        (None, Some(_), _) => Ok(Some(PartsKind::Progress)),
        (None, None, _) => Ok(None),
    }
}

/// Returns the parameter if its type is `Progress<T>`.
pub fn given_by_host(ty: &Type) -> Option<Parameter> {
    types::inner_of(ty, "Progress").map(|report| Parameter::Progress(report.clone()))
}

/// Returns the type if it is `impl Stream<…>`, or the one in a `Result` of it, and whether it is a `Result`.
fn stream_of(output: &ReturnType) -> Option<(&Type, bool)> {
    let ReturnType::Type(_, ty) = output else {
        return None;
    };
    match types::inner_of(ty, "Result") {
        Some(inner) => is_stream(inner).then_some((inner, true)),
        None => is_stream(ty).then_some((&**ty, false)),
    }
}

fn is_stream(ty: &Type) -> bool {
    let Type::ImplTrait(ty) = ty else {
        return false;
    };
    ty.bounds.iter().any(|bound| match bound {
        TypeParamBound::Trait(bound) => {
            let last = bound.path.segments.last();
            last.is_some_and(|segment| segment.ident == "Stream")
        }
        _ => false,
    })
}

/// Returns the return type of a command as its whole reply has it: a list in place of a stream.
pub fn whole_output(command: &Command) -> ReturnType {
    let item = stream_of(&command.output).and_then(|(stream, _)| item_of(stream));
    let Some(item) = item else {
        return command.output.clone();
    };
    // An item that is an error ends the reply.
    let item = types::inner_of(item, "Result").unwrap_or(item);
    syn::parse_quote!(-> ::std::vec::Vec<#item>)
}

/// Returns the `T` of `impl Stream<Item = T>`.
fn item_of(stream: &Type) -> Option<&Type> {
    let Type::ImplTrait(stream) = stream else {
        return None;
    };
    stream.bounds.iter().find_map(|bound| {
        let TypeParamBound::Trait(bound) = bound else {
            return None;
        };
        let PathArguments::AngleBracketed(list) = &bound.path.segments.last()?.arguments else {
            return None;
        };
        list.args.iter().find_map(|one| match one {
            GenericArgument::AssocType(item) if item.ident == "Item" => Some(&item.ty),
            _ => None,
        })
    })
}

/// Writes the code that sends or collects the items of the stream in `value`. It ends with the status.
pub fn drain(fallible: bool, output: &ReturnType) -> TokenStream {
    let drained = quote_spanned! { output.span() =>
        ::dae_plugin_api::export::drain(parts, value, &mut out, |item, out| {
            (&DaeValue(&item)).reply_kind().write(&item, out)
        })
        .await
    };
    match fallible {
        false => drained,
        true => quote! {
            match value {
                ::std::result::Result::Ok(value) => #drained,
                ::std::result::Result::Err(error) => {
                    let value = ::std::result::Result::<(), _>::Err(error);
                    (&DaeValue(&value)).reply_kind().write(&value, &mut out)
                }
            }
        },
    }
}

/// Returns the member of a command's entry in the manifest, with a comma in front of it.
pub fn in_manifest(parts: Option<PartsKind>) -> &'static str {
    match parts {
        Some(PartsKind::Items { .. }) => ",\"parts\":\"items\"",
        Some(PartsKind::Progress) => ",\"parts\":\"progress\"",
        None => "",
    }
}
