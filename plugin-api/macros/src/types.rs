//! Types by their syntax: recognises those that the host supplies, and names the others for `help`.
//!
//! A macro sees names, not types, so an alias appears under its own name.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{GenericArgument, Ident, PathArguments, Type};

use crate::model::Parameter;

/// Returns the last name of a path: `Guest` of `dae_plugin_api::Guest`.
pub fn last_ident(ty: &Type) -> Option<&Ident> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| &segment.ident),
        _ => None,
    }
}

/// Returns the parameter if the type is `Guest` or `Ecosystem`, or a reference to one.
pub fn given_by_host(ty: &Type) -> Option<Parameter> {
    let (borrowed, ty) = match ty {
        Type::Reference(reference) => (true, &*reference.elem),
        ty => (false, ty),
    };
    match last_ident(ty)?.to_string().as_str() {
        "Guest" => Some(Parameter::Guest { borrowed }),
        "Ecosystem" => Some(Parameter::Ecosystem { borrowed }),
        _ => None,
    }
}

/// Returns whether the type is `&str`.
pub fn is_str_reference(ty: &Type) -> bool {
    match ty {
        Type::Reference(reference) if reference.mutability.is_none() => {
            last_ident(&reference.elem).is_some_and(|ident| ident == "str")
        }
        _ => false,
    }
}

/// Returns the reference inside a type, at any depth: `&str` of `Option<(u8, &str)>`.
pub fn reference_inside(ty: &Type) -> Option<&Type> {
    inside(ty).into_iter().find_map(|ty| match ty {
        Type::Reference(_) => Some(ty),
        ty => reference_inside(ty),
    })
}

/// Returns the `impl Trait` inside a type, at any depth: `impl Display` of `Vec<impl Display>`. Where one stands in no type
/// argument, as in a bound, returns the type around it.
pub fn impl_trait_inside(ty: &Type) -> Option<&Type> {
    if let Type::ImplTrait(_) = ty {
        return Some(ty);
    }
    let inner = inside(ty).into_iter().find_map(impl_trait_inside);
    inner.or_else(|| has_impl(ty.to_token_stream()).then_some(ty))
}

fn has_impl(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == "impl",
        TokenTree::Group(group) => has_impl(group.stream()),
        _ => false,
    })
}

/// Returns the types that a type is made of: `String` and `u8` of `HashMap<String, u8>`.
pub fn inside(ty: &Type) -> Vec<&Type> {
    match ty {
        Type::Tuple(tuple) => tuple.elems.iter().collect(),
        Type::Array(array) => vec![&*array.elem],
        Type::Slice(slice) => vec![&*slice.elem],
        Type::Paren(paren) => vec![&*paren.elem],
        Type::Group(group) => vec![&*group.elem],
        Type::Reference(reference) => vec![&*reference.elem],
        ty => arguments_of(ty).into_iter().flatten().collect(),
    }
}

/// Returns the `T` of `wrapper<T>`.
pub fn inner_of<'t>(ty: &'t Type, wrapper: &str) -> Option<&'t Type> {
    let mut arguments = arguments_of(ty)?;
    if last_ident(ty)? != wrapper {
        return None;
    }
    arguments.next()
}

fn arguments_of(ty: &Type) -> Option<impl Iterator<Item = &Type>> {
    let Type::Path(path) = ty else { return None };
    let PathArguments::AngleBracketed(list) = &path.path.segments.last()?.arguments else {
        return None;
    };
    Some(list.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    }))
}

/// Returns the name of a type for `help`: JSON's word if there is one, otherwise the type's own name.
pub fn spoken(ty: &Type) -> String {
    match ty {
        Type::Reference(reference) => spoken(&reference.elem),
        Type::Slice(slice) => format!("array of {}", spoken(&slice.elem)),
        Type::Array(array) => format!("array of {}", spoken(&array.elem)),
        Type::Tuple(tuple) if tuple.elems.is_empty() => "null".to_owned(),
        Type::Tuple(tuple) => {
            let all: Vec<String> = tuple.elems.iter().map(spoken).collect();
            format!("[{}]", all.join(", "))
        }
        Type::Path(_) => spoken_path(ty),
        _ => "any".to_owned(),
    }
}

fn spoken_path(ty: &Type) -> String {
    let Some(ident) = last_ident(ty) else {
        return "any".to_owned();
    };
    let argument = |n: usize| {
        let nth = arguments_of(ty).and_then(|mut all| all.nth(n));
        nth.map_or_else(|| "any".to_owned(), spoken)
    };
    match ident.to_string().as_str() {
        "String" | "str" | "char" | "Cow" | "PathBuf" => "string".to_owned(),
        "bool" => "boolean".to_owned(),
        "f32" | "f64" => "number".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "integer".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "integer from 0".to_owned(),
        "Value" => "any".to_owned(),
        "Vec" | "VecDeque" | "HashSet" | "BTreeSet" => format!("array of {}", argument(0)),
        "HashMap" | "BTreeMap" => format!("object of {}", argument(1)),
        "Option" => format!("{} or null", argument(0)),
        "Box" | "Arc" | "Rc" => argument(0),
        other => other.to_owned(),
    }
}
