"""Ollama's dialect, as far as it goes: pull, tags, delete, version.

Translates only; knows the services through ``api.services`` and nothing of the other dialects.
"""

from lilliput.api.ollama.routes import router

__all__ = ["router"]
