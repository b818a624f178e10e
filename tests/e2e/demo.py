"""`gatelet demo`, running, and the commands that it printed."""

import re
from pathlib import Path

from processes import Process


class Demo(Process):
    def __init__(self, program):
        super().__init__([program, "demo"])
        self.folder = Path(self.wait_for(r"Ctrl-C stops the demo and removes (\S+)\.$").group(1))
        self.page = self.wait_for(r"Open (http://127\.0\.0\.1:\d+/) in a browser").group(1)
        self.commands = [line[2:] for line in self.lines if re.match(r"  \S", line)]

    def command(self, *pieces, without="\0"):
        """The first printed command with all these pieces."""
        return next(each for each in self.commands if without not in each and all(piece in each for piece in pieces))
