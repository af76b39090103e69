"""A bundle of Skep: one file that sets it up without network, compiler or an hour to spare.

    bundle.py make FOLDER FILE    makes one of a folder, with what `skep-archive` compresses
    bundle.py take SOURCE [...]   sets up from a file or an address; what follows is for `skep lab`
    bundle.py show FILE           says what a file is

A bundle is a `.tar.zst` file whose first two frames are skippable ones: what it is (JSON), and the program that unpacks the rest.
Tools that know zstd pass over them. Standard library only: this file runs on machines that have nothing but Python.
"""

import argparse
import errno
import hashlib
import json
import os
import pathlib
import platform
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

SKIPPABLE = 0x184D2A50
HEADER = struct.Struct("<II")
# A manifest longer than this is none.
LONGEST_MANIFEST = 1 << 20
# Beside what is unpacked: the Python environment, and room to work in.
ROOM = 700 << 20
# Of a download: tries without a byte in between, and seconds until one is given up.
TRIES, PATIENCE = 30, 20


class Refused(Exception):
    """What is wrong, and what mends it."""

    def __init__(self, what, hint):
        super().__init__(what)
        self.hint = hint


def this_platform():
    system = {"Darwin": "macos"}.get(platform.system(), platform.system().lower())
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    return f"{system}-{machine}"


def glibc():
    name, version = platform.libc_ver()
    return version if name == "glibc" else None


def numbers(version):
    return tuple(int(part) for part in version.split(".")[:2])


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(os.environ.get("SKEP_CACHE") or pathlib.Path(base) / "skep").absolute()


def megabytes(n):
    return f"{n / 1e6:,.0f} MB"


# ---- what a file is


def read_frames(file, name):
    """The manifest, and where the unpacker's program and the rest are."""
    frames = []
    for i in range(2):
        head = file.read(HEADER.size)
        magic, size = HEADER.unpack(head) if len(head) == HEADER.size else (0, 0)
        if magic != SKIPPABLE + i or (i == 0 and size > LONGEST_MANIFEST):
            raise Refused(f"{name} is no bundle of Skep's", "a bundle is made by ./install/bundle, and its name ends in .tar.zst")
        frames.append((file.tell(), size))
        if i == 0:
            content = file.read(size)
            try:
                manifest = json.loads(content)
            except ValueError:
                raise Refused(f"{name} is broken: what it holds cannot be read", "copy or download it again") from None
        else:
            file.seek(size, os.SEEK_CUR)
    return manifest, frames[1], file.tell()


def check_machine(manifest, name):
    """Refuses what cannot run here, before anything is downloaded or written."""
    here = this_platform()
    if manifest["platform"] != here:
        raise Refused(f"{name} is for {manifest['platform']}, and this machine is {here}", "ask for a bundle for this platform, or build Skep from its sources: ./install/start")
    needed, has = manifest.get("glibc"), glibc()
    if needed and has and numbers(has) < numbers(needed):
        raise Refused(f"{name} needs glibc {needed} or newer, and this system has {has}", "build Skep from its sources (./install/start), or ask for a bundle that was made on an older system")
    if sys.version_info < (3, 11):
        raise Refused(f"Python {platform.python_version()} is older than 3.11", "install a newer one, and run this with it")
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if ours not in manifest["pythons"]:
        raise Refused(f"{name} brings JupyterLab for Python {', '.join(manifest['pythons'])}, and this is {ours}", "run it with one of those, for example `python3.12 bundle.py take …`")
    if subprocess.run([sys.executable, "-c", "import venv, ensurepip"], stderr=subprocess.DEVNULL).returncode:
        raise Refused("python3 lacks its venv module", "Debian: apt-get install python3-venv")
    if not shutil.which("cc"):
        raise Refused("a C compiler is not there; cells are linked by it", "install gcc or clang (Debian: apt-get install gcc libc6-dev; macOS: xcode-select --install)")
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except OSError as error:
        raise Refused(f"the cache folder {cache} cannot be written: {error.strerror}", "make it writable, or set SKEP_CACHE to another folder") from None
    needed, free = manifest["unpacked"] + ROOM, shutil.disk_usage(cache).free
    if free < needed:
        raise Refused(f"only {megabytes(free)} are free at {cache}; {megabytes(needed)} are needed", "free some space, or set SKEP_CACHE to a folder on another disk")


def check_whole(path, manifest, start):
    """Whether the file is all there, and as it was made."""
    size = path.stat().st_size
    if size != manifest["bytes"] + start:
        raise Refused(f"{path.name} is broken: {size:,} of {manifest['bytes'] + start:,} bytes are there", "copy or download it again")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != manifest["sha256"]:
        raise Refused(f"{path.name} is broken: its checksum is another one", "copy or download it again")


