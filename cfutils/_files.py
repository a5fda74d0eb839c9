"""Files that are at every moment whole: the old one or the new one."""

import contextlib
import os
import secrets
import shutil


def replace_files(contents):
    """Puts contents in place of files; all of them are on the disk before the first is in place.

    Args:
        contents: dict {path: bytes} of files in one folder. Of several files that belong together
            all but the first are missing for a moment, so that there are never old and new ones
            side by side.

    Raises:
        OSError: if a file can't be written; if it was for want of space or of a right, the old
            files are unharmed.
    """
    scratch = {
        path: path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp") for path in contents
    }
    try:
        for path, content in contents.items():
            with open(scratch[path], "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileNotFoundError):
                shutil.copymode(path, scratch[path])
        first, *others = contents
        for path in others:
            path.unlink(missing_ok=True)
        for path in (first, *others):
            os.replace(scratch[path], path)
    finally:
        for path in scratch.values():
            path.unlink(missing_ok=True)
    if os.name == "posix":  # the new names are on the disk too
        folder = os.open(first.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
