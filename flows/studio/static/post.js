// A change that is asked of the studio.

import { sentence } from "./shell.js";

/**
 * Send `body` as JSON, with what else `fetch` takes; return what the studio answers. Throws an Error
 * with a sentence.
 */
export async function post(path, body, options = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      ...options,
      method: "POST",
      headers: { "content-type": "application/json", "x-cratedig-studio": "1" },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The studio does not answer.");
  }
  const said = await answer.json().catch(() => ({}));
  if (answer.ok) return said;
  const words = typeof said.detail === "string" ? said.detail : `The studio answered ${answer.status}`;
  throw new Error(sentence(words));
}
