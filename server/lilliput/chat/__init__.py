"""Messages to prompt text: a model's own Jinja chat template in a sandbox, and the repairs real templates need.

Pure: text and values in, text out. Knows nothing of HTTP, tokens, engines or where a template came from.
"""

from lilliput.chat.template import ChatTemplate

__all__ = ["ChatTemplate"]
