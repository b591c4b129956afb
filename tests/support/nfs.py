"""flock as NFS has it: a lock on the file's bytes, which the kernel grants only for what a file is open for.

    fcntl.flock = nfs.flock

A process that a test starts does it by itself, and those that it starts too, with `folder` in front of its PYTHONPATH.
"""

import fcntl
import struct

KINDS = {fcntl.LOCK_SH: fcntl.F_RDLCK, fcntl.LOCK_EX: fcntl.F_WRLCK}


def flock(file, operation):
    """Locks the whole file for its open file description, as flock does. EBADF: it is not open for that."""
    lock = struct.pack("hhqqi0q", KINDS[operation & ~fcntl.LOCK_NB], 0, 0, 0, 0)  # of Linux on 64 bits
    fcntl.fcntl(file, fcntl.F_OFD_SETLK if operation & fcntl.LOCK_NB else fcntl.F_OFD_SETLKW, lock)


def folder(path):
    """Make a folder from which Python, as it starts, takes over these rules."""
    path.mkdir()
    (path / "sitecustomize.py").write_text("import fcntl, tests.support.nfs as nfs\nfcntl.flock = nfs.flock\n")
    return path
