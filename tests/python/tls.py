"""The official Python client over TLS, against a server program: python tls.py PROGRAM

Starts the program on a free port with each configuration, connects as a client would, and ends with status 1 if one
that should come in does not, or one that should not does.
"""

import asyncio
import pathlib
import re
import ssl
import subprocess
import sys
import tempfile

import nats

CERTS = pathlib.Path(__file__).resolve().parents[2] / "certs"
# How long one connection may take: only a failure takes that long.
DEADLINE = 60


def block(name, more=""):
    return (
        f'tls {{ cert_file: "{CERTS}/{name}-cert.pem", key_file: "{CERTS}/{name}-key.pem"\n'
        f'ca_file: "{CERTS}/ca.pem"\n{more} }}\n'
    )


def context(authority="ca", certificate=None):
    made = ssl.create_default_context(cafile=CERTS / f"{authority}.pem")
    if certificate:
        made.load_cert_chain(CERTS / f"{certificate}-cert.pem", CERTS / f"{certificate}-key.pem")
    return made


VERIFY = block("server", "verify: true")
MAPPED = block("server", "verify_and_map: true") + 'authorization { users = [ {user: "derek@nats.io"} ] }'
PIN = block("server", 'verify: true, pinned_certs: ["' + "0" * 64 + '"]')
FIRST = block("server", "handshake_first: true")

# What the server is configured with, how the client connects, and whether it comes in.
CASES = [
    ("a certificate that the client trusts", block("server"), {"tls": context()}, True),
    ("RSA", block("server-rsa"), {"tls": context()}, True),
    ("a chain", block("server-chain"), {"tls": context()}, True),
    ("a client certificate", VERIFY, {"tls": context(certificate="client-dn")}, True),
    ("a user by e-mail", MAPPED, {"tls": context(certificate="client-email")}, True),
    ("the handshake first", FIRST, {"tls": context(), "tls_handshake_first": True}, True),
    ("no TLS, where that is allowed", block("server") + "allow_non_tls: true", {}, True),
    ("an authority that the client does not trust", block("server"), {"tls": context("ca2")}, False),
    ("an address that is not in the certificate", block("server-noip"), {"tls": context()}, False),
    ("no client certificate", VERIFY, {"tls": context()}, False),
    ("a client certificate of a stranger", VERIFY, {"tls": context(certificate="client-other-ca")}, False),
    ("a user that is not there", MAPPED, {"tls": context(certificate="client-dns")}, False),
    ("another certificate than the pinned ones", PIN, {"tls": context(certificate="client-dn")}, False),
    ("no time", block("server", "timeout: 0.0001"), {"tls": context()}, False),
]


async def round_trip(address, options):
    """Has messages of several sizes come back."""
    scheme = "tls" if "tls" in options else "nats"
    quiet = {"error_cb": ignore, "max_reconnect_attempts": 0, "allow_reconnect": False, "connect_timeout": 10}
    async with await nats.connect(f"{scheme}://{address}", **quiet, **options) as client:
        subscription = await client.subscribe("there.and.back")
        for size in (0, 16, 20_000, 500_000):
            await client.publish("there.and.back", b"x" * size)
            assert (await subscription.next_msg(timeout=10)).data == b"x" * size


async def ignore(_error):
    pass


def comes_in(address, options):
    try:
        asyncio.run(asyncio.wait_for(round_trip(address, options), DEADLINE))
    except AssertionError:
        raise
    except Exception as error:  # Each kind of refusal has an error of its own.
        return False, error
    return True, None


def listening(server):
    """The address that a starting server says it listens on."""
    said = []
    for line in server.stderr:
        said.append(line)
        found = re.search(r"Listening for client connections on (127\.0\.0\.1:\d+)", line)
        if found:
            return found[1]
    sys.exit("the server did not start:\n" + "".join(said))


def main():
    program = sys.argv[1]
    for what, conf, options, wanted in CASES:
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write(conf)
            file.flush()
            command = [program, "-a", "127.0.0.1", "-p", "-1", "-c", file.name]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
                try:
                    outcome, error = comes_in(listening(server), options)
                finally:
                    server.terminate()
        if outcome != wanted:
            sys.exit(f"{program}: {what}: came in: {outcome}, should be {wanted}: {error!r}")
        print(f"{program}: {what}: ok", flush=True)


if __name__ == "__main__":
    main()
