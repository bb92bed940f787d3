"""Names, families, variants and files: what models exist, what is installed here, and what was found out before.

Owns the grammar of model names, the table of known families and the database in the data directory.
It knows nothing of the Hub, of memory, or of running engines, and downloads nothing.
"""

from lilliput.catalogue.lock import DataDirectoryLock
from lilliput.catalogue.records import InstalledFile, InstalledModel, Source
from lilliput.catalogue.store import Store, StoredJob

__all__ = ["DataDirectoryLock", "InstalledFile", "InstalledModel", "Source", "Store", "StoredJob"]
