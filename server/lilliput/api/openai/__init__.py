"""OpenAI's dialect: chat, completions, embeddings and models, as its official clients require them to the letter.

Translates only; knows the services through ``api.services`` and nothing of the other dialects.
"""

from lilliput.api.openai.embedding_routes import router as embedding_router
from lilliput.api.openai.routes import router

__all__ = ["embedding_router", "router"]
