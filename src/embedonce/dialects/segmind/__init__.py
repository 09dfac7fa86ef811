"""The Segmind dialect: `POST /v1/{model}`, answered at once."""
