//! The derives `Serialize` and `Deserialize` of the prelude, for crates that don't depend on serde themselves.
//!
//! Serde's derives name the crate `serde`, unless `#[serde(crate = "…")]` names another. A derive can't add an attribute
//! to its item. So these derives write the item a second time, with serde's derive and that attribute on it, and with
//! an attribute that removes this copy before the compiler sees a second type of the name. Serde's `impl` stays, and is
//! that of the author's type.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Data, DeriveInput, Fields, Meta};

/// Returns serde's `impl` for the item. `derive` is serde's derive.
pub fn through_serde(mut item: DeriveInput, derive: &TokenStream) -> TokenStream {
    let names_crate = item.attrs.iter().any(names_crate);
    let path = (!names_crate).then(|| quote!(#[serde(crate = "::dae_plugin_api::serde")]));
    keep_serdes(&mut item);
    quote! {
        #[derive(#derive)]
        #[::dae_plugin_api::__removed]
        #path
        #item
    }
}

fn is_serdes(attr: &Attribute) -> bool {
    // Serde refuses packed types whose fields it would have to borrow. By `deprecated` and `allow` it decides whether
    // its code may use deprecated items without a warning.
    ["serde", "repr", "allow", "deprecated"]
        .iter()
        .any(|name| attr.path().is_ident(name))
}

fn names_crate(attr: &Attribute) -> bool {
    if !attr.path().is_ident("serde") || !matches!(attr.meta, Meta::List(_)) {
        return false;
    }
    let mut is_named = false;
    // Serde reports an option that can't be read.
    let _ = attr.parse_nested_meta(|meta| {
        is_named |= meta.path.is_ident("crate");
        if meta.input.peek(syn::Token![=]) {
            meta.value()?.parse::<syn::Expr>()?;
        } else if meta.input.peek(syn::token::Paren) {
            let _: proc_macro2::Group = meta.input.parse()?;
        }
        Ok(())
    });
    is_named
}

/// Removes all attributes that serde doesn't read. Those of other derives would be unknown on the copy.
fn keep_serdes(item: &mut DeriveInput) {
    item.attrs.retain(is_serdes);
    match &mut item.data {
        Data::Struct(data) => keep_in(&mut data.fields),
        Data::Enum(data) => {
            for variant in &mut data.variants {
                variant.attrs.retain(is_serdes);
                keep_in(&mut variant.fields);
            }
        }
        Data::Union(_) => {}
    }
}

fn keep_in(fields: &mut Fields) {
    for field in fields {
        field.attrs.retain(is_serdes);
    }
}
