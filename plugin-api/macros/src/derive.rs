//! The derives `Serialize`, `Deserialize` and `JsonSchema` of the prelude, for crates that depend neither on serde nor on
//! schemars themselves.
//!
//! Serde's derives name the crate `serde`, unless `#[serde(crate = "…")]` names another. A derive can't add an attribute
//! to its item. So these derives write the item a second time, with serde's derive and that attribute on it, and with
//! an attribute that removes this copy before the compiler sees a second type of the name. Serde's `impl` stays, and is
//! that of the author's type. The same holds for schemars, which reads serde's attributes as well as its own.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Attribute, Data, DeriveInput, Fields, Ident, Meta};

/// A derive of another crate.
pub struct Derive {
    /// Its path below `dae_plugin_api`.
    path: TokenStream,
    /// The attribute with which it takes the name of its crate.
    attribute: &'static str,
    /// The name of its crate below `dae_plugin_api`.
    krate: &'static str,
    /// The attributes that it reads. Those of other derives would be unknown on the copy.
    reads: &'static [&'static str],
}

impl Derive {
    /// Returns the derive of one of serde's traits.
    pub fn of_serde(path: TokenStream) -> Self {
        Derive {
            path,
            attribute: "serde",
            krate: "::dae_plugin_api::serde",
            // Serde refuses packed types whose fields it would have to borrow. By `deprecated` and `allow` it decides
            // whether its code may use deprecated items without a warning.
            reads: &["serde", "repr", "allow", "deprecated"],
        }
    }

    /// Returns the derive of schemars.
    pub fn of_schemars() -> Self {
        Derive {
            path: quote!(::dae_plugin_api::schemars::JsonSchema),
            attribute: "schemars",
            krate: "::dae_plugin_api::schemars",
            // A doc comment becomes a description.
            reads: &["schemars", "serde", "doc", "repr", "deprecated"],
        }
    }

    /// Returns the `impl` for the item.
    pub fn expand(&self, mut item: DeriveInput) -> TokenStream {
        let Derive { path, krate, .. } = self;
        let attribute = Ident::new(self.attribute, Span::call_site());
        let names_crate = item
            .attrs
            .iter()
            .any(|attr| names_crate(attr, self.attribute));
        let named = (!names_crate).then(|| quote!(#[#attribute(crate = #krate)]));
        self.keep_own(&mut item);
        quote! {
            #[derive(#path)]
            #[::dae_plugin_api::__removed]
            #named
            #item
        }
    }

    fn keep_own(&self, item: &mut DeriveInput) {
        self.keep(&mut item.attrs);
        match &mut item.data {
            Data::Struct(data) => self.keep_in(&mut data.fields),
            Data::Enum(data) => {
                for variant in &mut data.variants {
                    self.keep(&mut variant.attrs);
                    self.keep_in(&mut variant.fields);
                }
            }
            Data::Union(_) => {}
        }
    }

    fn keep_in(&self, fields: &mut Fields) {
        for field in fields {
            self.keep(&mut field.attrs);
        }
    }

    fn keep(&self, attrs: &mut Vec<Attribute>) {
        attrs.retain(|attr| self.reads.iter().any(|name| attr.path().is_ident(name)));
    }
}

/// Returns whether the attribute names the crate of its derive.
fn names_crate(attr: &Attribute, attribute: &str) -> bool {
    if !attr.path().is_ident(attribute) || !matches!(attr.meta, Meta::List(_)) {
        return false;
    }
    let mut is_named = false;
    // The derive reports an option that can't be read.
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
