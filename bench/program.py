"""How a benchmark is called and how it ends: its options, what is wrong with them in one line, signals and failures."""

import argparse
import http.client
import math
import os
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Options(argparse.ArgumentParser):
    """The help is what the script says of itself, and the options. All have --binary."""

    def __init__(self, description):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_program("--binary", "forebay", "make build", "the server to measure")

    def add_program(self, flag, product, command, what):
        self.add_argument(flag, type=executable(command), default=str(ROOT / ".build/release" / product), metavar="FILE",
                          help=f"{what} (.build/release/{product} of this checkout, which `{command}` makes)")

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; --help tells the options\n")


def executable(command):
    """A program's file, which the command makes."""
    def parse(text):
        path = pathlib.Path(text).resolve()
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise argparse.ArgumentTypeError(f"there is no program {text}: run `{command}` first, or name another")
        return str(path)
    return parse


def at_least(least, kind=int):
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is no {'whole ' if kind is int else ''}number of at least {least}")
        return value
    return parse


def run(main):
    """What fails is told in one line; whoever is told to end cleans up first."""
    for number in signal.SIGTERM, signal.SIGHUP, signal.SIGINT:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, end)
    try:
        main()
    except (OSError, subprocess.SubprocessError, http.client.HTTPException) as error:
        sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {error or type(error).__name__}")


def ignore_signals():
    for number in signal.SIGTERM, signal.SIGHUP, signal.SIGINT:
        signal.signal(number, signal.SIG_IGN)


def end(*_):
    """Whoever ends a process group may ask twice; once is enough to clean up."""
    ignore_signals()
    sys.exit("ended by a signal")
