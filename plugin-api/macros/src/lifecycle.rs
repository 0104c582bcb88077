//! Reads `start`, `run`, `stop`, `save` and `migrate` from their methods.

use syn::{FnArg, ImplItemFn, Result, Signature, Type};

use crate::model::{Lifecycle, StartParameter, fault};
use crate::{signature, types};

/// Reads one lifecycle method.
pub fn read(method: &ImplItemFn) -> Result<Lifecycle> {
    let sig = &method.sig;
    signature::check_plain(&format!("`{}`", sig.ident), sig)?;
    signature::check_cfgs(sig)?;
    let parameters = match sig.ident.to_string().as_str() {
        "start" => read_start(sig)?,
        "migrate" => read_migrate(sig)?,
        _ => read_work(sig)?,
    };
    Ok(Lifecycle {
        method: sig.ident.clone(),
        is_async: sig.asyncness.is_some(),
        parameters,
        output: sig.output.clone(),
    })
}

fn read_start(sig: &Signature) -> Result<Vec<StartParameter>> {
    if let Some(receiver) = sig.receiver() {
        let text =
            "`start` makes the daemon: `start(Ecosystem, Config) -> Result<Self>`, without `self`";
        return fault(receiver, text);
    }
    if let Some(reference) = types_of(sig).find(|ty| matches!(ty, Type::Reference(_))) {
        let text = "`start` is given its arguments for good: an `Ecosystem`, a config, not a reference to one";
        return fault(reference, text);
    }
    if let Some(any) = types_of(sig).find(|ty| matches!(ty, Type::ImplTrait(_))) {
        let text = "`start` reads its config from JSON into a type known here; write the type in place of `impl …`";
        return fault(any, text);
    }
    let parameters: Vec<_> = types_of(sig).map(start_parameter).collect();
    let is_config = |one: &&StartParameter| matches!(one, StartParameter::Config(_));
    let is_state = |one: &&StartParameter| matches!(one, StartParameter::State(_));
    let configs = parameters.iter().filter(is_config).count();
    let states = parameters.iter().filter(is_state).count();
    if configs > 1 || states > 1 || parameters.len() > configs + states + 1 {
        let text = "`start` takes an `Ecosystem`, a config of any type that serde reads, the state of the instance before \
                    as an `Option`, each once at most, or none of them";
        return fault(&sig.inputs, text);
    }
    Ok(parameters)
}

fn start_parameter(ty: &Type) -> StartParameter {
    match types::last_ident(ty) {
        Some(ident) if ident == "Ecosystem" => StartParameter::Ecosystem,
        _ => match types::inner_of(ty, "Option") {
            Some(state) => StartParameter::State(state.clone()),
            None => StartParameter::Config(ty.clone()),
        },
    }
}

/// Checks `migrate`, whose parameters are the old version and the old state as JSON.
fn read_migrate(sig: &Signature) -> Result<Vec<StartParameter>> {
    if sig.receiver().is_some() || types_of(sig).count() != 2 || sig.asyncness.is_some() {
        let text = "`migrate` makes a state of an older one: `fn migrate(version: u32, state: json::Value) -> Result<State>`";
        return fault(&sig.inputs, text);
    }
    Ok(Vec::new())
}

/// Checks `run`, `stop` or `save`, whose only parameter is `&self`.
fn read_work(sig: &Signature) -> Result<Vec<StartParameter>> {
    let name = &sig.ident;
    signature::check(&format!("`{name}`"), sig)?;
    if types_of(sig).next().is_some() {
        let text = format!("`{name}` takes `&self` alone; `start` may keep an `Ecosystem` for it");
        return fault(&sig.inputs, text);
    }
    Ok(Vec::new())
}

fn types_of(sig: &Signature) -> impl Iterator<Item = &Type> {
    sig.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(input) => Some(&*input.ty),
        FnArg::Receiver(_) => None,
    })
}
