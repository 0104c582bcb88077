//! Tests of the error type, from the codes that hosts send to the JSON that commands leave.

use serde_json::json;

use super::*;

const COUNTER: Callee<'_> = Callee::Daemon("Counter");

/// Returns what a command that returns this error leaves for the host.
fn written(error: &Error) -> (u32, String) {
    crate::reply::tests::written(|out| error.write(out))
}

fn answer(json: &Value, to: &Callee<'_>) -> Error {
    Error::of_call(&fault(status::FAILED, &json.to_string()), "get", to)
}

fn crossed(error: &Error) -> Value {
    let (status, json) = written(error);
    assert_eq!(status, status::CODED, "{json}");
    serde_json::from_str(&json).unwrap()
}

fn fault(status: u32, message: &str) -> HostFault {
    HostFault {
        status,
        message: message.to_owned(),
    }
}

#[test]
fn the_answer_of_another_daemon_keeps_its_code_and_fits_a_line() {
    let said = r#"{"code":"bad-arguments","message":"it takes 2 arguments;\ngot 1"}"#;
    let error = Error::of_call(&fault(status::FAILED, said), "add", &COUNTER);
    assert_eq!(
        error.to_string(),
        "it takes 2 arguments; got 1 (bad-arguments, add at Counter)"
    );
    assert_eq!(error.code(), Some("bad-arguments"));
    let silent = fault(status::FAILED, r#"{"code":"failed","message":" "}"#);
    let error = Error::of_call(&silent, "add", &COUNTER).to_string();
    assert_eq!(error, "no reason was given (failed, add at Counter)");
}

#[test]
fn an_error_is_made_of_a_format_or_of_a_value() {
    fn bailed(which: u8) -> Result<()> {
        let (name, full) = ("store", "it is full".to_owned());
        match which {
            0 => bail!("full"),
            1 => bail!("{name} is {}%", 100),
            2 => bail!("{} {size}", name, size = 1,),
            3 => bail!(full),
            _ => ensure!(which > 5, "{which} is too small"),
        }
        Ok(())
    }
    let texts = [0, 1, 2, 3, 4].map(|which| bailed(which).unwrap_err().to_string());
    let expected = [
        "full",
        "store is 100%",
        "store 1",
        "it is full",
        "4 is too small",
    ];
    assert_eq!(texts, expected);
    assert!(bailed(6).is_ok());
}

#[test]
fn what_is_no_fault_object_is_told_as_it_came() {
    let of = |status, text| Error::of_call(&fault(status, text), "add", &Callee::Guest(5));
    let gone = of(status::GONE, "");
    assert_eq!(gone.to_string(), "guest 5 has gone (unavailable, add)");
    assert_eq!(gone.code(), Some("unavailable"));
    let odd = of(status::FAILED, "disk\nfull");
    assert_eq!((odd.to_string().as_str(), odd.code()), ("disk full", None));
    let old = Error::of_host(&fault(status::UNKNOWN, ""), "connect");
    assert!(old.to_string().contains("update dae-host"), "{old}");
}

#[test]
fn a_coded_error_crosses_with_its_code_its_message_and_its_data() {
    let error = Error::coded("not-found", "no such key").with(json!({"key": "a", "n": 0.1}));
    assert_eq!(
        (error.code(), &error.data().unwrap()["key"]),
        (Some("not-found"), &json!("a"))
    );
    let expected = r#"{"code":"not-found","message":"no such key","data":{"key":"a","n":0.1}}"#;
    assert_eq!(written(&error), (status::CODED, expected.to_owned()));
    let bare = written(&Error::coded("full", ""));
    let expected = format!(r#"{{"code":"full","message":"{NO_REASON}"}}"#);
    assert_eq!(bare, (status::CODED, expected));
    let without_code = crossed(&Error::new("no").with([1.0]));
    assert_eq!(
        without_code,
        json!({"code": "failed", "message": "no", "data": [1.0]})
    );
    for plain in [
        Error::new("no"),
        Error::new("no").with(()),
        Error::new("no").with(1).with(None::<u8>),
    ] {
        assert_eq!(written(&plain), (status::FAILED, "no".to_owned()));
    }
}

#[test]
fn a_code_of_the_protocol_can_not_be_taken() {
    for code in ["crashed", "failed", "", "Not Found", &"x".repeat(65)] {
        let error = Error::coded(code, "no such key").with(1);
        assert_eq!(error.code(), None, "{code}");
        let crossed = crossed(&error);
        assert_eq!(
            (&crossed["code"], &crossed["data"]),
            (&json!("failed"), &json!(1))
        );
        let message = crossed["message"].as_str().unwrap();
        let shown = format!("no such key (its code {:?}", &code[..code.len().min(20)]);
        assert!(
            message.starts_with(shown.trim_end_matches('"')),
            "{message}"
        );
    }
}

#[test]
fn data_that_can_not_be_sent_cost_neither_code_nor_message() {
    let nan = Error::coded("odd", "no").with((1, f64::NAN));
    let deep = (0..200).fold(json!(1), |value, _| json!([value]));
    let deep = Error::coded("odd", "no").with(deep);
    let large = Error::coded("odd", "no").with("x".repeat(DATA_BYTES_MAX));
    for (error, why) in [
        (nan, "at [1]: it holds NaN, and JSON has no such number)"),
        (deep, "they can't be read again: recursion limit exceeded"),
        (
            large,
            "they have 65538 bytes of JSON, and an error takes 65536;",
        ),
    ] {
        assert_eq!((error.code(), error.data()), (Some("odd"), None));
        let crossed = crossed(&error);
        assert_eq!(crossed.get("data"), None);
        let message = crossed["message"].as_str().unwrap();
        assert!(
            message.starts_with("no (its data were left out: "),
            "{message}"
        );
        assert!(message.contains(why), "{message}");
    }
    let largest = Error::coded("odd", "no").with("x".repeat(DATA_BYTES_MAX - 2));
    assert!(largest.data().is_some_and(Value::is_string));
}

#[test]
fn an_authors_error_is_passed_on_as_it_is() {
    let said = json!({"code": "not-found", "message": "no such key", "data": {"key": u64::MAX}});
    let error = answer(&said, &COUNTER);
    assert_eq!(
        (error.code(), error.data()),
        (Some("not-found"), Some(&said["data"]))
    );
    let message = "no such key (not-found, get at Counter)";
    let expected = json!({"code": "not-found", "message": message, "data": said["data"]});
    assert_eq!(crossed(&error), expected);
    let wide =
        r#"{"code":"a","message":"m","data":[1e400,340282366920938463463374607431768211455]}"#;
    let (_, json) = written(&Error::of_call(
        &fault(status::FAILED, wide),
        "get",
        &COUNTER,
    ));
    assert!(
        json.ends_with(r#""data":[1e400,340282366920938463463374607431768211455]}"#),
        "{json}"
    );
}

#[test]
fn a_code_of_the_protocol_is_passed_on_as_the_cause() {
    let said = json!({"code": "crashed", "message": "it\npanicked", "data": 1});
    let error = answer(&said, &COUNTER);
    assert_eq!(error.code(), Some("crashed"));
    let cause = json!({
        "code": "crashed", "command": "get", "daemon": "Counter", "message": "it panicked", "data": 1,
    });
    let passed = crossed(&error);
    let message = "it panicked (crashed, get at Counter)";
    assert_eq!(
        passed,
        json!({"code": "failed", "message": message, "data": {"cause": cause}})
    );
    // The next daemon in the row passes the same cause on.
    let again = crossed(&answer(&passed, &Callee::Daemon("Relay")));
    assert_eq!(
        (&again["code"], &again["data"]["cause"]),
        (&json!("failed"), &cause)
    );
    // A host names the daemon behind a connection.
    let named = json!({"code": "failed", "message": "no", "daemon": "Counter"});
    let named = &crossed(&answer(&named, &Callee::Guest(5)))["data"]["cause"];
    assert_eq!(
        (&named["daemon"], &named["code"]),
        (&json!("Counter"), &json!("failed"))
    );
    let guest = crossed(&Error::of_call(
        &fault(status::GONE, ""),
        "get",
        &Callee::Guest(5),
    ));
    let cause = json!({"code": "unavailable", "command": "get", "message": "guest 5 has gone"});
    assert_eq!(guest["data"]["cause"], cause);
    let own = crossed(&error.with("own"));
    assert_eq!(
        (&own["code"], &own["data"]),
        (&json!("failed"), &json!("own"))
    );
}

#[test]
fn a_hostile_answer_is_passed_on_within_the_limits() {
    let long = "é".repeat(100_000);
    let said = json!({"code": long, "message": long, "data": long});
    let passed = crossed(&answer(&said, &COUNTER));
    let cause = &passed["data"]["cause"];
    let chars = |key: &str| cause[key].as_str().unwrap().chars().count();
    assert!(chars("code") <= 65 && chars("message") <= 1001, "{cause}");
    assert_eq!(cause.get("data"), None);
    let coded = json!({"code": "a", "message": "m", "data": long});
    let coded = crossed(&answer(&coded, &COUNTER));
    assert_eq!((&coded["code"], coded.get("data")), (&json!("a"), None));
}
