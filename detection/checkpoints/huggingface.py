"""Model folders on the Hugging Face Hub, by name; the only importer of `huggingface_hub`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from detection.checkpoints.model_folder import MODEL_CARD, PEOPLE_FOLDER, read_sums
from detection.checkpoints.plain_file import MODEL_CONFIG, MODEL_SUMS, MODEL_WEIGHTS
from detection.checkpoints.weights import shown
from detection.errors import UserError

PREFIX = "hub:"  # before a name on the command line, where user/name could be a path
HOW_TO_INSTALL = 'pip install "x3d-action-detection[hub]"'
_FILES = (MODEL_CONFIG, MODEL_WEIGHTS, MODEL_SUMS, MODEL_CARD)
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_NAME = re.compile(rf"({_PART}/{_PART})(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,99}}))?")


def local_source(source: str | Path) -> str | Path:
    """Return a place as it is; of `hub:user/name` (or `hub:user/name@REVISION`) the fetched folder.

    Raises `UserError` as `fetch_repository`.
    """
    text = str(source)
    return fetch_repository(text.removeprefix(PREFIX)) if text.startswith(PREFIX) else source


def is_repository_name(text: str) -> bool:
    """Say whether a text has the form user/name or user/name@REVISION."""
    match = _NAME.fullmatch(text)
    return match is not None and not re.search(r"--|\.\.|\.git$", match[1])


def fetch_repository(name: str) -> Path:
    """Return the folder of a model on the Hub; its files are fetched once, into the Hub's cache.

    name: user/name, or user/name@REVISION (a branch, tag or commit). Only the files of a model
    folder are fetched. Raises `UserError`, one line: for a name of another form, without the
    package how to install it, without a network the address and where the files are looked for.
    """
    repository, revision = _checked(name)
    hub = _load_package(name)
    names = [*_FILES, *(f"{PEOPLE_FOLDER}/{file}" for file in _FILES)]
    try:
        return Path(
            hub.snapshot_download(repo_id=repository, revision=revision, allow_patterns=names)
        )
    except Exception as error:  # of the package, of whatever it uses for the network, of the disk
        raise UserError(
            f"{name}: cannot be fetched ({_reason(error)}); fetch the files of "
            f"{_address(hub, repository)} by other means into a folder and give the folder "
            f"(looked for in {_cache(hub)} too)"
        ) from error


def push_folder(folder: str | Path, name: str) -> str:
    """Upload a model folder, the files that SHA256SUMS names alone; return its address.

    name: user/name; made where it is absent. The Hub's own login is used (`hf auth login`).
    """
    repository = check_push_name(name)
    hub = _load_package(name)
    folder = Path(folder)
    try:
        hub.create_repo(repo_id=repository, exist_ok=True)
        hub.upload_folder(
            repo_id=repository,
            folder_path=str(folder),
            allow_patterns=[*read_sums(folder), MODEL_SUMS],
            commit_message="Upload the model",
        )
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{name}: cannot be uploaded ({_reason(error)}); {folder} is complete: log in (hf auth "
            f"login) and give the command again, or upload it to {_address(hub, repository)}"
        ) from error
    return _address(hub, repository)


def check_push_name(name: str) -> str:
    """Return a name that can be uploaded to; `UserError` for one of another form."""
    repository, revision = _checked(name)
    if revision is not None:
        raise UserError(f"{shown(name)}: names a revision, user/name is required")
    return repository


def _checked(name: str) -> tuple[str, str | None]:
    match = _NAME.fullmatch(name)
    if match is None or not is_repository_name(name):
        raise UserError(
            f"{shown(name)}: no name on the Hub; user/name is required, of letters, digits, '-', "
            "'_' and '.', at most 96 each (and @REVISION)"
        )
    return match[1], match[2]


def _load_package(name: str) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(f"{shown(name)}: the Hub needs a package: {HOW_TO_INSTALL}") from error
    return huggingface_hub


def _address(hub: Any, repository: str) -> str:
    return f"{str(hub.constants.ENDPOINT).rstrip('/')}/{repository}"


def _cache(hub: Any) -> str:
    return str(hub.constants.HF_HUB_CACHE)


def _reason(error: BaseException) -> str:
    words = str(error).strip().split("\n")[0] or type(error).__name__
    return shown(words.rstrip("."), 200)
