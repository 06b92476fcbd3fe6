"""A copy of everything that must last, in one file, taken while the gateway runs; and the way back.

Each SQLite database is copied at one moment of its own, with SQLite's online backup
(https://www.sqlite.org/backup.html), which stops nobody. With them go the small files beside them, without which they
are worth nothing: the pepper of the keys, the admin secret, and the spools of this machine's edges, which hold what one
database has and another one has not yet. The file is as secret as they are.
"""

import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, Final

from sqlalchemy import make_url

from polyroute.cli.claim import claimed
from polyroute.cli.config import Config
from polyroute.cli.spools import FOLDER, Spools, hold_something
from polyroute.cli.tables import files, named_files
from polyroute.mesh.roles import ROLES, ConfigError

MANIFEST: Final = "manifest.json"
FORMAT: Final = 2
READ: Final = (1, FORMAT)  # the first had no spools
DUMP: Final = "postgresql.dump"
SCHEMAS: Final = "polyroute_*"
_SQLITE: Final = b"SQLite format 3\0"
_BESIDE: Final = ("-wal", "-shm", "-journal")  # SQLite's own, which belong to a file that is in use


def backup(config: Config, file: Path, *, force: bool = False) -> list[str]:
    """Writes everything into `file`, a gzipped tar archive; the names of what is in it.

    Raises:
        ConfigError: The file is there already, there is nothing to copy, or a database could not be copied.
    """
    if file.exists() and not force:
        raise ConfigError(f"{file} is there already; --force replaces it")
    found = dict(_found(config))
    if not found and not _on_postgresql(config):
        raise ConfigError(f"there is nothing in {config.data_dir}")
    with (
        tempfile.TemporaryDirectory(dir=file.absolute().parent, prefix=".polyroute-backup-") as folder,
        Spools(config.data_dir) as spools,
    ):
        copies = {name: _copied(path, Path(folder) / name) for name, path in found.items()}
        if _on_postgresql(config):
            copies[DUMP] = _dumped(config, Path(folder) / DUMP)
        copies |= spools.copied(Path(folder))  # after the databases
        draft = Path(folder) / "archive"
        _pack(draft, copies)
        draft.replace(file)
    return sorted(copies)


def restore(config: Config, file: Path, *, force: bool = False) -> list[str]:
    """Puts everything in `file` where it came from; the names of what was in it. No role may run meanwhile.

    Args:
        config: Where that is.
        file: What `backup` wrote.
        force: Do so although something is there; that is kept in a folder `replaced-...` of the data directory.

    Raises:
        ConfigError: Something is there, the file is damaged, or the gateway runs.
    """
    with claimed(config.data_dir / "run", ROLES):
        there = dict(_found(config))
        if hold_something(config.data_dir):
            there[FOLDER] = config.data_dir / FOLDER
        if there and not force:
            raise ConfigError(
                f"{config.data_dir} is not empty: it has {', '.join(sorted(there))}; --force replaces them"
            )
        with tempfile.TemporaryDirectory(dir=config.data_dir, prefix=".restoring-") as folder:
            copies = _unpacked(file, Path(folder))
            if DUMP in copies:
                _load(config, copies.pop(DUMP), force=force)
            _set_aside(config, there)
            for name, path in copies.items():
                target = _place(config, name)
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.replace(target)
    return sorted(copies)


def _databases(config: Config) -> Mapping[str, Path]:
    """Where each service's SQLite file is."""
    return {f"{name}.db": path for name, path in files(config).items()}


def _found(config: Config) -> Iterator[tuple[str, Path]]:
    """Every file that is worth keeping, by its name in a backup: databases, and the secrets beside them."""
    for name, path in _databases(config).items():
        for beside in sorted(path.parent.glob(f"{path.name}*")):
            if _kept(beside) and not (beside == path and _elsewhere(config, name)):
                yield name + beside.name.removeprefix(path.name), beside
    databases = tuple(_databases(config))
    for path in sorted(config.data_dir.glob("*")):
        if _kept(path) and not path.name.startswith(databases):
            yield path.name, path


def _elsewhere(config: Config, name: str) -> bool:
    """Whether a service's tables are in PostgreSQL; a file of its name is then from before that."""
    return _on_postgresql(config) and named_files(config).get(name.removesuffix(".db")) is None


def _kept(path: Path) -> bool:
    return path.is_file() and not path.name.endswith(_BESIDE) and not path.name.startswith(".")


