"""A small server that speaks the Hugging Face Hub's protocol on loopback, for tests.

Two origins as on the real Hub (the Hub itself and a CDN that serves large files), files streamed from disk, and faults
on demand. Run it with ``python -m tests.support.hub --config FILE``, or from a test with ``HubServer``.
"""

from tests.support.hub.client import HubServer, LoggedRequest
from tests.support.hub.config import MEMBER_TOKEN, READER_TOKEN, RepositoryConfig

__all__ = ["MEMBER_TOKEN", "READER_TOKEN", "HubServer", "LoggedRequest", "RepositoryConfig"]
