//! Tests of the host's side of the boundary, with a daemon that is written without the macro.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::abi::{Output, StepV1, status};
use crate::export::{Call, Exported, Live, SavedState, StartRequest, Work, pending, saved};
use crate::{operation, testing};

/// A daemon that keeps its count on request.
struct Keeper(AtomicU64);

impl Exported for Keeper {
    fn manifest() -> &'static str {
        r#"{"name":"Keeper","version":"0.0.0","state_version":1,"commands":[
            {"name":"keep","doc":"","kind":"async","arguments":[]},
            {"name":"wait","doc":"","kind":"async","timeout_ms":5000,"arguments":[]}]}"#
    }

    fn start(request: StartRequest) -> Work<Self> {
        let state = request
            .state
            .as_ref()
            .map(|state: &SavedState<'_>| state.read(1, None));
        Box::pin(async move {
            let count = state.transpose()?.unwrap_or(0);
            Ok(Keeper(AtomicU64::new(count)))
        })
    }

    fn call(live: &Arc<Live<Self>>, call: Call<'_>) -> StepV1 {
        let (host, is_wait) = (live.host, call.command == 1);
        let count = live.daemon.0.fetch_add(1, Ordering::SeqCst) + 1;
        pending(live, call.out, move |mut out| async move {
            if is_wait {
                std::future::pending::<()>().await;
            }
            if let Err(fault) = host.ask_later(operation::SAVE, Vec::new()).await {
                out.replace(&fault.to_string());
                return status::FAILED;
            }
            out.push(count.to_string().as_bytes());
            status::DONE
        })
    }

    fn save(live: Arc<Live<Self>>, mut out: Output) -> Option<Work<()>> {
        let count = live.daemon.0.load(Ordering::SeqCst);
        Some(Box::pin(async move {
            match count {
                3 => Err("three is too many".to_owned()),
                _ => saved(1, &count, &mut out),
            }
        }))
    }
}

#[test]
fn a_state_that_is_saved_on_request_outlives_a_crash() {
    let host = testing::host();
    let keeper = host.start::<Keeper>(()).unwrap();
    for count in [1, 2] {
        assert_eq!(keeper.call("keep", ()).unwrap(), count);
    }
    let error = keeper.call("keep", ()).unwrap_err().to_string();
    assert!(
        error.contains("its `save` failed: three is too many"),
        "{error}"
    );
    keeper.crash().unwrap();
    keeper.start().unwrap();
    assert_eq!(keeper.state().unwrap(), Some(2.into()));
}

#[test]
fn a_command_may_have_a_time_limit_of_its_own() {
    let host = testing::host();
    let keeper = host.start::<Keeper>(()).unwrap();
    let wait = keeper.begin("wait", ()).unwrap();
    host.advance(Duration::from_secs(5)).unwrap();
    let error = wait.reply().unwrap_err();
    assert_eq!(error.code(), Some("timeout"));
    assert!(error.to_string().contains("the limit is 5s"), "{error}");
}
