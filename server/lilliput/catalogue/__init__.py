"""Names, families, variants and files: what models exist, what is installed here, and what was found out before.

Owns the grammar of model names, the table of known families and the database in the data directory.
It knows nothing of the Hub, of memory, or of running engines, and downloads nothing.
"""

from lilliput.catalogue.families import Families, Family, FamilySize
from lilliput.catalogue.lock import DataDirectoryLock
from lilliput.catalogue.names import FamilyName, HubName, ModelName, PathName, parse_name
from lilliput.catalogue.records import InstalledFile, InstalledModel, Source
from lilliput.catalogue.store import Store, StoredJob

__all__ = [
    "DataDirectoryLock",
    "Families",
    "Family",
    "FamilyName",
    "FamilySize",
    "HubName",
    "InstalledFile",
    "InstalledModel",
    "ModelName",
    "PathName",
    "Source",
    "Store",
    "StoredJob",
    "parse_name",
]
