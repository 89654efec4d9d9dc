"""What a server's clients can use of other servers of its cluster: python neighbours.py PROGRAM

Starts two reference servers with JetStream, named by NATS_SERVER, one of them with a leaf server, and the program as a third
of their cluster, which has neither. Ends with status 1 if a client of the third is worse off than the others.
"""

import asyncio
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import nats
import nats.errors
import nats.js.errors

# How long anything may take: only a failure takes that long.
DEADLINE = 60


class Servers:
    """Servers, each with a directory of its own; they end with the block."""

    def __enter__(self):
        self.home = tempfile.TemporaryDirectory()
        self.running = []
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait()
        self.home.cleanup()

    def start(self, program, name, conf):
        """Starts a server, and gives its ports: by kind, a list of URLs."""
        directory = os.path.join(self.home.name, name)
        os.mkdir(directory)
        path = os.path.join(directory, "server.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'server_name: {name}\nlisten: "127.0.0.1:-1"\n{conf}\n')
        log = os.path.join(directory, "log")
        command = [program, "-c", path, "-l", log, "--ports_file_dir", directory]
        self.running.append(subprocess.Popen(command))
        end = time.monotonic() + DEADLINE
        while True:
            for ports in glob.glob(os.path.join(directory, "*.ports")):
                try:
                    with open(ports, encoding="utf-8") as file:
                        return json.load(file)
                except ValueError:
                    pass  # It is being written.
            assert time.monotonic() < end, f"{name} has not started"
            time.sleep(0.02)

    def log(self, name):
        with open(os.path.join(self.home.name, name, "log"), encoding="utf-8") as file:
            return file.read()

    def storage(self, name):
        store = os.path.join(self.home.name, name, "store")
        return f'jetstream {{store_dir: "{store}"}}\n'


async def until(attempt):
    """What `attempt` gives, once it fails no more."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            return await attempt()
        except (AssertionError, nats.errors.Error):
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.05)


async def streams_are_used(client):
    stream = client.jetstream(timeout=5)
    await until(lambda: stream.add_stream(name="orders", subjects=["orders.*"], num_replicas=2))
    bodies = [str(number).encode() for number in range(200)]
    for number, body in enumerate(bodies):
        acknowledgement = await stream.publish(f"orders.{number % 5}", body)
        assert acknowledgement.seq == number + 1
    puller = await stream.pull_subscribe("orders.*", "worker")
    pulled = []
    while len(pulled) < len(bodies):
        for message in await puller.fetch(50, timeout=DEADLINE):
            await message.ack_sync()
            pulled.append(message.data)
    assert pulled == bodies
    reader = await stream.subscribe("orders.*", ordered_consumer=True)
    assert [(await reader.next_msg(timeout=DEADLINE)).data for _ in bodies] == bodies
    bucket = await stream.create_key_value(bucket="settings")
    await bucket.put("colour", b"green")
    assert (await bucket.get("colour")).value == b"green"
    try:
        await stream.stream_info("none")
    except nats.js.errors.NotFoundError:
        pass
    else:
        raise AssertionError("there is no such stream")


async def leaves_are_reached(client, leaf):
    async def answer(message):
        await message.respond(b"yes")

    async def asked(by):
        return await by.request("ready", b"", timeout=1)

    # Interest is known everywhere once a request to the same client is answered.
    plain = await leaf.subscribe("news")
    member = await leaf.subscribe("work", queue="workers")
    await leaf.subscribe("ready", cb=answer)
    await leaf.flush()
    await until(lambda: asked(client))
    for number in range(50):
        await client.publish("news", str(number).encode())
        await client.publish("work", str(number).encode())
    await client.publish("news", b"end")
    received = [(await plain.next_msg(timeout=DEADLINE)).data for _ in range(51)]
    assert received == [str(number).encode() for number in range(50)] + [b"end"]
    for number in range(50):
        assert (await member.next_msg(timeout=DEADLINE)).data == str(number).encode()
    await client.subscribe("back", cb=answer)
    await client.flush()
    await until(lambda: leaf.request("back", b"", timeout=1))


async def main(program):
    reference = os.environ["NATS_SERVER"]
    with Servers() as servers:
        cluster = 'cluster {{name: both, listen: "127.0.0.1:-1", routes: [{}]}}\n'
        leaves = 'leafnodes {listen: "127.0.0.1:-1"}\n'
        storage = servers.storage
        third = servers.start(program, "three", cluster.format(""))
        seed = cluster.format(json.dumps(third["cluster"][0]))
        servers.start(reference, "one", seed + leaves + storage("one"))
        servers.start(reference, "two", seed + storage("two"))
        # The file of ports says nothing of leaves.
        (port,) = re.findall(r"Listening for leafnode connections on 127.0.0.1:(\d+)", servers.log("one"))
        remote = f'leafnodes {{remotes: [{{url: "nats-leaf://127.0.0.1:{port}"}}]}}'
        four = servers.start(reference, "four", remote)
        async with await nats.connect(third["nats"][0]) as client:
            async with await nats.connect(four["nats"][0]) as leaf:
                await streams_are_used(client)
                print("streams of others are used: ok")
                await leaves_are_reached(client, leaf)
                print("leaves of others are reached: ok")


asyncio.run(asyncio.wait_for(main(sys.argv[1]), DEADLINE))
