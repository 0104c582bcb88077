"""A client of NATS in another language: calls a daemon, reads its error, and looks at the services.

Usage: nats_client.py URL
"""

import asyncio
import json
import sys

import nats


async def main(url):
    client = await nats.connect(url)

    answer = await client.request("dae.home.cmd.Sample.greet", b'["Ada"]', timeout=10)
    print("greeted", json.loads(answer.data))

    answer = await client.request("dae.home.cmd.Sample.greet", b"[]", timeout=10)
    headers = answer.headers or {}
    print("refused", headers.get("Dae-Code"), headers.get("Nats-Service-Error-Code"))

    async def ask(subject):
        inbox = client.new_inbox()
        answers = await client.subscribe(inbox)
        await client.publish(subject, b"", reply=inbox)
        answer = await answers.next_msg(timeout=10)
        return json.loads(answer.data)

    ping = await ask("$SRV.PING.Sample")
    print("ping", ping["type"], ping["name"])
    info = await ask("$SRV.INFO.Sample." + ping["id"])
    endpoints = {endpoint["name"]: endpoint["subject"] for endpoint in info["endpoints"]}
    print("info", endpoints["greet"])
    stats = await ask("$SRV.STATS.Sample")
    greet = next(endpoint for endpoint in stats["endpoints"] if endpoint["name"] == "greet")
    print("stats", greet["num_requests"], greet["num_errors"])

    events = await client.subscribe("dae.home.topic.news.>")
    await client.publish("dae.home.topic.wanted", b"[1]")
    event = await events.next_msg(timeout=10)
    print("event", event.subject, json.loads(event.data))
    await client.close()


asyncio.run(main(sys.argv[1]))
