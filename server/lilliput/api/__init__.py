"""HTTP only: routes, dialects, error shapes, streaming, and the guard at the door.

Dialects translate requests into the services' values and events back into bytes; they never generate, plan or store,
and know nothing of each other. Nothing outside this room imports fastapi or starlette.
"""

from lilliput.api.app import ApiOptions, create_app, warm_up
from lilliput.api.services import Services

__all__ = ["ApiOptions", "Services", "create_app", "warm_up"]
