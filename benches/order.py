"""Prints the order file: the functions that a server runs to start and to pass plain messages.

    cargo build --release && python3 benches/order.py target/release/midge > src/startup.order

`build.rs` has the linker lay these side by side, as memory is mapped 64 KiB at a time. It needs valgrind. A line is a
pattern for names in the symbol table, without the hashes that change with each build; plain paths fit the names that any
compiler gives, legacy or v0. A function that is missing there costs up to 64 KiB of resident memory, and nothing else.
Make the file again when the row "resident at start" of the benchmark grows.
"""

import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

DEADLINE_SECONDS = 120
# A server gives memory back a second after the last client has left.
REST_SECONDS = 5
# What does not show: workers that want the same lock at once, as the profiler runs one thread at a time; and a function of
# which there are several, one of them in place.
UNSEEN = {
    "*3std3sys4sync5mutex5futex*",
    "*3std3sys4sync6rwlock5futex*",
    "*5alloc6string*6String*4core3fmt5Write10write_char*",
}
# What a client of the usual libraries says first.
CONNECT = (
    b'CONNECT {"verbose":false,"pedantic":false,"tls_required":false,"name":"order","lang":"python","version":"1.0",'
    b'"protocol":1,"echo":true,"headers":true,"no_responders":true}\r\n'
)
# Clients at once: from 32 on, the subscribers of a subject are looked up in an index.
CROWD = 50


def wait_for(look):
    end = time.monotonic() + DEADLINE_SECONDS
    while not (found := look()):
        if time.monotonic() > end:
            sys.exit("order.py: the server did not get ready in time")
        time.sleep(0.05)
    return found


def serve_clients(port):
    """Does what plain clients do, until all have left and what they took has been given back."""
    subscriptions = b"SUB first.* 1\r\nSUB > 2\r\nSUB first.message group 3\r\nSUB _INBOX.a 4\r\n"
    messages = b"PUB first.message _INBOX.a 5\r\nhello\r\nHPUB first.message 12 17\r\nNATS/1.0\r\n\r\nhello\r\n"
    steps = [
        CONNECT,
        messages,
        subscriptions,
        messages * 100,
        b"UNSUB 1\r\nUNSUB 2 2\r\n",
        messages,
        b"UNSUB 4\r\n",
    ]
    clients = [socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) for _ in range(CROWD)]
    for step in steps:
        for client in clients:
            client.sendall(step + b"PING\r\n")
            heard = b""
            while b"PONG\r\n" not in heard:
                heard = heard[-8:] + client.recv(65536)
    clients[0].sendall(subscriptions + messages * 1000)
    for index, client in enumerate(clients):
        # Half of them end their connection as they should, the other half reset it with something on the way to them.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", index % 2, 0))
        client.close()
    time.sleep(REST_SECONDS)


def functions_run(program, options, use):
    """The names of the functions that ran, as symbol tables have them."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "out")
        command = ["valgrind", "--tool=callgrind", "--demangle=no", f"--callgrind-out-file={out}", program]
        command += ["-a", "127.0.0.1", "-p", "0", "--ports_file_dir", folder, *options]
        # The program starts itself anew with other settings of the heap, but for a program that has this.
        env = dict(os.environ, MIDGE_HEAP="1")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        server = subprocess.Popen(command, cwd=folder, env=env, **quiet)
        try:
            ports = wait_for(lambda: next(pathlib.Path(folder).glob("*.ports"), None))
            port = wait_for(lambda: re.search(r"127\.0\.0\.1:(\d+)", ports.read_text()))[1]
            if use:
                use(int(port))
            subprocess.run(["callgrind_control", "-d", str(server.pid)], check=True, **quiet)
            dump = wait_for(lambda: next(pathlib.Path(folder).glob("out.1"), None))
            wait_for(lambda: "totals:" in dump.read_text())
        finally:
            server.send_signal(signal.SIGKILL)
            server.wait()
        return names_of(dump.read_text())


def names_of(profile):
    """Functions in a profile; names are spelt out where they come first."""
    return {re.sub(r"'\d+$", "", name) for name in re.findall(r"^c?fn=\(\d+\) (.*)$", profile, re.MULTILINE)}


def pattern(name):
    """What to look for in a symbol table, or nothing for names that are not Rust's, as those of the C library."""
    name = re.sub(r"\.(llvm\.)?\d+$", "", name)
    if legacy := re.fullmatch(r"_ZN(.*)17h[0-9a-f]{16}E", name):
        path = legacy[1]
        return f"*{path}17h*" if "$" in path else f"*{path}*"
    if not name.startswith("_R"):
        return "main" if name == "main" else None
    # A v0 name: its identifiers, but not who had it compiled, in runs of what stands together.
    crate = re.search(r"Cs[0-9A-Za-z]+_(\d+)(\w+)$", name)
    if crate and len(crate[2]) == int(crate[1]):
        name = name[: crate.start()]
    runs, at = [""], 2
    while at < len(name):
        if length := re.match(r"([1-9]\d*)_?", name[at:]):
            start, at = at, at + len(length[0]) + int(length[1])
            runs[-1] += name[start:at]
            continue
        # Disambiguators and references back, which may have digits; or one letter of the grammar.
        other = re.match(r"(?:Cs|B|s)[0-9A-Za-z]*_|.", name[at:])
        at += len(other[0])
        runs += [""] if runs[-1] else []
    runs = [run for run in runs if run]
    return f"*{'*'.join(runs)}*" if runs else None


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    program = os.path.abspath(sys.argv[1])
    embedded = pathlib.Path(__file__).parents[1] / "configs/embedded.conf"
    runs = [
        # What every server needs.
        functions_run(program, [], None) | functions_run(program, [], serve_clients),
        # What comes behind it: a file is read once.
        functions_run(program, ["-c", str(embedded), "-l", "log"], None),
    ]
    printed = {None}
    for functions in runs:
        patterns = (set(map(pattern, functions)) | UNSEEN) - printed
        print("\n".join(sorted(patterns)))
        printed |= patterns


main()
