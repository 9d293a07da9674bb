"""Weights from the Hugging Face hub: `hf:OWNER/REPO/FILE[@REVISION]` becomes a file in the hub's own cache.

Of a repository only the one file that is named is fetched, and it is read like any other file of weights
(`models.checkpoints`): nothing in it is run.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from models.registry import ModelError

PREFIX = "hf:"
"""What tells the name of a file on the hub from a path or the name of a network."""

_DEFAULT_REVISION = "main"

_COMMIT = re.compile("[0-9a-f]{40}")
_LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


class FetchError(ModelError):
    """The hub does not answer, or not now: trying again later may help."""


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubFile:
    """A file in a repository of the hub."""

    repository: str
    """`OWNER/REPO`."""
    file: str
    """Its path in the repository, with forward slashes."""
    revision: str = _DEFAULT_REVISION
    """A branch, a tag or a commit."""

    @classmethod
    def parse(cls, text: str) -> HubFile:
        """The file that `hf:OWNER/REPO/FILE[@REVISION]` names; FILE may lie in folders. The last `@` counts.

        Raises:
            ModelError: `text` is not of this form.
        """
        path, at, revision = text.removeprefix(PREFIX).rpartition("@")
        if not at:
            path, revision = revision, _DEFAULT_REVISION
        parts = path.split("/")
        # What is empty, or climbs out of its folder, would not name a file in the cache.
        unfit = any(part in ("", ".", "..") for part in (*parts, *revision.split("/"))) or "\\" in text
        if not text.startswith(PREFIX) or len(parts) < 3 or unfit:
            raise ModelError(
                f"'{text}' names no file on the hub; write {PREFIX}OWNER/REPO/FILE, or {PREFIX}OWNER/REPO/FILE@REVISION"
            )
        return cls("/".join(parts[:2]), "/".join(parts[2:]), revision)

    def __str__(self) -> str:
        """As it is written for `parse`, without a revision where that is the default."""
        revision = "" if self.revision == _DEFAULT_REVISION else f"@{self.revision}"
        return f"{PREFIX}{self.repository}/{self.file}{revision}"


def fetch(wanted: HubFile) -> Path:
    """The file `wanted` in the cache of huggingface_hub, fetched unless it is there.

    A branch or a tag is looked up each time, so that the newest file is used; where the hub does not answer or refuses,
    the one fetched before. A commit cannot change: once its file is fetched, no network is needed. The settings of
    huggingface_hub hold (HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE, ...), and it draws a progress bar on standard
    error where that is a terminal.

    Raises:
        ModelError: the file is not in the cache, and there is no such repository, revision or file, or no access to it.
        FetchError: it is not in the cache, and there is no network, or the hub has trouble.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    cached = _cached(wanted)
    if cached and _COMMIT.fullmatch(wanted.revision):
        return cached
    place = (wanted.repository, wanted.file)
    try:
        # Asked once here, as hf_hub_download asks six times and longer: minutes where nothing answers.
        get_hf_file_metadata(hf_hub_url(*place, revision=wanted.revision), timeout=constants.HF_HUB_ETAG_TIMEOUT)
        return Path(hf_hub_download(*place, revision=wanted.revision))
    except Exception as error:  # the HTTP client has errors of its own, and is another in each version
        # "Neither there nor in the cache" wraps why it is not there.
        wrapped = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
        reason = wrapped if isinstance(wrapped, Exception) else error
        if cached is None or isinstance(reason, (EntryNotFoundError, RevisionNotFoundError)):
            kind = FetchError if _may_pass(reason) else ModelError
            raise kind(f"{wanted}: {_explanation(reason, wanted)}") from error
        # Being offline was asked for, and is no news.
        level = logging.INFO if isinstance(reason, OfflineModeIsEnabled) else logging.WARNING
        _log.log(level, "%s: not looked up (%s); the file fetched before is used", wanted, _one_line(reason))
        return cached


def _cached(wanted: HubFile) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(wanted.repository, wanted.file, revision=wanted.revision)
    except HFValidationError as error:
        raise ModelError(
            f"{wanted}: '{wanted.repository}' cannot be a repository's name ({_one_line(error)})"
        ) from error
    return Path(path) if isinstance(path, str) else None


def _may_pass(error: Exception) -> bool:
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code == 429
    return not isinstance(error, (EntryNotFoundError, OfflineModeIsEnabled))


def _explanation(error: Exception, wanted: HubFile) -> str:
    """What is wrong, and what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"{constants.ENDPOINT}/{wanted.repository}"
    match error:
        case OfflineModeIsEnabled():
            return "it was never fetched, and HF_HUB_OFFLINE forbids to do so now; unset that"
        case GatedRepoError():  # which is a RepositoryNotFoundError, too
            return f"the repository is gated; accept its conditions at {page}, then {_LOGIN}"
        case RepositoryNotFoundError():
            return f"there is no such repository, or it is private; check the name, or {_LOGIN}"
        case RevisionNotFoundError():
            return f"the repository has no revision '{wanted.revision}'; see {page}/commits/{_DEFAULT_REVISION}"
        case EntryNotFoundError():
            return f"the repository has no file '{wanted.file}' there; see {page}/tree/{wanted.revision}"
        case HfHubHTTPError() if error.response is not None and error.response.status_code in (401, 403):
            return f"the hub refuses access (HTTP {error.response.status_code}); {_LOGIN} with the right to read it"
        case HfHubHTTPError() if error.response is not None:
            return f"the hub answers with HTTP {error.response.status_code}; try again later"
    return f"it cannot be fetched; check the network, HF_ENDPOINT and the disk ({_one_line(error)})"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