def _place(config: Config, name: str) -> Path:
    """Where a file of a backup belongs."""
    for database, path in _databases(config).items():
        if name.startswith(database):
            return path.with_name(path.name + name.removeprefix(database))
    return config.data_dir / name


def _copied(path: Path, copy: Path) -> Path:
    """A copy of a file, for its owner only; that of a database is whole and of one moment."""
    copy.touch(mode=0o600)
    with path.open("rb") as file:
        is_database = file.read(len(_SQLITE)) == _SQLITE
    if not is_database:
        shutil.copyfile(path, copy)
        return copy
    address = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # one file, and none beside it
        (found,) = target.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise ConfigError(f"{path} is damaged: {found}")
    return copy


def _pack(archive: Path, copies: Mapping[str, Path]) -> None:
    manifest = {
        "format": FORMAT,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "files": {name: _digest(path) for name, path in copies.items()},
    }
    archive.touch(mode=0o600)
    with tarfile.open(archive, "w:gz", compresslevel=5) as tar:
        content = json.dumps(manifest, indent=2).encode()
        head = tarfile.TarInfo(MANIFEST)
        head.size, head.mode, head.mtime = len(content), 0o600, int(time.time())
        tar.addfile(head, io.BytesIO(content))
        for name, path in copies.items():
            tar.add(path, name, recursive=False)


def _unpacked(file: Path, folder: Path) -> dict[str, Path]:
    """The files of a backup, each as the manifest says that it was."""
    try:
        with tarfile.open(file, "r:gz") as tar:
            return _extracted(tar, folder)
    except (OSError, EOFError, tarfile.TarError, KeyError, ValueError) as error:
        raise ConfigError(f"{file} is not a backup that can be read: {error}") from None


def _extracted(tar: tarfile.TarFile, folder: Path) -> dict[str, Path]:
    manifest = json.load(_member(tar, MANIFEST))
    if manifest["format"] not in READ:
        raise ValueError("it was made by another version of polyroute")
    copies = {}
    for name, digest in manifest["files"].items():
        if not _named(PurePosixPath(name)):
            raise ValueError(f"{name!r} is not the name of a file")
        copies[name] = folder / name
        copies[name].parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(copies[name], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            shutil.copyfileobj(_member(tar, name), target)
            target.flush()
            os.fsync(target.fileno())
        if _digest(copies[name]) != digest:
            raise ValueError(f"{name} is damaged")
    return copies


def _named(path: PurePosixPath) -> bool:
    """Whether a backup may have a file of that name: one of the data directory, or one of its spools."""
    return path.name == str(path) or (path.parts[:1] == (FOLDER,) and ".." not in path.parts)


def _member(tar: tarfile.TarFile, name: str) -> Any:
    member = tar.extractfile(name)
    if member is None:
        raise ValueError(f"{name} is not a file")
    return member


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _set_aside(config: Config, there: Mapping[str, Path]) -> None:
    """Moves what is replaced out of the way, with what SQLite keeps beside it."""
    if not there:
        return
    aside = config.data_dir / time.strftime("replaced-%Y%m%d-%H%M%S", time.gmtime())
    aside.mkdir(mode=0o700)
    for name, path in there.items():
        path.replace(aside / name)
        for end in _BESIDE:
            beside = path.with_name(path.name + end)
            if beside.exists():
                beside.replace(aside / (name + end))


# --- PostgreSQL: its own programs know best


def _on_postgresql(config: Config) -> bool:
    return bool(config.database.url.get_secret_value())


def _dumped(config: Config, file: Path) -> Path:
    _run(config, "pg_dump", "--format=custom", f"--schema={SCHEMAS}", f"--file={file}")
    return file


def _load(config: Config, dump: Path, *, force: bool) -> None:
    if not _on_postgresql(config):
        raise ConfigError("the backup is of a PostgreSQL database, and the configuration names none")
    replacing = ("--clean", "--if-exists") if force else ()
    _run(config, "pg_restore", "--exit-on-error", "--single-transaction", "--no-owner", *replacing, str(dump))


def _run(config: Config, program: str, *arguments: str) -> None:
    """Runs a program of PostgreSQL's on the database; the password is in its environment, which others cannot read."""
    if shutil.which(program) is None:
        raise ConfigError(f"{program} is not installed here: copy the PostgreSQL database with it where it is")
    url = make_url(config.database.url.get_secret_value())
    secret = {"PGPASSWORD": str(url.password)} if url.password else {}
    name = url.set(password=None).render_as_string()
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own program
        [program, f"--dbname={name}", *arguments],
        env={**os.environ, **secret},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ConfigError(f"{program}: {done.stderr.strip()}")
