"""lilliput: a local model-serving daemon that knows what fits before it downloads."""

__version__ = "0.1.0"
