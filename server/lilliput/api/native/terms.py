"""What pulls and loads may ask of how a model is loaded, in the words of a plan."""

from __future__ import annotations

from pydantic import Field

from lilliput.api.bodies import Body, Natural, Positive
from lilliput.pool import OPEN_TERMS, Terms


class TermsBody(Body):
    """The fields that pulls and loads share."""

    context: Positive | None = Field(None, description="tokens of context that must fit, and are loaded from then on")
    use_case: str | None = Field(
        None, description="what it is wanted for: decides what is good enough, and the context"
    )
    slots: Positive | None = Field(None, description="sequences at the same time")
    kv: str | None = Field(None, description="type of the KV cache")
    gpu_layers: Natural | None = Field(None, description="layers on accelerators")
    force: bool | None = Field(None, description="even what does not fit, now and from then on")

    @property
    def terms(self) -> Terms:
        """What is asked, none of it where nothing is."""
        return Terms(
            context_tokens=self.context,
            use_case=self.use_case,
            slots=self.slots,
            kv_type=self.kv,
            gpu_layers=self.gpu_layers,
            forced=bool(self.force),
        )

    @property
    def asked(self) -> Terms | None:
        """The same, None where nothing is asked."""
        return None if self.terms == OPEN_TERMS else self.terms
