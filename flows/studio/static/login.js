// Trade the token for a session cookie.

const form = document.getElementById("login");
const said = document.getElementById("said");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  said.textContent = "";
  const token = new FormData(form).get("token");
  try {
    const answer = await fetch("/api/session", {
      method: "POST",
      headers: { "content-type": "application/json", "x-cratedig-studio": "1" },
      body: JSON.stringify({ token }),
    });
    if (answer.ok) location.assign("/");
    else said.textContent = (await answer.json()).detail;
  } catch {
    said.textContent = "The studio does not answer.";
  }
});
