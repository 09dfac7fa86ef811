"""The Gemini dialect: `:embedContent` and `:batchEmbedContents` as the Gemini API and Vertex have them."""
