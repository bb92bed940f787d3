"""On what terms a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lilliput.llama import Rope

NO_DRAFT = "none"
"""In place of the name of a draft model: without one."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked of a model's loads; None leaves the choice to the plan, and what is given is never changed.

    ``use_case`` by name: its floor applies unless the variant was ``named``, that is asked for itself. ``forced``: even
    if it does not fit. ``draft`` names an installed model that drafts for it, or is ``NO_DRAFT``.
    """

    context_tokens: int | None = None
    use_case: str | None = None
    slots: int | None = None
    kv_type: str | None = None
    gpu_layers: int | None = None
    named: bool = False
    forced: bool = False
    rope: Rope | None = None
    draft: str | None = None

    @property
    def binding(self) -> bool:
        """Whether they ask for anything but force."""
        how = (self.slots, self.kv_type, self.gpu_layers, self.rope, self.draft)
        return any(value is not None for value in (self.context_tokens, self.use_case, *how))

    def after(self, asked: Terms) -> Terms:
        """These terms once others were asked for: binding ones take their place, force alone is added."""
        return asked if asked.binding else replace(self, forced=self.forced or asked.forced)

    def satisfied_by(self, loaded: Terms) -> bool:
        """Whether what was ``loaded`` on other terms will do: once it is loaded, force makes no difference."""
        return not self.binding or replace(self, forced=loaded.forced) == loaded


OPEN_TERMS = Terms()
"""Nothing is asked."""
