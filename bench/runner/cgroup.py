# SPDX-License-Identifier: Apache-2.0
"""Control groups: the exact CPU time of a set of processes, those that have ended included."""
import os
import pathlib

from runner.stop import Stop


def _root():
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return pathlib.Path(where)
    raise Stop("there is no cgroup2 file system: it is where CPU time is read")


class Groups:
    """mta: the system under test; log: its syslog daemon; load: the load tools."""

    NAMES = ("mta", "log", "load")

    def __init__(self):
        self.top = _root() / f"postrider-bench-{os.getpid()}"
        try:
            for name in self.NAMES:
                (self.top / name).mkdir(parents=True)
        except OSError as e:
            raise Stop(f"{e.filename}: {e.strerror}") from e

    def enter(self, name, command):
        """The command as it runs inside the group."""
        return ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self.top / name / "cgroup.procs"), *map(str, command)]

    def cpu(self, name):
        """Seconds."""
        for line in (self.top / name / "cpu.stat").read_text().splitlines():
            key, value = line.split()
            if key == "usage_usec":
                return int(value) / 1e6
        raise Stop(f"{self.top / name}/cpu.stat: no usage_usec")

    def others(self):
        """Seconds of CPU time that all other processes of the machine have had, and that there were in all."""
        _, *ticks = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()
        user, nice, system, idle, iowait, irq, softirq, steal = (int(t) / os.sysconf("SC_CLK_TCK") for t in ticks[:8])
        busy = user + nice + system + irq + softirq + steal
        return busy - sum(self.cpu(name) for name in self.NAMES), busy + idle + iowait

    def pids(self, *names):
        return [int(p) for name in names or self.NAMES for p in (self.top / name / "cgroup.procs").read_text().split()]

    def memory_kib(self, name):
        """Proportional set size of the group's processes."""
        total = 0
        for pid in self.pids(name):
            try:
                for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
            except OSError:  # ended meanwhile
                continue
        return total

    def close(self):
        for path in (*(self.top / name for name in self.NAMES), self.top):
            if path.exists():
                path.rmdir()
