"""The Hugging Face Hub: repositories with exact sizes, headers by range, resumable and verified downloads.

Owns the Hub's protocol and the layout of the Hugging Face cache. Knows nothing of model names, variants, memory or
jobs: it is given a repository id and a path, and says what is there, or brings it.
"""

from lilliput.hub.cache import path_in_repository
from lilliput.hub.greeting import HubAnswer
from lilliput.hub.hub import Hub
from lilliput.hub.leftovers import CacheEntry
from lilliput.hub.patience import OnWait, Patience
from lilliput.hub.records import DownloadProgress, Phase, RemoteFile, Repository
from lilliput.hub.threads import detached
from lilliput.hub.transfer import OnProgress

__all__ = [
    "CacheEntry",
    "DownloadProgress",
    "Hub",
    "HubAnswer",
    "OnProgress",
    "OnWait",
    "Patience",
    "Phase",
    "RemoteFile",
    "Repository",
    "detached",
    "path_in_repository",
]
