"""mkpasswd at a terminal: python terminal.py PROGRAM, which it stands beside

Gives it a terminal of its own and types like a person: nothing of a password is shown, and the terminal is left as it
was, however the program ends.
"""

import errno
import fcntl
import os
import pathlib
import select
import signal
import sys
import termios
import time

# How long something that must happen may take: only a failure takes that long.
DEADLINE = 60
CTRL_C, CTRL_D, CTRL_Z = b"\x03", b"\x04", b"\x1a"


class Terminal:
    """The program behind a terminal, and all that it has shown."""

    def __init__(self, program, *arguments):
        # The other end is held open, so that it can be looked at after the program has ended.
        self.end, self.other_end = os.openpty()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(self.other_end, termios.TIOCSCTTY, 0)
            for stream in range(3):
                os.dup2(self.other_end, stream)
            os.execv(program, [program, *arguments])
        self.shown = b""

    def read(self):
        """What comes within a moment."""
        if select.select([self.end], [], [], 0.02)[0]:
            try:
                self.shown += os.read(self.end, 4096)
            except OSError as error:
                assert error.errno == errno.EIO, error

    def wait(self, what, condition):
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"{what} does not happen: {self.shown}"
            self.read()

    def echoes(self):
        return bool(termios.tcgetattr(self.other_end)[3] & termios.ECHO)

    def expect(self, text, count=1):
        self.wait(text, lambda: self.shown.count(text) == count)

    def type(self, keys):
        # What is typed before it is hidden would be thrown away.
        self.wait("silence", lambda: not self.echoes())
        os.write(self.end, keys)

    def stopped(self):
        self.wait("a stop", lambda: os.WIFSTOPPED(os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)[1]))

    def status(self):
        """How it ended: a status, or a negative signal."""
        found = []

        def ended():
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            found.append(status)
            return pid == self.pid

        self.wait("an end", ended)
        self.read()
        assert self.echoes(), "it leaves a terminal that shows nothing"
        os.close(self.end)
        os.close(self.other_end)
        return os.waitstatus_to_exitcode(found[-1])


def ask(program, *lines):
    terminal = Terminal(program, "-p", "-c", "4")
    terminal.expect(b"Enter Password: ")
    terminal.type(lines[0])
    if len(lines) > 1:
        terminal.expect(b"Reenter Password: ")
        terminal.type(lines[1])
    return terminal.status(), terminal.shown


def main():
    program = pathlib.Path(sys.argv[1]).with_name("mkpasswd")
    if not program.exists():
        print("left out: there is no mkpasswd beside the program")
        return

    status, shown = ask(program, b"T0pS3cr3t\n", b"T0pS3cr3t\n")
    assert status == 0, shown
    lines = shown.split(b"\r\n")
    assert lines[:2] == [b"Enter Password: ", b"Reenter Password: "], shown
    assert lines[2].startswith(b"bcrypt hash: $2a$04$") and lines[3:] == [b""], shown
    assert b"S3cr3t" not in shown

    status, shown = ask(program, b"T0pS3cr3t\n", b"T0pS3cr4t\n")
    assert status == 1 and shown.endswith(b"\r\nError, passwords do not match\r\n"), shown
    assert b"S3cr" not in shown and b"bcrypt" not in shown

    status, shown = ask(program, b"\n")
    assert status == 1 and shown.endswith(b"\r\nError, no password was given\r\n"), shown
    status, shown = ask(program, CTRL_D)
    assert status == 1 and shown.endswith(b"\r\nError, no password was given\r\n"), shown

    long = b"x" * 73 + b"\n"
    status, shown = ask(program, long, long)
    assert status == 1 and b"password has 73 bytes" in shown and b"xx" not in shown, shown

    # Ctrl-C, at either prompt.
    status, shown = ask(program, b"half" + CTRL_C)
    assert status == -signal.SIGINT and b"half" not in shown, (status, shown)
    status, shown = ask(program, b"whole\n", CTRL_C)
    assert status == -signal.SIGINT and b"whole" not in shown, (status, shown)

    terminal = Terminal(program, "-p", "-c", "4")
    terminal.expect(b"Enter Password: ")
    terminal.wait("silence", lambda: not terminal.echoes())
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.status() == -signal.SIGTERM

    # Ctrl-Z gives the terminal back until the program goes on.
    terminal = Terminal(program, "-p", "-c", "4")
    terminal.expect(b"Enter Password: ")
    terminal.type(CTRL_Z)
    terminal.stopped()
    assert terminal.echoes()
    os.kill(terminal.pid, signal.SIGCONT)
    terminal.type(b"secret\n")
    terminal.expect(b"Reenter Password: ")
    terminal.type(b"secret\n")
    assert terminal.status() == 0 and b"secret" not in terminal.shown, terminal.shown
    print("ok: a terminal")


main()
