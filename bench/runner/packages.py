# SPDX-License-Identifier: Apache-2.0
"""Debian's Postfix and rsyslogd, unpacked into a directory. Nothing is installed."""
import pathlib
import shutil
import subprocess

from runner.stop import Stop

NAMES = ("postfix", "libdb5.3", "libicu72", "libnsl2", "libsasl2-2", "libtirpc3", "rsyslog", "libestr0", "libfastjson4")


def _apt(*arguments, cwd):
    return subprocess.run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", *arguments], cwd=cwd, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def unpacked(cache, name="packages", names=NAMES):
    """The directory with usr/ and etc/ of the packages, made by the first call."""
    tree, downloads = pathlib.Path(cache) / name, pathlib.Path(cache) / f"{name}-downloads"
    if (tree / "versions").exists():
        return tree
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise Stop(f"{tool} is wanted, to get Debian's Postfix: run on Debian 12")
    shutil.rmtree(tree, ignore_errors=True)
    downloads.mkdir(parents=True, exist_ok=True)
    done = _apt("download", *names, cwd=downloads)
    if done.returncode != 0:
        _apt("update", cwd=downloads)
        done = _apt("download", *names, cwd=downloads)
    if done.returncode != 0:
        raise Stop("apt-get download: " + done.stdout.strip().splitlines()[-1])
    tree.mkdir()
    for package in sorted(downloads.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, tree], check=True)
    (tree / "versions").write_text("".join(f"{p.stem}\n" for p in sorted(downloads.glob("*.deb"))))
    return tree


def version(tree, name):
    for line in (tree / "versions").read_text().splitlines():
        package, number, *_ = line.split("_")
        if package == name:
            return number.replace("%3a", ":")
    return "?"
