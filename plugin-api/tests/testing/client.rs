//! Clients with types in a test host: of a fake, of a daemon, and of one that doesn't fit.

use dae_plugin_api::prelude::*;
use dae_plugin_api::testing;

use super::calls::texts;

#[daemon_client]
trait Counter {
    async fn increment(&self, by: Option<u64>) -> Result<u64>;
    async fn reset(&self, #[rest] tags: Vec<String>) -> Result<()>;
}

/// A client of the daemon below, under a name that is not that of its type.
#[daemon_client(name = "Till")]
trait Wrong {
    async fn pay(&self, cents: bool, note: &str) -> Result<u64>;
    async fn refund(&self) -> Result<()>;
}

/// A client with a type of its own, which has a schema with the feature `schema` alone.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
struct Cents {
    cents: u64,
}

#[daemon_client(name = "Till")]
trait OwnType {
    async fn pay(&self, cents: &Cents) -> Result<Cents>;
}

/// A daemon that calls the counter.
struct Till {
    eco: Ecosystem,
}

#[daemon(built_in)]
impl Till {
    fn start(eco: Ecosystem) -> Self {
        Till { eco }
    }

    /// Pays, and returns the number of payments.
    #[command]
    async fn pay(&self, cents: u64) -> Result<u64> {
        let counter = Counter::at(&self.eco).await?;
        let by = (cents > 1).then_some(cents);
        counter.increment(by).await
    }

    #[command]
    async fn reset(&self) -> Result<()> {
        let tags = vec!["a".to_owned(), "b".to_owned()];
        Counter::at(&self.eco).await?.reset(tags).await
    }
}

/// A daemon whose client doesn't fit.
struct Buyer {
    eco: Ecosystem,
}

#[daemon(built_in)]
impl Buyer {
    fn start(eco: Ecosystem) -> Self {
        Buyer { eco }
    }

    #[command]
    async fn buy(&self) -> Result<u64> {
        Wrong::at(&self.eco).await?.pay(true, "").await
    }

    #[command]
    async fn buy_by_own_type(&self) -> Result<u64> {
        let till = OwnType::at(&self.eco).await?;
        Ok(till.pay(&Cents { cents: 1 }).await?.cents)
    }
}

#[test]
fn a_fake_takes_the_calls_of_a_client() -> Result<()> {
    let host = testing::host();
    let counter = host.fake("Counter");
    counter.on("increment", |by: Option<u64>| by.unwrap_or(1));
    counter.on("reset", |tags: Vec<String>| assert_eq!(tags, ["a", "b"]));
    let till = host.start::<Till>(())?;
    assert_eq!(till.call("pay", (1,))?, 1);
    assert_eq!(till.call("pay", (7,))?, 7);
    till.call("reset", ())?;
    let received = texts(&counter.received());
    assert_eq!(
        received,
        ["increment []", "increment [7]", r#"reset ["a","b"]"#]
    );
    Ok(())
}

#[test]
fn a_client_survives_a_fake_that_was_away() -> Result<()> {
    let host = testing::host();
    let counter = host.fake("Counter");
    counter.on("increment", |_: Option<u64>| 3);
    let till = host.start::<Till>(())?;
    counter.stop()?;
    let error = till.call("pay", (1,)).unwrap_err().to_string();
    assert!(error.contains("Counter"), "{error}");
    counter.start()?;
    assert_eq!(till.call("pay", (1,))?, 3);
    Ok(())
}

#[test]
fn a_client_that_does_not_fit_is_refused_before_its_first_call() -> Result<()> {
    let host = testing::host();
    let _till = host.start::<Till>(())?;
    let buyer = host.start::<Buyer>(())?;
    let error = buyer.call("buy", ()).unwrap_err().to_string();
    assert!(
        error.contains(
            "Till does not fit this client: `pay`, argument 1 (`cents`): the client sends true or false, and the daemon takes an \
             integer from 0 to 18446744073709551615; it has no command `refund`"
        ),
        "{error}"
    );
    Ok(())
}

#[test]
fn a_type_of_its_own_is_compared_if_it_has_a_schema() -> Result<()> {
    let host = testing::host();
    let _till = host.start::<Till>(())?;
    let buyer = host.start::<Buyer>(())?;
    let error = buyer.call("buy_by_own_type", ()).unwrap_err().to_string();
    let compared = "Till does not fit this client: `pay`, argument 1 (`cents`): the client sends an object with `cents`, and the daemon \
                    takes an integer from 0 to 18446744073709551615; change";
    let called = "argument 1 (cents: integer from 0): ";
    match cfg!(feature = "schema") {
        true => assert!(error.starts_with(compared), "{error}"),
        false => assert!(error.starts_with(called), "{error}"),
    }
    Ok(())
}
