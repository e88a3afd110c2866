"""The description of `/v1` (OpenAPI 3.1), as a document and as a page."""
