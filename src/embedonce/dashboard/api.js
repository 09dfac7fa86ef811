/** The gateway's own API. The key lives in this module's memory and nowhere else. */

let key = null;

export const setKey = (value) => {
  key = value;
};

/** What can be sent as a header at all. */
export const wellFormed = (value) => /^[\x21-\x7e]+$/.test(value);

/** `status` 0: no answer came. `retryAfter` in seconds or null; `jobs`: ids under which the work goes on. */
export class ApiError extends Error {
  constructor(message, status, headers = null) {
    super(message);
    this.status = status;
    const wait = Number(headers?.get("Retry-After") ?? NaN);
    this.retryAfter = Number.isFinite(wait) ? wait : null;
    this.jobs = (headers?.get("X-Embedonce-Request") ?? "").split(",").map((id) => id.trim()).filter(Boolean);
  }
}

/** The text of an error in any of the gateway's dialects, or of API Gateway's own. */
export function errorText(body) {
  const error = body?.error;
  const text = typeof error === "string" ? error : (error?.message ?? body?.message);
  return typeof text === "string" && text ? text : null;
}

async function parsed(answer) {
  try {
    return await answer.json();
  } catch {
    return null;
  }
}

/** @returns {Promise<{status: number, body: any, headers: Headers}>} whatever the status */
export async function ask(path, { method = "GET", body, signal } = {}) {
  const headers = { Authorization: `Bearer ${key}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    // The mode stays "cors": in "same-origin", with the policy no-referrer, a POST carries `Origin: null` and is
    // refused. So does the cache mode: "no-store" sends `Cache-Control: no-cache`, which asks for a purchase.
    answer = await fetch(new URL(path, document.baseURI), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      credentials: "omit",
      redirect: "error",
    });
  } catch (failure) {
    if (signal?.aborted) throw failure;
    throw new ApiError("The server cannot be reached.", 0);
  }
  return { status: answer.status, body: await parsed(answer), headers: answer.headers };
}

/** The same, but an answer that is no success is thrown. @throws {ApiError} */
export async function get(path, options) {
  const answer = await ask(path, options);
  if (answer.status >= 200 && answer.status < 300 && answer.body !== null) return answer;
  const text = errorText(answer.body) ?? `The server answered with HTTP ${answer.status}.`;
  throw new ApiError(text, answer.status, answer.headers);
}
