// Labels are changed by forms; what was done, or why not, is said above them.

const done = document.getElementById("done");
const LISTS = ["prompts", "against", "synonyms"];
const saidKey = "cratedig.labels.said";

function bodyOf(form) {
  const body = Object.fromEntries(new FormData(form));
  for (const name of LISTS) {
    if (name in body) body[name] = body[name].split("\n").map((line) => line.trim()).filter(Boolean);
  }
  if ("description" in body) body.description = body.description.trim();
  return body;
}

function say(words, failed = false) {
  done.textContent = words.replaceAll("`", "");
  done.classList.toggle("no", failed);
}

async function send(form) {
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const answer = await fetch(`/api/labels/${form.dataset.do}`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-cratedig-studio": "1" },
      body: JSON.stringify(bodyOf(form)),
    });
    const said = await answer.json();
    if (!answer.ok) {
      const why = typeof said.detail === "string" ? said.detail : said.detail.map((each) => each.msg).join("; ");
      throw new Error(why);
    }
    sessionStorage.setItem(saidKey, said.said);
    location.reload();
  } catch (error) {
    say(error instanceof TypeError ? "The studio does not answer: nothing was changed." : error.message, true);
    button.disabled = false;
    done.scrollIntoView({ block: "center" });
  }
}

for (const form of document.querySelectorAll("form[data-do]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const { name, to } = Object.fromEntries(new FormData(form));
    if (form.dataset.do === "merge" && !confirm(`Make ${name} part of ${to}? Its answers move; the table keeps their history.`)) return;
    send(form);
  });
}

say(sessionStorage.getItem(saidKey) ?? "");
sessionStorage.removeItem(saidKey);
