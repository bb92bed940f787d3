"""What pulls and loads may ask of how a model is loaded, in the words of a plan."""

from __future__ import annotations

from pydantic import Field

from lilliput.api.bodies import Body, Natural, Positive
from lilliput.llama import Rope, RopeScaling
from lilliput.pool import OPEN_TERMS, Terms

ROPE_SCALING = (
    "how the context is stretched beyond what the model was trained for; none: not at all, whatever its length"
)
ROPE_FREQ_BASE = "base frequency of rope, in place of the file's"
ROPE_FREQ_SCALE = "one divided by how far the context is stretched; else so far as it is asked for"
YARN_ORIG_CTX = "tokens of context that YaRN stretches, in place of those that the model was trained for"


def rope_of(
    scaling: RopeScaling | None, freq_base: float | None, freq_scale: float | None, original_tokens: int | None
) -> Rope | None:
    """The settings that are asked for, None where none is."""
    rope = Rope(scaling, freq_base, freq_scale, original_tokens)
    return None if rope == Rope() else rope


class RopeBody(Body):
    """The fields about contexts longer than a model was trained for."""

    rope_scaling: RopeScaling | None = Field(None, description=ROPE_SCALING)
    rope_freq_base: float | None = Field(None, gt=0, description=ROPE_FREQ_BASE)
    rope_freq_scale: float | None = Field(None, gt=0, le=1, description=ROPE_FREQ_SCALE)
    yarn_orig_ctx: Positive | None = Field(None, description=YARN_ORIG_CTX)

    @property
    def rope(self) -> Rope | None:
        """What is asked of it."""
        return rope_of(self.rope_scaling, self.rope_freq_base, self.rope_freq_scale, self.yarn_orig_ctx)


class TermsBody(RopeBody):
    """The fields that pulls and loads share."""

    context: Positive | None = Field(None, description="tokens of context that must fit, and are loaded from then on")
    use_case: str | None = Field(
        None, description="what it is wanted for: decides what is good enough, and the context"
    )
    slots: Positive | None = Field(None, description="sequences at the same time")
    kv: str | None = Field(None, description="type of the KV cache")
    gpu_layers: Natural | None = Field(None, description="layers on accelerators")
    draft: str | None = Field(
        None,
        min_length=1,
        description="an installed, smaller model of the same vocabulary, which says ahead what this one is likely to "
        'say; "none": without one',
    )
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
            rope=self.rope,
            draft=self.draft,
            forced=bool(self.force),
        )

    @property
    def asked(self) -> Terms | None:
        """The same, None where nothing is asked."""
        return None if self.terms == OPEN_TERMS else self.terms
