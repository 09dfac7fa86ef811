/** Embeddings as they travel: base64 of little-endian float32. */

/** @throws {Error} not whole float32 values */
export function fromBase64(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  if (bytes.length % 4) throw new Error("the embedding is not of float32 values");
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(i * 4, true));
}

export function cosine(a, b) {
  let dot = 0;
  let aa = 0;
  let bb = 0;
  for (let i = 0; i < a.length; i += 1) {
    dot += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return Math.min(1, Math.max(-1, dot / Math.sqrt(aa * bb)));
}

/** Every pair's cosine similarity. */
export function similarities(vectors) {
  const rows = vectors.map(() => new Array(vectors.length).fill(1));
  for (let i = 0; i < vectors.length; i += 1) {
    for (let j = 0; j < i; j += 1) rows[i][j] = rows[j][i] = cosine(vectors[i], vectors[j]);
  }
  return rows;
}
