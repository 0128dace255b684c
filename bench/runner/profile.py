# SPDX-License-Identifier: Apache-2.0
"""Where a system's time goes while a workload runs: perf over its control group."""
import shutil
import signal
import subprocess

from runner.stop import Stop


class Profile:
    def __init__(self, groups, directory):
        if not shutil.which("perf"):
            raise Stop("--profile wants perf (package linux-perf)")
        self.data = directory / "perf.data"
        group = f"{groups.top.name}/mta"
        self.perf = subprocess.Popen(["perf", "record", "-q", "-g", "-a", "-e", "cpu-clock", "-F", "997", "-G", group, "-o", self.data],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def kill(self):
        """If it still runs."""
        if self.perf.poll() is None:
            self.perf.kill()
            self.perf.communicate()
        self.data.unlink(missing_ok=True)

    def stop(self):
        """The report's text."""
        self.perf.send_signal(signal.SIGINT)
        _, err = self.perf.communicate()
        text = ""
        for title, fields in (("programs", "comm"), ("objects", "comm,dso"), ("functions", "comm,symbol")):
            done = subprocess.run(["perf", "report", "-i", self.data, "--no-children", "-g", "none", "--sort", fields, "--stdio"], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                raise Stop(f"perf: {(done.stderr or err).strip().splitlines()[-1]}")
            lines = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("#")]
            text += f"== {title}\n" + "\n".join(lines[:40]) + "\n\n"
        return text
