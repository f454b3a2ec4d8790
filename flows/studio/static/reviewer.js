// Who decides, and from which queue: what the Label pages tell the studio.

const field = document.getElementById("reviewer");
const nameKey = "cratedig.reviewer";

/** Return the reviewer's name as it was typed here once, or "". */
export function reviewer() {
  return (localStorage.getItem(nameKey) ?? "").trim();
}

/** Say of a picture what others have said about it: "me: yes, you: no (blind)". */
export function saidWords(said) {
  return said.map(({ who, answer, again }) => `${who}: ${answer}${again ? " (blind)" : ""}`).join(", ");
}

/** Return what stood when the question is whether that was right; undefined where nothing did. */
export function standingBefore(picture) {
  return picture.said?.findLast((each) => !each.again)?.answer;
}

/** Say how an answer to `picture`, from the queue `order`, is given. */
export function givenAs(picture, order) {
  if (picture.again) return "again";
  return picture.said?.length > 0 || order === "disputed" ? "settled" : "plain";
}

if (field) {
  field.value = reviewer();
  field.addEventListener("input", () => localStorage.setItem(nameKey, field.value));
}
document.getElementById("order")?.addEventListener("change", (event) => event.target.form.submit());
