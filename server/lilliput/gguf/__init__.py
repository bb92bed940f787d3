"""What a GGUF file says: bounded header reader, tensor types and sizes, file-name grammar, variants and their shards.

Knows bytes and names only: nothing of the network, of llama.cpp, of what is installed, or of what fits.
"""

from lilliput.gguf.filenames import FileName, Role, normalize_quantization, parse_filename
from lilliput.gguf.header import Header, MetadataValue, Skipped, Tensor
from lilliput.gguf.reader import HeaderLimits, read_header
from lilliput.gguf.source import ByteSource, BytesSource, FileSource
from lilliput.gguf.stand_in import stand_in_bytes, write_stand_in
from lilliput.gguf.types import FILE_TYPES, GGML_TYPES, GgmlType, file_type_label
from lilliput.gguf.variants import Variant, group_variants
from lilliput.gguf.vocabulary import Vocabulary, read_vocabulary
from lilliput.gguf.writer import place_tensors

__all__ = [
    "FILE_TYPES",
    "GGML_TYPES",
    "ByteSource",
    "BytesSource",
    "FileName",
    "FileSource",
    "GgmlType",
    "Header",
    "HeaderLimits",
    "MetadataValue",
    "Role",
    "Skipped",
    "Tensor",
    "Variant",
    "Vocabulary",
    "file_type_label",
    "group_variants",
    "normalize_quantization",
    "parse_filename",
    "place_tensors",
    "read_header",
    "read_vocabulary",
    "stand_in_bytes",
    "write_stand_in",
]
