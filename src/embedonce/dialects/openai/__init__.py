"""The OpenAI / OpenRouter dialect: `/v1/embeddings` and `/api/v1/embeddings`."""
