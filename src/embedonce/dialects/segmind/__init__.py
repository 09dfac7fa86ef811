"""The Segmind dialect: `POST /v1/{model}`, answered at once, and `POST /v2/{model}`, submit and poll."""
