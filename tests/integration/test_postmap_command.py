# SPDX-License-Identifier: Apache-2.0
"""What postmap and postalias have beyond Debian's, and what happens to a table while several of them, or one that is killed, work on it."""
import json
import os
import pathlib
import pty
import random
import re
import resource
import signal
import subprocess
import time

import pytest
from lookup import Asker, wait_for

STAGE = pathlib.Path(os.environ.get("POSTRIDER_STAGE", pathlib.Path(__file__).parents[2] / "build/test/stage"))
TYPES = subprocess.run([STAGE / "sbin/postconf", "-m"], capture_output=True, text=True).stdout.split()
BUILT = [kind for kind in ("hash", "btree", "lmdb", "cdb") if kind in TYPES]
ROWS = int(os.environ.get("POSTRIDER_ROWS", 100000))  # of the large table; a million takes some seconds for each type
SANITIZED = any("asan" in part or "tsan" in part for part in STAGE.parts)


@pytest.fixture
def etc(tmp_path):
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "main.cf").write_text(f"myhostname = h.test\nshlib_directory = {STAGE}/libexec/postrider\n")
    return etc


def command(etc, *args, program="postmap", **options):
    return subprocess.Popen([STAGE / "sbin" / program, "-c", etc, *map(str, args)], cwd=etc.parent, **options)


