"""From a source to its results: cut, embed chunk by chunk, assemble, publish."""