# ---- making


def make(folder, to, archive):
    """One file of a folder: `archive` is the program that compresses, and goes in to unpack it."""
    folder, to = pathlib.Path(folder), pathlib.Path(to)
    payload = to.with_name(to.name + ".payload")
    with payload.open("wb") as file:
        subprocess.run([archive, "pack", folder], stdout=file, check=True)
    digest = hashlib.sha256()
    with payload.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    about = json.loads((folder / "bundle.json").read_text())
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    about |= {"bytes": payload.stat().st_size, "sha256": digest.hexdigest(), "unpacked": sum(path.stat().st_size for path in files)}
    part = to.with_name(to.name + ".part")
    with part.open("wb") as out:
        for i, content in enumerate((json.dumps(about, indent=1).encode(), pathlib.Path(archive).read_bytes())):
            out.write(HEADER.pack(SKIPPABLE + i, len(content)) + content)
        with payload.open("rb") as file:
            shutil.copyfileobj(file, out, 1 << 20)
    payload.unlink()
    part.replace(to)
    checksum = hashlib.sha256(to.read_bytes()).hexdigest()
    to.with_name(to.name + ".sha256").write_text(f"{checksum}  {to.name}\n")
    print(f"Bundle: {to}, {megabytes(to.stat().st_size)}; unpacked {megabytes(about['unpacked'])}; SHA-256 {checksum}")


# ---- fetching


def is_address(source):
    return source.startswith(("http://", "https://"))


def request(address, **headers):
    return urllib.request.urlopen(urllib.request.Request(address, headers={"Skep-Host": socket.gethostname(), **headers}), timeout=PATIENCE)


class Line:
    """One line that is written over on a terminal, and now and then anew elsewhere."""

    def __init__(self):
        self.said = 0.0

    def say(self, text, is_last=False, is_kept=False):
        every = 0.3 if sys.stdout.isatty() else 5
        if is_last or is_kept or time.monotonic() - self.said > every:
            self.said = time.monotonic()
            print(f"\r{text}\033[K" if sys.stdout.isatty() else text, end="\n" if is_last or not sys.stdout.isatty() else "", flush=True)


def fetch_manifest(address):
    """What is at an address, before all of it is fetched."""
    try:
        with request(address, Range="bytes=0-65535") as answer:
            content = answer.read(65536)
    except (OSError, urllib.error.URLError) as error:
        raise Refused(f"{address} does not answer: {error}", "is this machine in the same network, and does `skep serve-bundle` still run there?") from None
    head = content[: HEADER.size]
    magic, size = HEADER.unpack(head) if len(head) == HEADER.size else (0, 0)
    if magic != SKIPPABLE or size > 65536 - HEADER.size:
        raise Refused(f"{address} is no bundle of Skep's", "is the address right? `skep serve-bundle` prints the one to use")
    return json.loads(content[HEADER.size : HEADER.size + size])


