# SPDX-License-Identifier: Apache-2.0
"""bench/run: how it reckons, and what it says to wrong input. Runs themselves need root, the network and minutes."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

from instance import DEADLINE, STAGE

BENCH = pathlib.Path(__file__).parents[2] / "bench"
sys.path.insert(0, str(BENCH))
from runner import report, systems, workloads  # noqa: E402
from runner.stop import Stop  # noqa: E402


def results(*rows):
    r = report.Results()
    for row in rows:
        r.add(*row)
    return r


def cells(table, line):
    return [c.strip() for c in table.splitlines()[line].strip("|").split("|")]


def test_ratios_are_of_the_same_round():
    """Machines change from round to round: the median of ratios, not the ratio of medians."""
    r = results(*((n, "w", "postfix", "rate", v) for n, v in enumerate((100, 10, 1))),
                *((n, "w", "postrider", "rate", v) for n, v in enumerate((400, 30, 2))))
    assert r.ratios("w", "rate", "postrider", "postfix") == [4, 3, 2]
    table = report.ratio_table(r, lambda _: ("rate", "messages/s"))
    assert dict(zip(cells(table, 0), cells(table, 2)))["postrider/postfix"] == "3 (2–4)"


def test_a_round_that_one_system_has_not_finished_has_no_ratio():
    r = results((1, "w", "postfix", "rate", 5), (1, "w", "postrider", "rate", 10), (2, "w", "postrider", "rate", 10))
    assert r.ratios("w", "rate", "postrider", "postfix") == [2]
    assert r.ratios("w", "rate", "postrider", "floor") == []
    assert r.rounds() == 2


def test_the_columns_of_ratios():
    r = results(*((1, "w", s, m, v) for m in ("rate", "cpu_ms") for v, s in enumerate(("postfix", "postrider", "before", "floor", "direct"), 1)))
    head = cells(report.ratio_table(r, lambda _: ("rate", "u")), 0)
    assert [h for h in head if h.startswith(("postrider/", "CPU postrider/"))] == [
        "postrider/postfix", "CPU postrider/postfix", "postrider/floor", "postrider/before", "CPU postrider/before"]
    assert not [h for h in head if re.match(r"(CPU )?(postfix|floor|before)/", h)]


def test_what_was_not_measured_is_a_dash():
    assert report.spread([]) == "-"
    r = results((1, "w", "postfix", "rate", 1), (1, "v", "postrider", "rate", 1))
    table = report.ratio_table(r, lambda _: ("rate", "u"))
    assert cells(table, 2)[2:] == ["1", "-", "-", "-"] and cells(table, 3)[2:] == ["-", "1", "-", "-"]


def test_tables_are_put_between_their_marks():
    text = f"a\n{report.BEGIN}old\n{report.END}b\n"
    assert report.replaced(text, "new\n") == f"a\n{report.BEGIN}new\n{report.END}b\n"
    assert report.replaced(report.replaced(text, "x\n"), "y\n") == report.replaced(text, "y\n")
    assert report.BEGIN in (BENCH / "RESULTS.md").read_text()
    for broken in ("", report.BEGIN, report.END, report.END + report.BEGIN):
        with pytest.raises(Stop):
            report.replaced(broken, "new\n")


@pytest.mark.parametrize("value, text", [(0, "0"), (0.00123456, "0.00123"), (9.876, "9.88"), (99.99, "100"), (100, "100"), (12345.6, "12,346")])
def test_numbers(value, text):
    assert report.number(value) == text


def test_every_workload_shows_a_metric_that_it_has():
    text = (BENCH / "runner/workloads.py").read_text()
    for name, w in workloads.WORKLOADS.items():
        assert f'yield "{w.metric}"' in text, name
        assert re.search(rf"\b{name.split('-')[0]}", (BENCH / "README.md").read_text()), name


def test_both_systems_get_the_same_configuration(tmp_path):
    """But for where programs are, and master.cf has no chroot and no programs of other packages."""
    class Box:
        work = tmp_path
    packages = tmp_path / "packages"
    (packages / "usr/share/postfix").mkdir(parents=True)
    (packages / "etc/postfix").mkdir(parents=True)
    (packages / "usr/share/postfix/dynamicmaps.cf").write_text("")
    (packages / "usr/share/postfix/master.cf.dist").write_text(
        "# comment\nsmtp      inet  n       -       y       -       -       smtpd\nqmgr unix n - n 300 1 qmgr\n"
        "relay     unix  -       -       y       -       -       smtp\n        -o syslog_name=postfix/$service_name\n"
        "uucp      unix  -       n       n       -       -       pipe\n  flags=Fqhu user=uucp argv=uux -r\n")
    made = {}
    for kind in (systems.Postfix, systems.Postrider):
        if not (tmp_path / "etc").exists():
            for d in ("etc", "var/spool", "var/lib"):
                (tmp_path / d).mkdir(parents=True)
        try:
            kind(Box, packages, slow_flush_ms=5).prepare()
        except PermissionError:
            pytest.fail("needs root")
        made[kind] = [(tmp_path / "etc/postfix" / name).read_text() for name in ("main.cf", "master.cf", "vmailbox")]
        subprocess.run(["rm", "-r", tmp_path / "etc", tmp_path / "var"], check=True)
    postfix, ours = made.values()
    assert ours[1:] == postfix[1:] and "LD_PRELOAD=" in postfix[0] and "SLOW_FLUSH_MS=5" in ours[0]
    assert {*ours[0].splitlines()} - {*postfix[0].splitlines()} == {"daemon_directory = /opt/postrider/libexec/postrider",
                                                                  "command_directory = /opt/postrider/sbin"}
    assert [line.split() for line in postfix[1].splitlines()] == [
        "smtp inet n - n - - smtpd".split(), "qmgr unix n - n 300 1 qmgr".split(), "relay unix - - n - - smtp".split(),
        ["-o", "syslog_name=postfix/$service_name"]]


@pytest.mark.parametrize("arguments, status, said", [
    (["--help"], 0, "--slow-flush"), (["-w", "x"], 2, "unknown workload: x"), (["-n", "0"], 2, "at least 1"), (["-m", "1x"], 2, "at least 1"),
    (["-s", "sendmail"], 2, "unknown system: sendmail"), (["-s", "before"], 2, "wants --before"), (["--stage", "/nonexistent"], 1, "bench/run: "),
    (["-u", "/nonexistent"], 1, "No such file"), (["-u", "/dev/null"], 1, "to put the tables between"),
    (["--before", "/nonexistent", "--stage", str(STAGE)], 1, "bench/run: ")])
def test_wrong_input(arguments, status, said):
    done = subprocess.run([BENCH / "run", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == status and said in done.stdout + done.stderr and "Traceback" not in done.stderr
    if os.geteuid() == 0 and "/nonexistent" in arguments and "-u" not in arguments:
        assert "nothing is built there" in done.stderr


def test_a_command_that_fails_stops_the_run_with_its_last_line(tmp_path):
    from runner.sandbox import Sandbox

    box = Sandbox(tmp_path, None, None, None)
    box.command = lambda *argv, env=None: list(argv)
    with pytest.raises(Stop, match=r"^sh -c echo one; echo two; exit 3: two$"):
        box.run("sh", "-c", "echo one; echo two; exit 3")
    assert box.run("sh", "-c", "echo one; exit 3", check=False) == "one\n"
