//! Checks what every method that the host calls has in common: no type parameters, a plain `fn`, and its `self`.

use syn::{FnArg, GenericParam, Receiver, ReceiverKind, Result, Safety, Signature};

use crate::command;
use crate::model::fault;

/// Checks a method that takes `&self`; `who` names it in the error.
pub fn check(who: &str, sig: &Signature) -> Result<()> {
    check_plain(who, sig)?;
    let Some(receiver) = sig.receiver() else {
        let text =
            format!("{who} needs `&self` as its first parameter: it is a method of the daemon");
        return fault(&sig.ident, text);
    };
    check_receiver(who, receiver)
}

/// Checks that the function is a `fn` or an `async fn` without parameters of types or lifetimes.
pub fn check_plain(who: &str, sig: &Signature) -> Result<()> {
    if let Some(parameter) = sig.generics.params.first() {
        let text = match parameter {
            GenericParam::Lifetime(_) => format!(
                "{who} has no lifetimes: what the host gives it is owned, except `&self`, `&str`, `&Guest` and `&Ecosystem`, \
                 which need no name; leave this out"
            ),
            _ => format!(
                "{who} can't be generic: the host calls it, and knows only the types that are written here"
            ),
        };
        return fault(&sig.generics, text);
    }
    if let Safety::Unsafe(word) = &sig.safety {
        let text = format!(
            "{who} can't be `unsafe`: the host can't promise anything; write a plain `fn` or an `async fn`"
        );
        return fault(word, text);
    }
    if let Some(abi) = &sig.abi {
        let text = format!(
            "{who} can't be `extern`: a panic in it would end the process; write a plain `fn` or an `async fn`"
        );
        return fault(abi, text);
    }
    Ok(())
}

/// Checks that each parameter is there in every build.
pub fn check_cfgs(sig: &Signature) -> Result<()> {
    sig.inputs.iter().try_for_each(|input| match input {
        FnArg::Typed(input) => command::check_cfg(input),
        FnArg::Receiver(_) => Ok(()),
    })
}

/// Checks that the receiver is `&self`.
fn check_receiver(who: &str, receiver: &Receiver) -> Result<()> {
    if matches!(&receiver.kind, ReceiverKind::Reference(_, None, None)) {
        return Ok(());
    }
    let text = format!(
        "{who} takes `&self`, since several guests call at the same time; \
         keep what changes in an atomic or behind a Mutex"
    );
    fault(receiver, text)
}
