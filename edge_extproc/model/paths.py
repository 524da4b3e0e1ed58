"""Paths of APIs that we pass on and do not translate."""

# Their body names a model (moderations: it may), and the provider keeps nothing that another caller could fetch.
BY_MODEL = (
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/images/edits",
    "/v1/images/generations",
    "/v1/images/variations",
    "/v1/moderations",
    "/v1/rerank",
    "/v2/rerank",
)
