"""Podman with settings and storage of its own, and a base image made from Debian's packages.

Nothing of the machine's own containers is read or changed, and all of it goes when the tests end.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

NEEDED = ("podman", "mmdebstrap", "runc")
# Machines that lack CAP_SYS_RESOURCE cannot raise limits, and crun refuses mixed control groups.
SETTINGS = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
PLAIN_NAMES = {"index-url", "extra-index-url", "trusted-host", "no-index"}


class NotHereError(Exception):
    """Why no container can be built on this machine."""


@dataclass
class Podman:
    """Runs podman in a folder that holds everything it writes."""

    folder: Path
    environment: dict[str, str] = field(init=False)

    def __post_init__(self):
        settings = self.folder / "containers.conf"
        settings.write_text(SETTINGS)
        for name in ("tmp", "root", "run"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        own = {"CONTAINERS_CONF": str(settings), "TMPDIR": str(self.folder / "tmp")}
        self.environment = {**os.environ, **own}

    def __call__(self, *arguments, seconds=60, check=True):
        place = ["--root", self.folder / "root", "--runroot", self.folder / "run"]
        command = [str(word) for word in ("podman", *place, *arguments)]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=seconds
        )
        if check and done.returncode:
            raise RuntimeError(f"podman {arguments[0]} ended with {done.returncode}:\n"
                               f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}")  # fmt: skip
        return done

    def has(self, image):
        return self("image", "exists", image, check=False).returncode == 0

    def remove(self):
        """Containers, images and storage of these tests."""
        self("rm", "--all", "--force", "--time", "0", check=False)
        self("rmi", "--all", "--force", check=False, seconds=120)
        subprocess.run(["umount", self.folder / "root" / "overlay"], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def require():
    """Refuse a machine on which nothing can be built, with the reason."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        raise NotHereError(f"not installed: {', '.join(absent)}")
    if os.geteuid() != 0:
        raise NotHereError("the base image is made as root")


def import_base(podman, name, folder):
    """Debian as the machine's own package sources have it, under the name that is pinned."""
    sources = [*Path("/etc/apt/sources.list.d").glob("*.sources"),
               *Path("/etc/apt").glob("sources.list")]  # fmt: skip
    debian = [path for path in sources if "debian" in path.read_text(errors="replace")]
    release = re.search(r"debian:([a-z]+)-", name)[1]
    if not debian or release not in debian[0].read_text():
        raise NotHereError(f"the package sources of this machine are not those of {release}")
    rootfs = folder / "rootfs.tar"
    command = ["mmdebstrap", "--quiet", "--variant=apt"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")]
    command += [release, str(rootfs), str(debian[0])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise NotHereError(f"mmdebstrap: {(done.stderr.strip() or 'no message')[-300:]}")
    podman("import", "--quiet", rootfs, name)
    rootfs.unlink()


def secrets(folder):
    """What pip needs on this machine, as build secrets: certificates and its configuration."""
    arguments = []
    certificates = next((os.environ[name] for name in CERTIFICATES if os.environ.get(name)), None)
    if certificates and Path(certificates).is_file():
        arguments += ["--secret", f"id=ca,src={certificates}"]
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True
    ).stdout
    lines = ["[global]"]
    for key, value in re.findall(r"^(?:global|:env:)\.([\w-]+)='(.*)'$", listed, re.MULTILINE):
        remote = " ".join(word for word in value.split() if not word.startswith(("/", "file:")))
        if key in PLAIN_NAMES and remote:
            lines.append(f"{key} = {remote}")
    file = folder / "pip.conf"
    file.write_text("\n".join(lines) + "\n")
    return [*arguments, "--secret", f"id=pip_conf,src={file}"]
