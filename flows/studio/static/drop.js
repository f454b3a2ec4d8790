// A picture from outside to search by: dropped on the page, pasted, or chosen. It is made small here, so
// that no more than some tens of kilobytes are sent; CLIP sees 224 pixels of it anyway.

const SIDE = 640;

async function smaller(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "white"; // as decoding flattens alpha
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}

/** Call `dropped(id)` with what to search by, or `trouble(sentence)`. */
export function watchDrops({ field, dropped, trouble }) {
  async function take(file) {
    trouble("");
    let picture;
    try {
      picture = await smaller(file);
    } catch {
      trouble(`${file.name || "That"} is not a picture that this browser can read.`);
      return;
    }
    try {
      const answer = await fetch("/api/search/picture", {
        method: "POST",
        headers: { "content-type": "image/jpeg", "x-cratedig-studio": "1" },
        body: picture,
      });
      const body = await answer.json();
      if (answer.ok) dropped(body.like);
      else trouble(body.detail);
    } catch {
      trouble("The studio does not answer.");
    }
  }

  const fileOf = (transfer) => [...(transfer?.files ?? [])][0];
  field.addEventListener("change", () => field.files[0] && take(field.files[0]));
  addEventListener("paste", (event) => fileOf(event.clipboardData) && take(fileOf(event.clipboardData)));
  addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && document.body.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!fileOf(event.dataTransfer)) return;
    event.preventDefault();
    take(fileOf(event.dataTransfer));
  });
}
