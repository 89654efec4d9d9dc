"""The official Python client against a server program: python client.py PROGRAM

Starts the program on a free port, plays each scenario, and ends with status 1 if one fails.
"""

import asyncio
import re
import subprocess
import sys

import nats
from nats.errors import NoRespondersError

# How long one scenario may take: only a failure takes that long.
DEADLINE = 60


async def publishes_reach_subscribers(url):
    async with await nats.connect(url) as one, await nats.connect(url) as other:
        literal = await one.subscribe("orders.eu")
        star = await one.subscribe("orders.*")
        full = await other.subscribe("orders.>")
        await one.flush()
        await other.flush()
        await other.publish("orders.eu", b"1")
        await other.publish("orders.eu.de", b"2")
        assert (await literal.next_msg()).data == b"1"
        assert (await star.next_msg()).data == b"1"
        assert [(await full.next_msg()).data for _ in range(2)] == [b"1", b"2"]
        await other.flush()
        assert literal.pending_msgs == star.pending_msgs == full.pending_msgs == 0


async def messages_keep_their_order(url):
    count = 20_000
    async with await nats.connect(url) as one, await nats.connect(url) as other:
        subscription = await one.subscribe("series", pending_msgs_limit=count + 1)
        await one.flush()
        for number in range(count):
            await other.publish("series", str(number).encode())
        for number in range(count):
            message = await subscription.next_msg(timeout=DEADLINE)
            assert message.data == str(number).encode()


async def requests_get_their_replies(url):
    async with await nats.connect(url) as service, await nats.connect(url) as caller:

        async def double(message):
            await message.respond(message.data * 2)

        await service.subscribe("double", cb=double)
        await service.flush()
        for text in (b"", b"a", b"x" * 100_000):
            assert (await caller.request("double", text)).data == text * 2
        try:
            await caller.request("nobody", b"", timeout=DEADLINE)
        except NoRespondersError:
            pass
        else:
            raise AssertionError("a request that nobody serves was answered")


async def queue_groups_share_the_work(url):
    async with await nats.connect(url) as one, await nats.connect(url) as other:
        seen, done = [], asyncio.Event()

        def member(name):
            async def handle(message):
                seen.append((name, int(message.data)))
                if len(seen) == 200:
                    done.set()

            return handle

        for client in (one, other):
            for name in ("a", "b"):
                await client.subscribe("work", queue="workers", cb=member((client, name)))
            await client.flush()
        for number in range(200):
            await one.publish("work", str(number).encode())
        await done.wait()
        await one.flush()
        await other.flush()
        assert sorted(number for _, number in seen) == list(range(200)), seen
        assert len({name for name, _ in seen}) == 4, "every member has had some"


async def headers_arrive_as_sent(url):
    async with await nats.connect(url) as client:
        subscription = await client.subscribe("letters")
        await client.publish("letters", b"text", headers={"From": "me", "Empty": ""})
        await client.publish("letters", b"plain")
        first, second = [await subscription.next_msg() for _ in range(2)]
        assert first.data == b"text" and first.headers == {"From": "me", "Empty": ""}
        assert second.data == b"plain" and not second.headers


async def a_drained_client_has_seen_everything(url):
    async with await nats.connect(url) as publisher:
        drained, seen = await nats.connect(url), []

        async def handle(message):
            await asyncio.sleep(0)
            seen.append(message.data)

        await drained.subscribe("news", cb=handle)
        await drained.flush()
        for number in range(500):
            await publisher.publish("news", str(number).encode())
        await publisher.flush()
        # All have come; not all have been handled.
        await drained.flush()
        await drained.drain()
        assert drained.is_closed and len(seen) == 500, len(seen)


async def an_unsubscription_after_some_messages_holds(url):
    async with await nats.connect(url) as client:
        subscription = await client.subscribe("few")
        await subscription.unsubscribe(limit=2)
        for number in range(5):
            await client.publish("few", str(number).encode())
        await client.flush()
        assert [(await subscription.next_msg()).data for _ in range(2)] == [b"0", b"1"]
        assert subscription.delivered == 2


SCENARIOS = [
    publishes_reach_subscribers,
    messages_keep_their_order,
    requests_get_their_replies,
    queue_groups_share_the_work,
    headers_arrive_as_sent,
    a_drained_client_has_seen_everything,
    an_unsubscription_after_some_messages_holds,
]


def listening(server):
    """The URL that a starting server says it listens on."""
    said = []
    for line in server.stderr:
        said.append(line)
        found = re.search(r"Listening for client connections on (127\.0\.0\.1:\d+)", line)
        if found:
            return f"nats://{found[1]}"
    sys.exit("the server did not start:\n" + "".join(said))


def main():
    program = sys.argv[1]
    command = [program, "-a", "127.0.0.1", "-p", "-1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = listening(server)
            for scenario in SCENARIOS:
                asyncio.run(asyncio.wait_for(scenario(url), DEADLINE))
                print(f"{program}: {scenario.__name__}: ok", flush=True)
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
