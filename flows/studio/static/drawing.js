// Elements without innerHTML, and drawings without inline style: the policy allows neither.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: attributes, then children (nodes or words). */
export function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** Make an SVG element likewise. */
export function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** A button that says `words` and does `does`. */
export function button(words, does, attributes = {}) {
  const made = make("button", { type: "button", ...attributes }, words);
  made.addEventListener("click", does);
  return made;
}

/** Ask the studio; return its answer, or throw an Error with its sentence. */
export async function ask(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, {
      ...options,
      headers: { ...(options.headers ?? {}), "x-cratedig-studio": "1" },
    });
  } catch {
    throw new Error("The studio does not answer.");
  }
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  const said = Array.isArray(body.detail) ? body.detail.map((each) => each.msg).join("; ") : body.detail;
  throw new Error(said ?? `The studio answered ${answer.status}.`);
}

/** Send `body` as JSON. */
export function post(address, body) {
  return ask(address, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
}