def run(etc, *args, program="postmap", stdin=b"", wanted=0):
    process = command(etc, *args, program=program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(stdin, timeout=120)
    assert process.returncode == wanted, (args, out, err)
    return out, without_note(err.decode())


def without_note(text):
    """Without what it says of hash and btree where there is no Berkeley DB."""
    return re.sub(r"^postmap: \w+:\S+: made as \w+ file \S+: this system has no Berkeley DB\r?\n", "", text, flags=re.M)


def objects(out):
    return [json.loads(line) for line in out.splitlines()]


def suffixes(where):
    return {path.suffix[1:] for path in where.glob("t.*")}


# --- JSON -----------------------------------------------------------------------------------------------------

def test_json(etc, tmp_path):
    (tmp_path / "t").write_bytes('a 1\nb two "words" \\ and\ttab\nü ß\n'.encode() + b"raw \xff\xfe\n")
    run(etc, "-u", "hash:t")
    table = {"table": "hash:t"}
    assert objects(run(etc, "-jq", "a", "hash:t")[0]) == [table | {"key": "a", "value": "1"}]
    assert objects(run(etc, "-jq", "A", "hash:t")[0]) == [table | {"key": "A", "value": "1"}]
    assert objects(run(etc, "-jq", "none", "hash:t", wanted=1)[0]) == [table | {"key": "none", "value": None}]
    assert objects(run(etc, "-jq", "b", "hash:t")[0])[0]["value"] == 'two "words" \\ and\ttab'
    assert objects(run(etc, "-jq", "ü", "hash:t")[0])[0]["value"] == "ß"
    # bytes that are no text become the characters of the same number
    assert objects(run(etc, "-ujq", "raw", "hash:t")[0])[0]["value"] == "\xff\xfe"
    answers = objects(run(etc, "-jq", "-", "hash:t", stdin=b"a\nnone\nb\n")[0])
    assert [(o["key"], o["value"] is None) for o in answers] == [("a", False), ("none", True), ("b", False)]
    # of several tables, the one that answers is named
    assert objects(run(etc, "-jq", "x", "hash:t", "static:y")[0]) == [{"table": "static:y", "key": "x", "value": "y"}]
    assert objects(run(etc, "-jq", "x", "hash:t", "inline:{y=z}", wanted=1)[0]) == [{"table": "", "key": "x", "value": None}]
    rows = objects(run(etc, "-ujs", "hash:t")[0])
    assert {o["key"]: o["value"] for o in rows} == {"a": "1", "b": 'two "words" \\ and\ttab', "ü": "ß", "raw": "\xff\xfe"}
    control = "".join(map(chr, range(1, 32)))
    out, _ = run(etc, "-jq", "k", f"static:{{x{control.replace(chr(10), '').replace(chr(9), '')}y}}")
    assert json.loads(out)["value"].startswith("x\x01\x02")


def test_json_of_aliases(etc, tmp_path):
    (tmp_path / "aliases").write_text('root: joe, "|prog arg"\n')
    run(etc, "cdb:aliases", program="postalias")
    assert objects(run(etc, "-jq", "root", "cdb:aliases", program="postalias")[0]) == [
        {"table": "cdb:aliases", "key": "root", "value": 'joe, "|prog arg"'}]


# --- large tables ---------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "t"
    with path.open("w") as f:
        for i in range(ROWS):
            f.write(f"user{i * 7919 % 1000003}@example{i % 1000}.com\tvalue number {i}\n")
    return path


@pytest.mark.parametrize("kind", BUILT)
def test_large(etc, large, kind):
    """In seconds, with bounded memory; on a terminal a line counts."""
    master, slave = pty.openpty()
    begun = time.monotonic()
    process = command(etc, f"{kind}:{large}", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=slave)
    os.close(slave)
    shown = b""
    while True:
        try:
            shown += os.read(master, 65536)
        except OSError:  # the last writer has gone
            break
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    os.close(master)
    seconds = time.monotonic() - begun
    assert status == 0, shown
    assert without_note(shown.decode()).splitlines()[-1].split("\r")[-1].strip() == f"{large}: {ROWS} rows", shown
    print(f"{kind}: {ROWS} rows in {seconds:.2f} s, {usage.ru_maxrss // 1024} MB")
    if not SANITIZED:
        assert usage.ru_maxrss < 256 * 1024, usage.ru_maxrss
        assert seconds < 5 + ROWS / 50000  # a loaded machine; a million takes 2 to 5 s on an idle one
    # not on a terminal: silence
    out, err = run(etc, f"{kind}:{large}")
    assert (out, err) == (b"", "")
    assert run(etc, "-q", f"user{7919 * 77 % 1000003}@example77.com", f"{kind}:{large}")[0] == b"value number 77\n"


# --- several at once, and one that is killed ------------------------------------------------------------------

def rows(number):
    return "".join(f"key{i} of{number}\n" for i in range(20000))


@pytest.mark.parametrize("kind", BUILT)
def test_two_at_once(etc, tmp_path, kind):
    """Each replaces the source and builds: what is there in the end, and at any time, is one of them, whole."""
    (tmp_path / "t").write_text(rows(0))
    run(etc, f"{kind}:t")
    with Asker(tmp_path / "ask", f"{kind}:{tmp_path}/t") as asker:
        builders = []
        for number in range(1, 7):
            (tmp_path / "new").write_text(rows(number))
            (tmp_path / "new").rename(tmp_path / "t")
            builders.append(command(etc, f"{kind}:t", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE))
        while any(b.poll() is None for b in builders):
            for key in (b"key0", b"key19999"):
                answer = asker.ask(key)
                assert answer.result == "found" and answer.value[:2] == b"of", (answer, asker.log())
        for b in builders:
            assert without_note(b.communicate()[1].decode()) == "" and b.returncode == 0
        wait_for("the last content", lambda: asker.found("key5") == b"of6", 10)
    listed = {line.split(b"\t")[1] for line in run(etc, "-s", f"{kind}:t")[0].splitlines()} if "cdb" not in suffixes(tmp_path) else {b"of6"}
    assert listed == {b"of6"}
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("kind", BUILT)
def test_killed(etc, tmp_path, kind):
    """At whatever point: the old table goes on, and the next build works."""
    (tmp_path / "t").write_text("always there\n")
    run(etc, f"{kind}:t")
    (tmp_path / "t").write_text("always there\n" + rows(1))
    pick = random.Random(5)
    with Asker(tmp_path / "ask", f"{kind}:{tmp_path}/t") as asker:
        for _ in range(15):
            process = command(etc, f"{kind}:t", stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(pick.uniform(0, 0.06))  # where it is by then is left to chance
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert asker.found("always") == b"there"
            assert run(etc, "-q", "always", f"{kind}:t")[0] == b"there\n"
        run(etc, f"{kind}:t")
        wait_for("the new content", lambda: asker.ask("key7").result == "found", 10)
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("kind", BUILT)
def test_full_disk(etc, tmp_path, kind):
    """A build that runs out of space says so, and leaves the old table."""
    (tmp_path / "t").write_text("always there\n")
    run(etc, f"{kind}:t")
    (tmp_path / "t").write_text("always there\n" + rows(1))

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))

    process = command(etc, f"{kind}:t", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=limit)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and b"fatal: " in err, err
    assert run(etc, "-q", "always", f"{kind}:t")[0] == b"there\n"
    run(etc, f"{kind}:t")
    assert run(etc, "-q", "key19999", f"{kind}:t")[0] == b"of1\n"
