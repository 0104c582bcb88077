//! Bare requests of NATS, one after the other, beside which calls of the fleet are measured: `bare_requests URL SUBJECT PAYLOAD COUNT`.
//!
//! Without SUBJECT on the other side, `bare_requests URL SUBJECT` answers each request with its payload.

use std::time::Instant;

use futures_util::StreamExt as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [url, subject] => serve(url, subject).await,
        [url, subject, payload, count] => ask(url, subject, payload, count.parse()?).await,
        _ => Err("expected URL SUBJECT, or URL SUBJECT PAYLOAD COUNT".into()),
    }
}

async fn serve(url: &str, subject: &str) -> Result<(), Box<dyn std::error::Error>> {
    let client = async_nats::connect(url).await?;
    let mut requests = client
        .queue_subscribe(subject.to_owned(), "bare".to_owned())
        .await?;
    while let Some(request) = requests.next().await {
        if let Some(reply) = request.reply {
            client.publish(reply, request.payload).await?;
        }
    }
    Ok(())
}

async fn ask(
    url: &str,
    subject: &str,
    payload: &str,
    count: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let client = async_nats::connect(url).await?;
    let mut taken = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        client
            .request(subject.to_owned(), payload.to_owned().into())
            .await?;
        taken.push(begun.elapsed());
    }
    taken.sort();
    println!(
        "p50 {:?}, p99 {:?} of {count}",
        taken[count / 2],
        taken[count * 99 / 100]
    );
    Ok(())
}
