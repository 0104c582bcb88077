//! Reads `#[on(connect)]` and `#[on(disconnect)]`: the methods that run when a guest connects or disconnects.

use syn::{Attribute, FnArg, Ident, ImplItemFn, Result, Type};

use crate::model::{Daemon, Faults, Parameter, Reaction, fault};
use crate::nearest::nearest;
use crate::{signature, types};

/// The names that the attribute accepts, for error messages.
const KNOWN: &str =
    "`#[on(…)]` knows `connect`, when a guest has come, and `disconnect`, when one has gone";

/// Reads a method that `attr` marks, and stores it in `daemon`.
pub fn read(daemon: &mut Daemon, attr: &Attribute, method: &ImplItemFn) -> Result<()> {
    let Ok(event) = attr.parse_args::<Ident>() else {
        return fault(attr, format!("{KNOWN}; write one of them"));
    };
    let place = match event.to_string().as_str() {
        "connect" => &mut daemon.connect,
        "disconnect" => &mut daemon.disconnect,
        other => {
            let text = match nearest(other, ["connect", "disconnect"]) {
                Some(near) => format!("did you mean `{near}`? {KNOWN}"),
                None => format!("{KNOWN}; not `{other}`"),
            };
            return fault(&event, text);
        }
    };
    if let Some(first) = place {
        let text = format!(
            "`{}` is called on `{event}` already; one method does all that is to be done",
            first.method
        );
        return fault(&method.sig.ident, text);
    }
    *place = Some(reaction(&event, method)?);
    Ok(())
}

fn reaction(event: &Ident, method: &ImplItemFn) -> Result<Reaction> {
    let sig = &method.sig;
    signature::check(&format!("a method that is called on `{event}`"), sig)?;
    signature::check_cfgs(sig)?;
    Ok(Reaction {
        method: sig.ident.clone(),
        is_async: sig.asyncness.is_some(),
        parameters: parameters(event, method)?,
        output: sig.output.clone(),
    })
}

fn parameters(event: &Ident, method: &ImplItemFn) -> Result<Vec<Parameter>> {
    let mut faults = Faults::default();
    let mut parameters = Vec::new();
    for input in &method.sig.inputs {
        let FnArg::Typed(input) = input else { continue };
        match parameter(event, &input.ty) {
            Ok(parameter) => parameters.push(parameter),
            Err(fault) => faults.add(fault),
        }
    }
    faults.none_or(parameters)
}

fn parameter(event: &Ident, ty: &Type) -> Result<Parameter> {
    types::given_by_host(ty).map_or_else(
        || {
            let text = format!(
                "a method that is called on `{event}` is given a `Guest` and an `Ecosystem`, or what it wants of them, \
                 and nothing else"
            );
            fault(ty, text)
        },
        Ok,
    )
}
