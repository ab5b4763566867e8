"""What /openapi.json says of the routes beyond what FastAPI finds out: streams, keys, errors."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from tinyllm.serving.answers import ChatChunk, CompletionChunk
from tinyllm.serving.failures import ErrorBody


def streamed(chunk: type[BaseModel]) -> dict[str, Any]:
    """Describe an answer that comes as events where `stream` is true."""
    parts = [
        {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": f"#/components/schemas/{part.__name__}"},
        }
        for part in (chunk, ErrorBody)
    ]
    data = {"anyOf": [*parts, {"const": "[DONE]"}]}
    event = {"type": "object", "properties": {"data": data}, "required": ["data"]}
    return {
        "description": "The whole answer, or with `stream` its events: "
        "`data: ` and a chunk each, then `data: [DONE]`.",
        "content": {"text/event-stream": {"schema": event}},
    }


def describe_truthfully(routes: FastAPI) -> None:
    """Mend what FastAPI would say of these routes: they answer 400 where it says 422."""

    def describe() -> dict[str, Any]:
        if routes.openapi_schema is None:
            document = get_openapi(
                title=routes.title,
                version=routes.version,
                description=routes.description,
                routes=routes.routes,
            )
            for path in document["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            document["components"]["securitySchemes"] = {
                "key": {"type": "http", "scheme": "bearer"}
            }
            document["security"] = [{}, {"key": []}]
            schemas = document["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            where = "#/components/schemas/{model}"
            for chunk in (ChatChunk, CompletionChunk):
                described = chunk.model_json_schema(ref_template=where)
                schemas.update(described.pop("$defs", {}))
                schemas[chunk.__name__] = described
            routes.openapi_schema = document
        return routes.openapi_schema

    routes.openapi = describe  # type: ignore[method-assign]
