"""The bodies of requests for embeddings and rankings, and their translation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, PlainValidator, WithJsonSchema

from lilliput.api.bodies import Body, Positive
from lilliput.api.openai.completion_body import Prompt
from lilliput.errors import InvalidRequest
from lilliput.services.embed import EmbeddingRequest, RankRequest

MOST_INPUTS = 2048
"""As many as OpenAI's own service takes in one request."""


def _documents(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of texts, or of objects with 'text'")
    texts: list[str] = []
    for index, one in enumerate(value):
        text = one.get("text") if isinstance(one, dict) else one
        if not isinstance(text, str) or not text:
            raise ValueError(f"has no text at {index}: each must be a text that is not empty, or an object with 'text'")
        texts.append(text)
    return tuple(texts)


Documents = Annotated[
    tuple[str, ...],
    PlainValidator(_documents),
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_INPUTS,
            "items": {
                "anyOf": [
                    {"type": "string"},
                    {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
                ]
            },
        }
    ),
]


class EmbeddingBody(Body):
    """POST /v1/embeddings."""

    model: str = Field(min_length=1, description="name of an installed model")
    input: Prompt = Field(
        description=f"text or token ids; one, or a list of up to {MOST_INPUTS}. Token ids are taken as they are: no "
        "special tokens are added"
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="base64: little-endian 32-bit floats, which is smaller and exact"
    )
    dimensions: Positive | None = Field(
        None,
        description="cut each vector to so many elements and scale it to length 1 again; good only with models that "
        "were trained for it",
    )
    user: str | None = Field(None, description="accepted and not used")

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "all-minilm:l6-v2", "input": ["The cat sits.", "A kitten rests."]}}
    )

    def request(self) -> EmbeddingRequest:
        """The request in the services' terms; raises InvalidRequest."""
        _not_too_many(len(self.input), "input")
        empty = next((index for index, one in enumerate(self.input) if not one), None)
        if empty is not None:
            raise InvalidRequest(f"'input' has nothing at {empty}", hint="leave empty inputs out", param="input")
        return EmbeddingRequest(self.model, self.input, self.dimensions)


class RerankBody(Body):
    """POST /v1/rerank."""

    model: str = Field(min_length=1, description="name of an installed reranker")
    query: str = Field(min_length=1, description="what the documents are to be relevant to")
    documents: Documents = Field(description=f"up to {MOST_INPUTS} texts, or objects with `text`")
    top_n: Positive | None = Field(None, description="tell only so many of the most relevant")
    return_documents: bool | None = Field(None, description="repeat each document beside its score")

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "bge-reranker:v2-m3",
                "query": "What do cats do all day?",
                "documents": ["The cat sits in the sun.", "Revenue rose by 12 percent."],
            }
        }
    )

    def request(self) -> RankRequest:
        """The request in the services' terms; raises InvalidRequest."""
        _not_too_many(len(self.documents), "documents")
        return RankRequest(self.model, self.query, self.documents)


def _not_too_many(count: int, field: str) -> None:
    if count > MOST_INPUTS:
        raise InvalidRequest(
            f"{field!r} has {count} entries, at most {MOST_INPUTS} are possible",
            hint="send them in several requests",
            param=field,
        )
