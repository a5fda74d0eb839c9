"""Files that are at every moment whole: the old one or the new one."""

import contextlib
import os
import pathlib
import secrets
import shutil


def replace_files(contents):
    """Puts contents, {path: bytes} in one folder, in place of files, once all are on the disk.

    Of several all but the first are missing for a moment, so that there are never old and new ones
    side by side. Raises OSError if one can't be written; the old files are unharmed if that was for
    want of space or of a right.
    """
    scratch = {path: _beside(path) for path in contents}
    try:
        for path, content in contents.items():
            with open(scratch[path], "xb") as file:
                file.write(content)
            _settle(scratch[path], path)
        first, *others = contents
        for path in others:
            path.unlink(missing_ok=True)
        for path in contents:
            os.replace(scratch[path], path)
    finally:
        for path in scratch.values():
            path.unlink(missing_ok=True)
    _settle_folder(first.parent)


@contextlib.contextmanager
def replaced(path):
    """Gives the path of a new file that takes the place of `path` if all went well.

    Behind a symbolic link the file it points to is replaced. OSErrors name `path`, and leave the
    old file unharmed.
    """
    path = pathlib.Path(path).resolve()
    scratch = _beside(path)
    try:
        open(scratch, "xb").close()
        yield scratch
        _settle(scratch, path)
        os.replace(scratch, path)
    except OSError as error:
        if error.filename == str(scratch):
            error.filename = str(path)
        raise
    finally:
        scratch.unlink(missing_ok=True)
    _settle_folder(path.parent)


def _beside(path):
    """A new name in the same folder, with the same ending."""
    return path.with_name(f".{secrets.token_hex(4)}.tmp.{path.name}")


def _settle(scratch, path):
    """The content is on the disk, with the rights of the file that it is going to replace."""
    with open(scratch, "r+b") as file:
        os.fsync(file.fileno())
    with contextlib.suppress(FileNotFoundError):
        shutil.copymode(path, scratch)


def _settle_folder(folder):
    """The new names are on the disk too."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
