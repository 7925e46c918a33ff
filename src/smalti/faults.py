"""Explain errors of the machine in smalti's words: disk, memory, permission, a lock, a file that is gone."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import FaultError

AGAIN = "the same command goes on where it was"
LESS = (
    "end other programs, or ask for less: fewer images in a batch (train.finetune.batch_images), smaller tiles "
    f"(tile.size_px), or a smaller backbone; {AGAIN}"
)
# Of torch on every device, of OpenCV, and of threads that find no room.
MEMORY_WORDS = (
    "not enough memory", "can't allocate memory", "cannot allocate memory", "out of memory", "insufficient memory",
    "failed to allocate", "can't start new thread",
)  # fmt: skip
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MARKER_SUFFIX = ".held"  # of a file that is a lock by being there; a killed process may leave it
FIXES = {
    errno.EROFS: "name a folder that can be written to (--runs, --out)",
    errno.EACCES: "change its permissions, or name another folder (--runs, --out)",
    errno.EPERM: "change its permissions, or name another folder (--runs, --out)",
    errno.ENOTDIR: "a part of this path is a file: name a folder (--runs, --out)",
    errno.EEXIST: "something of that name is in the way: move it, or name another folder (--runs, --out)",
    errno.EISDIR: "a folder is where a file should be: move it, or name another file",
    errno.ENOENT: "check the path; where it was there before, put it back and give the same command again",
    errno.EMFILE: "allow more open files ('ulimit -n 4096') and give the same command again",
    errno.ENFILE: "end other programs, which hold all files that this machine can open",
    errno.ENAMETOOLONG: "give it a shorter name or path",
    errno.ELOOP: "its links lead in a ring: name the folder itself",
    errno.EXDEV: "name folders on one disk",
}


def explain_fault(error: BaseException) -> FaultError | None:
    """Return the error in smalti's words; None if the machine is not at fault."""
    if isinstance(error, OSError) and error.errno != errno.ENOMEM:
        where = next(
            (os.fsdecode(name) for name in (error.filename2, error.filename) if isinstance(name, str | bytes)), ""
        )
        if (lock := getattr(error, "lock_file", None)) is not None:  # of filelock
            dead = ", or delete that file where no smalti runs any more" if str(lock).endswith(MARKER_SUFFIX) else ""
            return FaultError(
                f"another program holds {lock} and does not let go of it",
                fix=f"wait until it is done, or end it{dead}; nothing was written",
                kind="lock",
            )
        if error.errno in NO_ROOM:
            target = f" for {where}" if where else ""
            return FaultError(
                f"no space is left{target} ({error.strerror})",
                fix=f"free some space there, or name a folder on another disk (--runs, --out); {AGAIN}",
                kind="disk",
            )
        what = error.strerror or str(error) or type(error).__name__
        fix = FIXES.get(error.errno or 0, f"see whether the file and its disk can be used; {AGAIN}")
        return FaultError(f"{f'{where}: ' if where else ''}{what}", fix=fix, kind="path")
    # By name and words, since torch and OpenCV are too slow to import for this.
    raised_by_library = isinstance(error, RuntimeError) or type(error).__module__.partition(".")[0] in ("cv2", "torch")
    words = raised_by_library and any(word in str(error).lower() for word in MEMORY_WORDS)
    if words or isinstance(error, MemoryError | OSError):
        return FaultError("the machine ran out of memory", fix=LESS, kind="memory")
    return None


@contextmanager
def explained() -> Iterator[None]:
    """Turn errors of the machine inside a block into `FaultError`; all others pass."""
    try:
        yield
    except Exception as error:
        if isinstance(error, BrokenPipeError) or (fault := explain_fault(error)) is None:
            raise
        raise fault from error