def fetch(address, manifest):
    """Downloads, and goes on where an earlier try ended."""
    folder = cache_folder() / "bundles"
    folder.mkdir(parents=True, exist_ok=True)
    # Of this very bundle: another one of that name begins anew.
    part = folder / f"{manifest['sha256'][:16]}.part"
    done = part.with_suffix(".tar.zst")
    if done.exists():
        return done
    line, left, began = Line(), TRIES, time.monotonic()
    before = has = part.stat().st_size if part.exists() else 0
    total = None
    while total is None or has < total:
        try:
            # What was written, which a full disk may have cut off.
            has = part.stat().st_size if part.exists() else 0
            with request(address, Range=f"bytes={has}-") as answer, part.open("ab") as file:
                if answer.status != 206:
                    raise Refused(f"{address} cannot send a part of a file", "hand it out with `skep serve-bundle FILE`, or copy the file and give its path")
                total = int(answer.headers["Content-Range"].rsplit("/", 1)[1])
                while block := answer.read(1 << 18):
                    file.write(block)
                    has += len(block)
                    # Whoever sends nothing is not asked for ever.
                    left = TRIES
                    rate = (has - before) / max(time.monotonic() - began, 0.1)
                    line.say(f"Downloading: {megabytes(has)} of {megabytes(total)}, {megabytes(rate)}/s, {(total - has) / max(rate, 1):.0f} s left")
            if has < total:
                raise OSError("the connection was closed")
        except urllib.error.HTTPError as error:
            if error.code == 416 and has:
                break
            raise Refused(f"{address} answers {error.code} {error.reason}", "is the address right?") from None
        except (OSError, TypeError, ValueError, urllib.error.URLError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise Refused(f"the download stopped after {megabytes(has)}: {error.strerror}", f"free some space at {folder} and run the same line again: it goes on from there") from None
            left -= 1
            if not left:
                raise Refused(f"the download stopped after {megabytes(has)}: {error}", "run the same line again: it goes on from there") from None
            line.say(f"Downloading: {megabytes(has)}; the network is gone ({error}), trying again …", is_kept=True)
            time.sleep(min(2, 0.2 * (TRIES - left)))
    line.say(f"Downloaded {megabytes(has)} in {time.monotonic() - began:.0f} s", is_last=True)
    part.replace(done)
    return done


# ---- setting up


def take(source, lab):
    began = time.monotonic()
    name = source
    if is_address(source):
        manifest = fetch_manifest(source)
        check_machine(manifest, name)
        path = fetch(source, manifest)
    else:
        path = pathlib.Path(source).expanduser()
        if not path.is_file():
            raise Refused(f"there is no file {path}", "give the path of a bundle, or the address that `skep serve-bundle` prints")
        name = path.name
    home = cache_folder() / "home"
    try:
        with path.open("rb") as file:
            manifest, (at, size), start = read_frames(file, name)
            check_machine(manifest, name)
            check_whole(path, manifest, start)
            file.seek(at)
            unpacker = file.read(size)
        unpack(path, start, unpacker, home)
    except Refused:
        # What is broken is not gone on with.
        if is_address(source):
            path.unlink(missing_ok=True)
        raise
    if is_address(source):
        path.unlink(missing_ok=True)
    print(f"Skep {manifest['skep']}: set up from {name} in {time.monotonic() - began:.0f} s, in {home}", flush=True)
    if is_address(source):
        tell(source, "set up")
    skep = home / "bin" / "skep"
    os.execve(skep, [str(skep), "lab", *lab], {**os.environ, "SKEP_CACHE": str(cache_folder()), "SKEP_HOME": str(home), "SKEP_BASE_PYTHON": sys.executable})


def unpack(path, start, unpacker, home):
    """Beside the old home first, which stays as it is until the new one is whole."""
    for left in home.parent.glob("home.new-*"):
        shutil.rmtree(left, ignore_errors=True)
    fresh = home.with_name(f"home.new-{os.getpid()}")
    with tempfile.TemporaryDirectory(dir=home.parent) as folder:
        program = pathlib.Path(folder) / "skep-archive"
        program.write_bytes(unpacker)
        program.chmod(0o700)
        done = subprocess.run([program, "unpack", path, str(start), fresh], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        shutil.rmtree(fresh, ignore_errors=True)
        raise Refused(f"{path.name} could not be unpacked: {done.stderr.strip()}", "is the disk full? Free some space and run it again")
    old = home.with_name(f"home.old-{os.getpid()}")
    # A first start that was built here has a link there.
    if os.path.lexists(home):
        home.rename(old)
    fresh.rename(home)
    if old.is_symlink():
        old.unlink()
    else:
        shutil.rmtree(old, ignore_errors=True)


def tell(address, what):
    """Lets who hands it out know; that is all it is for, so it does not matter when it fails."""
    try:
        to = urllib.parse.urljoin(address, f"/told/{urllib.parse.quote(what)}")
        urllib.request.urlopen(urllib.request.Request(to, data=b"", headers={"Skep-Host": socket.gethostname()}), timeout=3).close()
    except (OSError, ValueError):
        pass


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description="Sets Skep up from one file, without network.")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("folder")
    making.add_argument("to")
    making.add_argument("--archive", required=True)
    taking = commands.add_parser("take")
    taking.add_argument("source")
    taking.add_argument("lab", nargs=argparse.REMAINDER)
    showing = commands.add_parser("show")
    showing.add_argument("file")
    arguments = parser.parse_args()
    try:
        if arguments.command == "make":
            make(arguments.folder, arguments.to, arguments.archive)
        elif arguments.command == "take":
            take(arguments.source, arguments.lab)
        else:
            with open(arguments.file, "rb") as file:
                print(json.dumps(read_frames(file, arguments.file)[0], indent=1))
    except Refused as refused:
        sys.exit(f"error: {refused}\nhint: {refused.hint}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; run it again and it goes on from here")
    except OSError as error:
        sys.exit(f"error: {error}\nhint: is the disk full, or a folder not yours? `df -h` says what is free")


if __name__ == "__main__":
    main()
