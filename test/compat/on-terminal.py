#!/usr/bin/env python3
"""Runs a program on a pseudo-terminal: on-terminal.py ROWS COLUMNS PROGRAM ARGS...

Standard input is typed, what the terminal shows goes to standard output. Lines "ROWS COLUMNS" on descriptor 3 change the
window's size. Exits with the program's code (128+n for a signal).
"""
import fcntl, os, pty, select, struct, sys, termios

def set_size(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

rows, columns, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
pid, master = pty.fork()
if pid == 0:
    set_size(0, rows, columns)
    os.execvp(program[0], program)
inputs = [0, 3, master]
while True:
    ready, _, _ = select.select(inputs, [], [])
    if master in ready:
        try:
            data = os.read(master, 65536)
        except OSError:
            data = b""
        if not data:
            break
        os.write(1, data)
    if 0 in ready:
        data = os.read(0, 65536)
        if data:
            os.write(master, data)
        else:
            inputs.remove(0)
    if 3 in ready:
        data = os.read(3, 100)
        if data:
            set_size(master, *map(int, data.split()))
        else:
            inputs.remove(3)
_, status = os.waitpid(pid, 0)
sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
